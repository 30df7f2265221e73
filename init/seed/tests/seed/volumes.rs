//! File systems of every kind, read by name and path.

use std::io::{Cursor, Write as _};

use fatfs::{FatType, FileSystem, FsOptions};
use noonmark_seed::volume::{self, Volume, VolumeError};

use crate::disks::{fat, unpack};
use crate::refused;

const LINK: &[u8] = include_bytes!("images/genisoimage-link.gz");
const CONFIG_DRIVE: &[u8] = include_bytes!("images/config-2.gz");
const UDF: [&[u8]; 2] = [
    include_bytes!("images/mkudffs-1.02.gz"),
    include_bytes!("images/mkudffs-2.01.gz"),
];

const UDF_2_50: &[u8] = include_bytes!("images/mkudffs-2.50.gz");

/// More than the files here have.
const MAX: usize = 1 << 16;

/// A disk and what is on it.
struct Disk(Cursor<Vec<u8>>, Volume);

impl Disk {
    fn new(bytes: Vec<u8>) -> Self {
        let mut disk = Cursor::new(bytes);
        let volume = volume::probe(&mut disk).expect("a readable disk");
        Self(disk, volume.expect("a volume"))
    }

    fn read(&mut self, path: &str, max: usize) -> Result<Option<Vec<u8>>, VolumeError> {
        self.1.read(&mut self.0, path, max)
    }

    fn names(&mut self) -> Vec<String> {
        self.1.names(&mut self.0).expect("a root folder")
    }
}

#[test]
fn a_config_drives_files_are_found_in_their_folders() {
    let mut disk = Disk::new(unpack(CONFIG_DRIVE));
    assert!(disk.1.is_labelled("config-2"));
    let meta_data = disk.read("openstack/latest/meta_data.json", MAX);
    assert!(
        meta_data
            .unwrap()
            .unwrap()
            .starts_with(b"{\"uuid\": \"i-fixture\"")
    );
    for none in [
        "openstack",
        "openstack/latest",
        "openstack/latest/none",
        "openstack/latest/meta_data.json/x",
        "",
        "..",
    ] {
        assert!(matches!(disk.read(none, MAX), Ok(None)), "{none}");
    }
}

#[test]
fn a_udf_that_linux_wrote_is_read() {
    // 33 names, some after those of files that were removed.
    for packed in UDF {
        let mut disk = Disk::new(unpack(packed));
        assert!(disk.1.is_labelled("cidata"));
        for path in ["filler-20", "filler-39"] {
            let content = disk.read(path, MAX).expect("a whole file");
            assert_eq!(content.as_deref(), Some(&b"x\n"[..]), "{path}");
        }
        assert!(matches!(disk.read("filler-10", MAX), Ok(None)));
        let large = disk.read("large", MAX).expect("a whole file");
        assert_eq!(large, Some(vec![b'y'; 20_000]));
        let meta_data = disk.read("openstack/latest/meta_data.json", MAX);
        assert_eq!(meta_data.unwrap().as_deref(), Some(&b"{}\n"[..]));
        let problem = disk.read("large", 19_999).unwrap_err().to_string();
        assert!(problem.contains("large has 20000 bytes"), "{problem}");
    }
}

#[test]
fn a_udf_whose_partition_is_a_table_is_refused_by_its_name_once() {
    let problem = refused(&unpack(UDF_2_50));
    assert!(
        problem.starts_with("a UDF volume with a `*UDF Virtual Partition` is not read"),
        "{problem}"
    );
}

#[test]
fn rock_ridges_names_have_any_length_and_its_links_are_told() {
    let mut disk = Disk::new(unpack(LINK));
    let content = disk.read(&"n".repeat(240), MAX).expect("a whole file");
    assert!(content.unwrap().starts_with(b"instance-id: i-fixture"));
    let problem = disk.read("user-data", MAX).unwrap_err().to_string();
    assert!(problem.contains("symbolic link"), "{problem}");
}

#[test]
fn fats_names_have_any_length_and_no_case() {
    for kind in [FatType::Fat12, FatType::Fat16, FatType::Fat32] {
        let names = ["a", "thirteen-xyz1", "fourteen-wxyz1", &"n".repeat(255)];
        let files = names.map(|name| (name, name.as_bytes()));
        let mut disk = Disk::new(fat(kind, *b"CIDATA     ", &files));
        for name in names {
            for wanted in [name.to_owned(), name.to_ascii_uppercase()] {
                let content = disk.read(&wanted, MAX).expect("a whole file");
                assert_eq!(content.as_deref(), Some(name.as_bytes()), "{kind:?}");
            }
        }
        assert_eq!(disk.names(), names);
    }
}

#[test]
fn a_fats_file_of_many_clusters_is_read_to_its_last_byte() {
    for kind in [FatType::Fat12, FatType::Fat16, FatType::Fat32] {
        for length in [0, 1, 511, 512, 513, 40_000] {
            let content: Vec<u8> = (0..length).map(|byte| (byte % 251) as u8).collect();
            let files = [("before", &b"x"[..]), ("file", &content)];
            let mut disk = Disk::new(fat(kind, *b"CIDATA     ", &files));
            assert_eq!(disk.read("file", MAX).unwrap(), Some(content), "{kind:?}");
        }
    }
}

#[test]
fn a_fats_file_whose_clusters_lie_apart_is_read_in_order() {
    for kind in [FatType::Fat12, FatType::Fat16, FatType::Fat32] {
        let mut bytes = Cursor::new(fat(kind, *b"CIDATA     ", &[]));
        let system = FileSystem::new(&mut bytes, FsOptions::new()).expect("a volume");
        let root = system.root_dir();
        let mut files = ["one", "two"].map(|name| root.create_file(name).expect("a file"));
        let mut written = [Vec::new(), Vec::new()];
        for part in 0..30_u8 {
            let turn = usize::from(part % 7 > 4);
            files[turn].write_all(&[part; 512]).expect("room");
            written[turn].extend([part; 512]);
        }
        drop((files, root));
        system.unmount().expect("a whole volume");
        let mut disk = Disk::new(bytes.into_inner());
        for (name, content) in ["one", "two"].into_iter().zip(written) {
            assert_eq!(disk.read(name, MAX).unwrap(), Some(content), "{kind:?}");
        }
    }
}

#[test]
fn a_label_is_all_of_one_case() {
    for (label, is_seed) in [
        (*b"cidata     ", true),
        (*b"CIDATA\0\0\0\0\0", true),
        (*b"CiData     ", false),
        (*b"CIDATA2    ", false),
    ] {
        let disk = Disk::new(fat(FatType::Fat12, label, &[]));
        assert_eq!(disk.1.is_labelled("cidata"), is_seed, "{label:?}");
    }
}

#[test]
fn a_disk_is_what_was_made_of_it_last() {
    // mkfs.fat leaves an ISO's descriptors where they were.
    let mut disk = unpack(CONFIG_DRIVE);
    let boot = &fat(FatType::Fat12, *b"DATA       ", &[])[..16 * 2048];
    disk[..boot.len()].copy_from_slice(boot);
    assert!(Disk::new(disk).1.is_labelled("data"));
}

#[test]
fn what_is_on_a_seed_without_documents_is_told() {
    let disk = fat(
        FatType::Fat16,
        *b"CIDATA     ",
        &[("user-data.txt", b"x"), ("metadata", b"x")],
    );
    let problem = refused(&disk);
    assert!(
        problem.contains("in its root folder: user-data.txt, metadata"),
        "{problem}"
    );
}
