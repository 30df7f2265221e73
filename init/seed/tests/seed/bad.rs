//! Seeds that are wrong, and worse. Each one is refused as a whole, in words that name the file.

use std::io::Write as _;

use fatfs::FatType;
use flate2::Compression;
use flate2::write::GzEncoder;
use noonmark_contract::seed::verdict::Datasource;
use proptest::prelude::*;

use crate::disks::{fat, seed, unpack};
use crate::{all, found, refused, run, verdict};

const ISO: &[u8] = include_bytes!("images/cloud-localds.gz");

/// Checks that of this user-data nothing is taken, why, and that meta-data counts all the same.
fn refused_with(user_data: &[u8], named: &str) {
    let instance = found(&seed(user_data));
    let [problem] = instance.refused.as_slice() else {
        panic!("{instance:?}");
    };
    assert!(
        problem.starts_with("user-data") && problem.contains(named),
        "{problem}"
    );
    assert_eq!(instance.id.as_deref(), Some("i-1"));
    let settings = instance.settings;
    let nothing = settings.hostname.is_none() && settings.network.is_none();
    assert!(nothing && instance.files.is_empty() && instance.services.is_empty());
}

#[test]
fn two_seeds_are_told_and_neither_is_taken() {
    let one = seed(b"#noonmark\nhostname = \"one\"\n");
    let two = unpack(ISO);
    let verdict = verdict(&[("vda", &one), ("vdb", &two)]);
    let Datasource::Refused { problem, .. } = verdict.seed else {
        panic!("{verdict:?}");
    };
    assert!(problem.contains("vda, vdb"), "{problem}");
}

#[test]
fn user_data_that_is_no_configuration_is_refused() {
    refused_with(b"#include\nhttp://192.0.2.1/\n", "nothing is fetched");
    let endless =
        b"## template: jinja\n#cloud-config\n{% for i in range(999999999) %}a: b\n{% endfor %}\n";
    refused_with(endless, "templates are not rendered");
    refused_with(b"#cloud-config\nhostname: \xff\xfe\n", "no UTF-8");
    refused_with(b"#cloud-config\na: [\n", "line");
    refused_with(b"#cloud-config\nhostname: a b\n", "hostname: `a b`");
    refused_with(b"#noonmark\ncolour = 1\n", "line 2: unknown field `colour`");
    let problem = refused(&fat(FatType::Fat12, *b"CIDATA     ", &[("readme", b"x")]));
    assert!(
        problem.contains("neither meta-data nor user-data"),
        "{problem}"
    );
}

#[test]
fn a_hundred_megabytes_of_user_data_are_refused_by_their_size() {
    let user_data = vec![b'#'; 100 << 20];
    let mut disk = fat(FatType::Fat12, *b"CIDATA     ", &[("user-data", b"x")]);
    // The folder's entry says how long the file is; nothing that long is read to find out.
    let entry = disk
        .windows(11)
        .position(|window| window == b"USER-D~1   " || window == b"USER-DATA  ")
        .expect("the folder's entry");
    let length = u32::try_from(user_data.len()).expect("it fits");
    disk[entry + 28..entry + 32].copy_from_slice(&length.to_le_bytes());
    let problem = found(&disk).refused.join("");
    assert!(
        problem.contains("user-data has 104857600 bytes"),
        "{problem}"
    );
}

#[test]
fn bombs_are_refused_by_what_they_unpack_to() {
    let mut yaml = String::from("#cloud-config\na0: &a0 [x, x, x, x, x, x, x, x, x, x]\n");
    for level in 1..9 {
        let below = format!("*a{}, ", level - 1).repeat(10);
        yaml += &format!("a{level}: &a{level} [{below}]\n");
    }
    refused_with(yaml.as_bytes(), "more than 20000 values");
    let mut encoder = GzEncoder::new(Vec::new(), Compression::best());
    encoder.write_all(&vec![b' '; 64 << 20]).expect("memory");
    refused_with(
        &encoder.finish().expect("memory"),
        "more than 1048576 bytes",
    );
}

