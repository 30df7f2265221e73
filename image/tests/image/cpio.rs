//! The initrd's archive.

use noonmark_image::cpio::{self, CpioError, Entry, Kind, Tree};
use proptest::collection::{btree_map, vec};
use proptest::prelude::*;

#[test]
fn an_archive_has_the_bytes_that_the_kernels_documentation_asks_for() {
    let tree = Tree::from([
        ("dev/console".into(), Entry::character_device(5, 1, 0o600)),
        ("init".into(), Entry::file(b"hello".to_vec(), 0o755)),
    ]);
    let archive = cpio::write(&tree, 1_767_225_600).expect("an archive");
    // Fields: magic, inode, mode, uid, gid, links, mtime, size, dev, rdev, name length, checksum.
    let expected = concat!(
        "070701",
        "00000001",
        "000041ed",
        "00000000",
        "00000000",
        "00000002",
        "6955b900",
        "00000000",
        "00000000",
        "00000000",
        "00000000",
        "00000000",
        "00000004",
        "00000000",
        "dev\0\0\0",
        "070701",
        "00000002",
        "00002180",
        "00000000",
        "00000000",
        "00000001",
        "6955b900",
        "00000000",
        "00000000",
        "00000000",
        "00000005",
        "00000001",
        "0000000c",
        "00000000",
        "dev/console\0\0\0",
        "070701",
        "00000003",
        "000081ed",
        "00000000",
        "00000000",
        "00000001",
        "6955b900",
        "00000005",
        "00000000",
        "00000000",
        "00000000",
        "00000000",
        "00000005",
        "00000000",
        "init\0\0",
        "hello\0\0\0",
        "070701",
        "00000000",
        "00000000",
        "00000000",
        "00000000",
        "00000001",
        "00000000",
        "00000000",
        "00000000",
        "00000000",
        "00000000",
        "00000000",
        "0000000b",
        "00000000",
        "TRAILER!!!\0\0\0\0",
    );
    assert_eq!(
        String::from_utf8_lossy(&archive[..expected.len()]),
        expected
    );
    assert!(archive.len().is_multiple_of(512));
    assert!(archive[expected.len()..].iter().all(|byte| *byte == 0));
}

#[test]
fn a_folder_has_a_link_for_itself_and_each_folder_in_it() {
    let file = || Entry::file(Vec::new(), 0o644);
    let tree = Tree::from([
        ("a/b/x".into(), file()),
        ("a/c/y".into(), file()),
        ("a/z".into(), file()),
    ]);
    let archive = cpio::write(&tree, 0).expect("an archive");
    let links = &archive[6 + 4 * 8..][..8];
    assert_eq!(links, b"00000004");
}

#[test]
fn paths_that_lead_elsewhere_are_refused() {
    for path in ["", "/a", "a//b", "a/../b", "./a", "TRAILER!!!", "a\0b"] {
        let tree = Tree::from([(path.into(), Entry::file(Vec::new(), 0o644))]);
        assert_eq!(cpio::write(&tree, 0), Err(CpioError::Path(path.into())));
    }
}

#[test]
fn a_file_can_not_have_files_in_it() {
    let tree = Tree::from([
        ("a".into(), Entry::file(Vec::new(), 0o644)),
        ("a/b".into(), Entry::file(Vec::new(), 0o644)),
    ]);
    assert_eq!(
        cpio::write(&tree, 0),
        Err(CpioError::NoDirectory("a".into()))
    );
}

fn entry() -> impl Strategy<Value = Entry> {
    let kind = prop_oneof![
        vec(any::<u8>(), 0..40).prop_map(Kind::File),
        "[a-z/.]{1,20}".prop_map(Kind::Symlink),
        (any::<u32>(), any::<u32>())
            .prop_map(|(major, minor)| Kind::CharacterDevice { major, minor }),
    ];
    (kind, 0..=0o7777_u32, any::<u32>(), any::<u32>()).prop_map(|(kind, permissions, uid, gid)| {
        Entry {
            kind,
            permissions,
            uid,
            gid,
        }
    })
}

proptest! {
    #[test]
    fn what_is_written_reads_back(
        // Leaves have names that no folder has, so that none is in another's way.
        tree in btree_map("(d[a-c]/){0,3}f[a-z]{1,4}", entry(), 0..12),
        mtime_s in any::<u32>(),
    ) {
        let archive = cpio::write(&tree, mtime_s).expect("an archive");
        let mut found = cpio::read(&archive).expect("the same archive");
        found.retain(|_, entry| entry.kind != Kind::Directory);
        prop_assert_eq!(found, tree);
    }

    #[test]
    fn a_damaged_archive_is_an_error_or_another_tree(
        at in 0_usize..400,
        damage in vec(any::<u8>(), 1..4),
        len in 0_usize..1024,
    ) {
        let tree = Tree::from([
            ("a/b".into(), Entry::file(vec![1; 70], 0o644)),
            ("c".into(), Entry::directory(0o755)),
        ]);
        let mut archive = cpio::write(&tree, 0).expect("an archive");
        archive[at..at + damage.len()].copy_from_slice(&damage);
        archive.truncate(len);
        // Either is fine; only a panic is not.
        let _ = cpio::read(&archive);
    }
}
