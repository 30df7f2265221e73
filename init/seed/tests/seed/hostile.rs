//! Seeds that are made to cost: whatever they ask for, the reader ends, by its bounds or by the limits that the
//! kernel keeps it to.

use std::io::Write as _;
use std::process::Output;
use std::sync::mpsc;
use std::thread;
use std::time::Duration;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use fatfs::FatType;
use flate2::Compression;
use flate2::write::GzEncoder;
use noonmark_contract::seed::instance::{CONTENT_MAX, Instance, SERVICES_MAX};
use noonmark_contract::seed::verdict::{Datasource, Verdict};

use crate::disks::{fat, seed, unpack};
use crate::{all, run};

const CONFIG_DRIVE: &[u8] = include_bytes!("images/config-2.gz");
const UDF: &[u8] = include_bytes!("images/mkudffs-2.01.gz");
const JOLIET: &[u8] = include_bytes!("images/genisoimage-joliet.gz");

/// Ten times the processor time that it may take: on a busy machine it waits as well.
const PATIENCE: Duration = Duration::from_secs(100);

/// What comes of a disk, after checking that the reader has ended.
fn ended(disk: Vec<u8>) -> Output {
    let (told, heard) = mpsc::channel();
    thread::spawn(move || told.send(run(&[("vda", &disk)])));
    heard.recv_timeout(PATIENCE).expect("the reader runs on")
}

/// What it takes from such a seed, if it has answered.
fn taken(disk: Vec<u8>) -> Instance {
    let output = ended(disk);
    assert!(output.status.success(), "no answer: {}", output.status);
    match Verdict::decode(&output.stdout)
        .expect("a whole verdict")
        .seed
    {
        Datasource::Found { documents, .. } => all(documents),
        other => panic!("no seed: {other:?}"),
    }
}

fn gzip(content: &[u8]) -> Vec<u8> {
    let mut encoder = GzEncoder::new(Vec::new(), Compression::best());
    encoder.write_all(content).expect("memory");
    encoder.finish().expect("memory")
}

#[test]
fn files_that_unpack_to_too_much_together_are_left_out_one_by_one() {
    let packed = STANDARD.encode(gzip(&vec![0; 3 << 20]));
    let mut text = String::from("#cloud-config\nhostname: a\nwrite_files:\n");
    for number in 0..200 {
        text += &format!("- {{path: /f{number}, encoding: gz+b64, content: {packed}}}\n");
    }
    let instance = taken(seed(text.as_bytes()));
    assert_eq!(instance.settings.hostname.unwrap().as_str(), "a");
    let [file] = instance.files.as_slice() else {
        panic!("{} files", instance.files.len());
    };
    assert_eq!(file.content.len(), 3 << 20);
    let told = format!("write_files[1]: more than 256 files, or {CONTENT_MAX} bytes");
    assert!(
        instance.refused[0].contains(&told),
        "{}",
        instance.refused[0]
    );
}

#[test]
fn a_bomb_in_a_bomb_is_no_longer_than_one() {
    let twice = gzip(&gzip(&vec![b' '; 64 << 20]));
    let instance = taken(seed(&twice));
    assert_eq!(instance.id.as_deref(), Some("i-1"));
    let mut message =
        String::from("MIME-Version: 1.0\nContent-Type: multipart/mixed; boundary=b\n");
    let bomb = STANDARD.encode(gzip(&vec![b' '; 64 << 20]));
    for _ in 0..8 {
        message += &format!(
            "\n--b\nContent-Type: application/gzip\nContent-Transfer-Encoding: base64\n\n{bomb}\n"
        );
    }
    message += "\n--b\nContent-Type: text/cloud-config\n\n#cloud-config\nhostname: a\n--b--\n";
    let instance = taken(seed(message.as_bytes()));
    assert_eq!(instance.settings.hostname.unwrap().as_str(), "a");
    assert_eq!(instance.refused.len(), 8, "{:?}", instance.refused);
}

#[test]
fn messages_of_nothing_but_parts_are_read_to_the_last_that_may_be() {
    let message = String::from("MIME-Version: 1.0\nContent-Type: multipart/mixed; boundary=b\n\n")
        + &"--b\n\n#cloud-config\n".repeat(50_000);
    let instance = taken(seed(message.as_bytes()));
    let told = &instance.refused[0];
    assert!(told.contains("more than 64 parts"), "{told}");
}

#[test]
fn documents_as_wide_and_as_deep_as_they_may_be_get_an_answer() {
    let wide: String = (0..9_000).map(|number| format!("k{number}: v\n")).collect();
    let merged: String = (0..80)
        .map(|number| format!("m{number}: {{<<: *a, k{number}: x}}\n"))
        .collect();
    let keys: String = (0..100).map(|number| format!("k{number}: v, ")).collect();
    for text in [
        format!("#cloud-config\nhostname: a\n{wide}"),
        format!("#cloud-config\nhostname: a\na: &a {{{keys}}}\n{merged}"),
        format!(
            "#cloud-config\nhostname: a\nx: {}{}\n",
            "[".repeat(30),
            "]".repeat(30)
        ),
        format!(
            "#cloud-config\nhostname: a\nx: \"{}\"\n",
            "\\u00e9".repeat(150_000)
        ),
    ] {
        let instance = taken(seed(text.as_bytes()));
        assert_eq!(instance.settings.hostname.unwrap().as_str(), "a");
    }
    // Deeper than the bound of the tree, and than a parser that calls itself could stand.
    for deep in [
        "[".repeat(500_000),
        "- ".repeat(500_000),
        "{a: ".repeat(250_000),
    ] {
        let instance = taken(seed(format!("#cloud-config\n{deep}").as_bytes()));
        assert_eq!(instance.id.as_deref(), Some("i-1"));
        assert!(instance.refused[0].starts_with("user-data"), "{instance:?}");
    }
}