#[test]
fn messages_within_messages_are_read_to_their_end_however_deep() {
    let mut message = String::new();
    for level in 0..5000 {
        let kind = format!("Content-Type: multipart/mixed; boundary=b{level}");
        message += &format!("MIME-Version: 1.0\n{kind}\n\n--b{level}\n");
    }
    message += "Content-Type: text/cloud-config\n\n#cloud-config\nhostname: x\n";
    let instance = found(&seed(message.as_bytes()));
    assert_eq!(instance.id.as_deref(), Some("i-1"));
    let hostname = instance.settings.hostname.map(String::from);
    assert_eq!(hostname.as_deref(), Some("x"));
}

#[test]
fn files_outside_a_seeds_reach_and_rights_that_it_may_not_give_are_refused() {
    let file =
        |path: &str| format!("#cloud-config\nhostname: a\nwrite_files: [{{path: {path}}}]\n");
    for path in [
        "/etc/../init",
        "init",
        "/proc/sysrq-trigger",
        "/noonmark.json",
    ] {
        refused_with(file(path).as_bytes(), "a seed may not write there");
    }
    let service = b"#noonmark\n[[service]]\nname = \"x\"\nexec = [\"/x\"]\ncapabilities = \
                    [\"CAP_SYS_TIME\"]\n";
    refused_with(service, "service x: a seed can't give capabilities");
    let sysctl = b"#noonmark\n[sysctl]\n\"kernel.core_pattern\" = \"|/x\"\n";
    refused_with(sysctl, "kernel.core_pattern");
}

#[test]
fn a_truncated_volume_is_refused_or_no_seed_and_never_half_read() {
    let content = [
        b"#cloud-config\nhostname: x\n# ".as_slice(),
        &[b'x'; 20_000],
    ]
    .concat();
    for whole in [seed(&content), unpack(ISO)] {
        for length in [100, 512, 3000, 10_000, 34_000, 60_000] {
            let cut = &whole[..length.min(whole.len() - 1)];
            let seed = verdict(&[("vda", cut)]).seed;
            let half = match &seed {
                Datasource::Found { documents, .. } => {
                    let instance = all(documents.clone());
                    let whole = instance.id.is_some() && instance.settings.hostname.is_some();
                    !whole && instance.refused.is_empty()
                }
                Datasource::Absent | Datasource::Refused { .. } => false,
            };
            assert!(!half, "{length}: {seed:?}");
        }
    }
}

#[test]
fn a_folder_and_a_file_that_run_in_a_circle_end() {
    // FAT32 keeps its root folder in a chain of clusters like any file's; make it end in itself.
    let mut disk = fat(FatType::Fat32, *b"CIDATA     ", &[]);
    let reserved = usize::from(u16::from_le_bytes([disk[14], disk[15]]));
    let root = reserved * 512 + 2 * 4;
    disk[root..root + 4].copy_from_slice(&2_u32.to_le_bytes());
    assert_ne!(verdict(&[("vda", &disk)]).seed, Datasource::Absent);
    // The root folder's record for itself names a parent that is itself, as every ISO's does; make
    // the folder's extent begin at the descriptor that it was found by.
    let mut iso = unpack(ISO);
    for descriptor in [16, 17] {
        let at = descriptor * 2048 + 158;
        iso[at..at + 4].copy_from_slice(&16_u32.to_le_bytes());
    }
    refused(&iso);
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(24))]

    // A disk may crash the reader, which is why it is a program of its own: then there is no
    // answer, and PID 1 goes on without a seed. What it must not do is to run on.
    #[test]
    fn a_damaged_disk_gets_an_answer_or_none(
        iso in any::<bool>(),
        damage in prop::collection::vec((0_usize..70_000, any::<u8>()), 1..40),
    ) {
        let mut disk = if iso {
            unpack(ISO)
        } else {
            seed(b"#cloud-config\nhostname: x\n")
        };
        for (at, byte) in damage {
            let place = at % disk.len();
            disk[place] = byte;
        }
        let output = run(&[("vda", &disk)]);
        prop_assert!(output.stdout.is_empty() || output.status.success());
    }
}
