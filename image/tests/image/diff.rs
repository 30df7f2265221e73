//! How two outputs that should be the same are told apart.

use noonmark_image::artifact::DISK;
use noonmark_image::build;
use noonmark_image::diff::innermost;
use noonmark_image::inputs::Inputs;
use noonmark_image::spec::{LoadedFile, Spec};
use proptest::prelude::*;

use crate::support::{empty_spec, kernel, program, spec, with_inputs};

fn disk(spec: &Spec, init: &[u8], content: &[u8]) -> Vec<u8> {
    let files: Vec<_> = spec
        .files
        .iter()
        .map(|file| LoadedFile {
            spec: file.clone(),
            bytes: content.to_vec(),
        })
        .collect();
    let outputs = with_inputs(spec, &kernel(), &program(init), |inputs| {
        build::build(&Inputs {
            files: &files,
            ..inputs
        })
        .expect("an image")
    });
    outputs.artifact(DISK).expect("a disk").to_vec()
}

fn told(left: &[u8], right: &[u8]) -> Vec<String> {
    innermost(DISK, left, right)
        .iter()
        .map(ToString::to_string)
        .collect()
}

#[test]
fn one_byte_of_a_file_in_the_initrd_is_found() {
    let spec = spec("[[file]]\npath = \"/etc/motd\"\nsource = \"motd\"\n");
    let lines = told(
        &disk(&spec, b"init", b"one\ntwo\nthree\n"),
        &disk(&spec, b"init", b"one\ntwO\nthree\n"),
    );
    assert_eq!(
        lines,
        [
            "disk.img > partition 1 > EFI/BOOT/BOOTX64.EFI > section .initrd > unpacked > \
             /etc/motd: line 2 is `two` against `twO`"
        ]
    );
}

#[test]
fn a_programs_section_is_named() {
    let spec = empty_spec();
    let lines = told(
        &disk(&spec, b"\x00\x01", b""),
        &disk(&spec, b"\x00\x02", b""),
    );
    assert_eq!(
        lines,
        [
            "disk.img > partition 1 > EFI/BOOT/BOOTX64.EFI > section .initrd > unpacked > /init > \
             section .text: byte 1 is 0x01 against 0x02"
        ]
    );
}

#[test]
fn permissions_and_command_line_are_told_in_words() {
    let file = |mode: &str| {
        spec(&format!(
            "[[file]]\npath = \"/a\"\nsource = \"a\"\nmode = {mode}\n"
        ))
    };
    let lines = told(
        &disk(&file("0o644"), b"init", b""),
        &disk(&file("0o600"), b"init", b""),
    );
    assert!(lines[0].ends_with("/a is a file, 0o644, owner 0:0 against a file, 0o600, owner 0:0"));
    let cmdline = |words: &str| spec(&format!("[kernel]\ncmdline = \"{words}\"\n"));
    let lines = told(
        &disk(&cmdline("a"), b"init", b""),
        &disk(&cmdline("b"), b"init", b""),
    );
    assert!(
        lines[0].contains("section .cmdline: line 1 is `console=ttyS0"),
        "{lines:?}"
    );
}

#[test]
fn a_table_that_was_changed_alone_is_told_by_field() {
    let one = disk(&empty_spec(), b"init", b"");
    let mut two = one.clone();
    // A byte of the boot code, which no field of the table covers.
    two[3] = 1;
    assert_eq!(told(&one, &two), ["disk.img: byte 3 is 0x00 against 0x01"]);
}

#[test]
fn a_date_on_the_partition_is_told_by_entry() {
    let one = disk(&empty_spec(), b"init", b"");
    let mut two = one.clone();
    let entry = b"BOOTX64 EFI";
    let at = one
        .windows(11)
        .position(|window| window == entry)
        .expect("the entry");
    // The day of the last change.
    two[at + 24] += 1;
    assert_eq!(
        told(&one, &two),
        [
            "disk.img > partition 1: EFI/BOOT/BOOTX64.EFI is attributes 0x00, created \
             2026-01-01 00:00:00, modified 2026-01-01 00:00:00 against attributes 0x00, \
             created 2026-01-01 00:00:00, modified 2026-01-02 00:00:00"
        ]
    );
}

#[test]
fn equal_outputs_have_no_difference() {
    let one = disk(&empty_spec(), b"init", b"");
    assert_eq!(told(&one, &one), [""; 0]);
}

proptest! {
    #[test]
    fn any_two_files_that_differ_have_a_difference(
        left in proptest::collection::vec(any::<u8>(), 0..600),
        right in proptest::collection::vec(any::<u8>(), 0..600),
    ) {
        let found = innermost("file", &left, &right);
        prop_assert_eq!(found.is_empty(), left == right);
    }
}
