//! Two images that were really built, a byte apart.

use std::fs;
use std::path::Path;

use noonmark_image::artifact::DISK;
use noonmark_image::diff;
use noonmark_tests::{build_image, workspace_root};

/// Builds the checkout's image with one more file in it, and reads the disk.
fn disk_with(content: &[u8]) -> Vec<u8> {
    let folder = tempfile::tempdir().expect("a folder");
    let spec = spec_with(folder.path(), content);
    let out = folder.path().join("image");
    build_image(&out, &["--spec", &spec]).expect("an image");
    fs::read(out.join(DISK)).expect("a disk")
}

fn spec_with(folder: &Path, content: &[u8]) -> String {
    let mut text =
        fs::read_to_string(workspace_root().join("guest.toml")).expect("the checkout's guest.toml");
    text += "\n[[file]]\npath = \"/etc/motd\"\nsource = \"motd\"\n";
    let spec = folder.join("guest.toml");
    fs::write(&spec, text).expect("a writable folder");
    fs::write(folder.join("motd"), content).expect("a writable folder");
    let lock = "guest.lock";
    fs::copy(workspace_root().join(lock), folder.join(lock)).expect("the checkout's lock");
    spec.to_str().expect("a path in UTF-8").to_owned()
}

#[test]
fn a_byte_of_a_file_is_pinned_to_its_entry_in_the_initrd() {
    let (left, right) = (disk_with(b"right at noon\n"), disk_with(b"right at moon\n"));
    let told: Vec<String> = diff::innermost(DISK, &left, &right)
        .iter()
        .map(ToString::to_string)
        .collect();
    let way = "disk.img > partition 1 > EFI/BOOT/BOOTX64.EFI > section .initrd > unpacked";
    let what = "line 1 is `right at noon` against `right at moon`";
    assert_eq!(told, [format!("{way} > /etc/motd: {what}")]);
    assert_eq!(diff::innermost(DISK, &left, &left), []);
}
