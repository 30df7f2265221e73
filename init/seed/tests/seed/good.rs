//! Seeds that are as they should be.

use fatfs::FatType;
use noonmark_contract::seed::verdict::Datasource;

use crate::disks::{fat, seed, unpack};
use crate::{found, verdict};

/// Checks what the fixtures have.
fn is_the_fixture(disk: &[u8], name: &str) {
    let instance = found(disk);
    assert_eq!(instance.id.as_deref(), Some("i-fixture"), "{name}");
    let hostname = instance.settings.hostname.map(String::from);
    assert_eq!(hostname.as_deref(), Some("sundial"), "{name}");
    let [file] = instance.files.as_slice() else {
        panic!("{name}: {:?}", instance.files);
    };
    assert_eq!(file.path.as_str(), "/etc/motd", "{name}");
    assert_eq!(file.content, b"noon\n", "{name}");
    assert_eq!(file.mode.get(), 0o640, "{name}");
}

#[test]
fn seeds_that_others_programs_made_are_read() {
    let images: [(&str, &[u8]); 12] = [
        (
            "genisoimage -J -r",
            include_bytes!("images/genisoimage-rock-joliet.gz"),
        ),
        (
            "genisoimage -J",
            include_bytes!("images/genisoimage-joliet.gz"),
        ),
        ("genisoimage", include_bytes!("images/genisoimage-plain.gz")),
        ("xorriso -r", include_bytes!("images/xorriso-rock.gz")),
        ("cloud-localds", include_bytes!("images/cloud-localds.gz")),
        (
            "cloud-localds -f vfat",
            include_bytes!("images/cloud-localds-vfat.gz"),
        ),
        (
            "genisoimage -iso-level 1",
            include_bytes!("images/genisoimage-level-1.gz"),
        ),
        (
            "genisoimage -udf -J",
            include_bytes!("images/genisoimage-udf.gz"),
        ),
        (
            "genisoimage, as nova calls it",
            include_bytes!("images/config-2.gz"),
        ),
        ("mkudffs 1.02", include_bytes!("images/mkudffs-1.02.gz")),
        ("mkudffs 2.01", include_bytes!("images/mkudffs-2.01.gz")),
        (
            "mkfs.fat -F 32, 1 MiB",
            include_bytes!("images/fat32-small.gz"),
        ),
    ];
    for (name, packed) in images {
        is_the_fixture(&unpack(packed), name);
    }
}

#[test]
fn every_kind_of_fat_is_read_with_its_label_in_either_case() {
    let user_data = b"#noonmark\nhostname = \"sundial\"\n";
    for kind in [FatType::Fat12, FatType::Fat16, FatType::Fat32] {
        for label in [*b"CIDATA     ", *b"cidata     "] {
            let disk = fat(kind, label, &[("user-data", user_data)]);
            let hostname = found(&disk).settings.hostname.expect("a name");
            assert_eq!(hostname.as_str(), "sundial", "{kind:?}");
        }
    }
}

#[test]
fn the_seed_is_found_among_other_disks() {
    let seed = seed(b"");
    let other = fat(FatType::Fat12, *b"DATA       ", &[]);
    let noise = vec![0xa5; 100_000];
    let verdict = verdict(&[
        ("sr0", &[]),
        ("vda", &noise),
        ("vdb", &other),
        ("vdc", &seed),
    ]);
    assert!(
        matches!(&verdict.seed, Datasource::Found { device, .. } if device == "vdc"),
        "{verdict:?}"
    );
}

#[test]
fn a_partition_of_the_seeds_own_disk_is_not_a_second_seed() {
    let seed = seed(b"");
    let verdict = verdict(&[("vda", &seed), ("vda1", &seed)]);
    assert!(
        matches!(verdict.seed, Datasource::Found { .. }),
        "{verdict:?}"
    );
}

#[test]
fn keys_that_are_not_honoured_are_told_by_name() {
    let instance = found(&seed(b"#cloud-config\npackages: [vim]\nhostname: a\n"));
    let told = "user-data line 2: packages: the guest has no package manager";
    assert_eq!(instance.ignored, [told]);
    let taken = [
        "meta-data line 1: instance-id",
        "user-data line 3: hostname",
    ];
    assert_eq!(instance.taken, taken);
}