#[test]
fn commands_beyond_those_that_may_be_are_left_out() {
    let commands = "- [/bin/a]\n".repeat(5_000);
    let text = format!("#cloud-config\nhostname: a\nruncmd:\n{commands}");
    let instance = taken(seed(text.as_bytes()));
    assert_eq!(instance.services.len(), SERVICES_MAX);
    assert_eq!(instance.settings.hostname.unwrap().as_str(), "a");
    assert!(instance.refused[0].contains("runcmd[64]: more than 64"));
}

/// Where on an ISO 9660 the records of a root folder's entries are, by that folder's own record.
fn records(disk: &[u8], root: usize) -> Vec<usize> {
    let begin = u32_at(disk, root + 2) * 2048;
    let mut records = Vec::new();
    let mut at = begin;
    while disk[at] != 0 && at < begin + 2048 {
        records.push(at);
        at += usize::from(disk[at]);
    }
    records
}

fn u32_at(bytes: &[u8], at: usize) -> usize {
    u32::from_le_bytes(bytes[at..at + 4].try_into().expect("four bytes")) as usize
}

/// Where an ISO 9660's descriptors have the record of the root folder.
const ROOTS: [usize; 2] = [16 * 2048 + 156, 17 * 2048 + 156];

#[test]
fn folders_that_contain_themselves_are_followed_no_further_than_the_path() {
    // Each folder of the drive is the root folder, so there is an openstack/openstack and so on.
    let mut iso = unpack(CONFIG_DRIVE);
    for root in ROOTS {
        let own = iso[root + 2..root + 18].to_vec();
        for record in records(&iso, root) {
            if iso[record + 25] & 2 != 0 {
                iso[record + 2..record + 18].copy_from_slice(&own);
            }
        }
    }
    let output = ended(iso);
    let told = String::from_utf8_lossy(&output.stdout);
    assert!(
        output.status.success() && told.contains("openstack/latest"),
        "{told}"
    );
    // The same on a UDF: the file entry of each folder is the root's.
    let mut udf = unpack(UDF);
    let mut folders = 0;
    let blocks = udf.len() / 512;
    let root = (0..blocks)
        .map(|block| block * 512)
        .find(|at| udf[*at..*at + 2] == [0, 1] && udf[*at + 4] != 0)
        .map(|at| udf[at + 404..at + 410].to_vec())
        .expect("a file set");
    for at in (0..udf.len() - 38).step_by(4) {
        let tag = &udf[at..at + 16];
        let others = tag[..4].iter().chain(&tag[5..]);
        let sum = others.fold(0_u8, |sum, byte| sum.wrapping_add(*byte));
        if tag[..2] == [1, 1] && tag[4] == sum && udf[at + 18] & 2 != 0 {
            udf[at + 24..at + 30].copy_from_slice(&root);
            folders += 1;
        }
    }
    assert!(folders > 1, "{folders} folders");
    let output = ended(udf);
    assert!(output.status.success(), "no answer: {}", output.status);
}

#[test]
fn files_of_a_hundred_megabytes_are_refused_by_their_size_on_discs_too() {
    let length = (100_u32 << 20).to_le_bytes();
    let mut iso = unpack(JOLIET);
    for root in ROOTS {
        for record in records(&iso, root) {
            if iso[record + 25] & 2 == 0 {
                iso[record + 10..record + 14].copy_from_slice(&length);
            }
        }
    }
    let refused = taken(iso).refused;
    assert!(
        refused
            .iter()
            .all(|why| why.contains("has 104857600 bytes"))
            && refused.len() == 2,
        "{refused:?}"
    );
    // Of UDF's file entries, those of files.
    let mut udf = unpack(UDF);
    for at in (0..udf.len()).step_by(512) {
        if matches!(udf[at..at + 2], [5 | 10, 1]) && udf[at + 27] == 5 {
            udf[at + 56..at + 60].copy_from_slice(&length);
        }
    }
    let output = ended(udf);
    assert!(output.status.success(), "no answer: {}", output.status);
}

/// A drive whose meta-data names thousands of files, each of them the last one of a long folder.
#[test]
fn a_drive_that_names_thousands_of_files_gets_an_answer_or_is_ended() {
    let item = "{\"path\": \"/a\", \"content_path\": \"none\"},".repeat(6000);
    let meta = format!(
        "{{\"uuid\": \"i\", \"files\": [{}]}}",
        item.trim_end_matches(',')
    );
    let mut disk = fat(FatType::Fat16, *b"CONFIG-2   ", &[]);
    {
        let mut volume = std::io::Cursor::new(&mut disk);
        let volume =
            fatfs::FileSystem::new(&mut volume, fatfs::FsOptions::new()).expect("a volume");
        let root = volume.root_dir();
        let folder = root.create_dir("openstack").expect("room");
        let latest = folder.create_dir("latest").expect("room");
        let mut file = latest.create_file("meta_data.json").expect("room");
        file.write_all(meta.as_bytes()).expect("room");
        for number in 0..200 {
            folder
                .create_file(&format!("a file with a long name {number}"))
                .expect("room");
        }
    }
    let output = ended(disk);
    assert!(output.stdout.is_empty() || output.status.success());
}
