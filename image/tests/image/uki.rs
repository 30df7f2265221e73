//! The unified kernel image.

use noonmark_image::deb::Deb;
use noonmark_image::uki::{self, Sections, Stub};
use proptest::collection::vec;
use proptest::prelude::*;

use crate::support::{RELEASE, bzimage, bzimage_without_efi_stub, deb, stub_with_room};

fn parts<'a>(kernel: &'a [u8], initrd: &'a [u8]) -> Sections<'a> {
    Sections {
        os_release: "ID=noonmark\n",
        cmdline: "console=ttyS0 quiet",
        release: RELEASE,
        initrd,
        kernel,
    }
}

fn refused(stub: &[u8]) -> String {
    let kernel = bzimage();
    let error = uki::assemble(stub, &parts(&kernel, b"initrd")).expect_err("a bad stub");
    error.to_string()
}

#[test]
fn sections_follow_the_stubs_own_with_the_kernel_last() {
    let kernel = bzimage();
    let image = uki::assemble(&stub_with_room(5), &parts(&kernel, b"initrd")).expect("an image");
    let sections = uki::read_sections(&image, "image").expect("a PE file");
    let names: Vec<_> = sections.iter().map(|(name, _)| name.as_str()).collect();
    assert_eq!(
        names,
        [
            ".text", ".sbat", ".sdmagic", ".osrel", ".cmdline", ".uname", ".initrd", ".linux"
        ]
    );
    assert_eq!(sections[4].1, b"console=ttyS0 quiet");
}

#[test]
fn headers_say_where_sections_lie_in_file_and_memory() {
    let kernel = bzimage();
    let image = uki::assemble(&stub_with_room(5), &parts(&kernel, &[7; 0x1234])).expect("an image");
    let pe = goblin::pe::PE::parse(&image).expect("a PE file");
    let optional = pe.header.optional_header.expect("an optional header");
    let mut memory_end = 0;
    for section in &pe.sections {
        assert!(section.virtual_address.is_multiple_of(0x1000));
        assert!(section.pointer_to_raw_data.is_multiple_of(0x200));
        assert!(section.size_of_raw_data.is_multiple_of(0x200));
        assert!(
            section.virtual_address >= memory_end,
            "sections overlap in memory"
        );
        memory_end = section.virtual_address + section.virtual_size;
    }
    let image_size = optional.windows_fields.size_of_image;
    assert_eq!(image_size, memory_end.next_multiple_of(0x1000));
    let last = pe.sections.last().expect("a section");
    assert_eq!(last.virtual_size as usize, kernel.len());
    assert_eq!(
        image.len(),
        (last.pointer_to_raw_data + last.size_of_raw_data) as usize
    );
}

#[test]
fn a_stub_that_is_none_is_refused_with_the_reason() {
    assert!(refused(b"#!/bin/sh\n").starts_with("the EFI stub: no whole PE program: "));
    let good = stub_with_room(5);
    assert!(refused(&good[..good.len() - 600]).contains("the EFI stub"));
    let mut other = good.clone();
    let magic = other
        .windows(8)
        .position(|w| w == b".sdmagic")
        .expect("the section");
    other[magic..magic + 8].copy_from_slice(b".another");
    assert!(refused(&other).contains("it is none of systemd's"));
    let mut taken = good.clone();
    taken[magic..magic + 8].copy_from_slice(b".linux\0\0");
    assert!(refused(&taken).contains("it has a section .linux already"));
    assert!(refused(&stub_with_room(4)).contains("no room for more section headers"));
}

#[test]
fn a_kernel_that_firmware_can_not_start_is_refused() {
    let kernel = bzimage_without_efi_stub();
    let error = uki::assemble(&stub_with_room(5), &parts(&kernel, b"")).expect_err("no EFI stub");
    assert!(
        error
            .to_string()
            .starts_with("kernel 6.1.0-9-test has no EFI stub (CONFIG_EFI_STUB)")
    );
}

#[test]
fn the_stub_is_found_in_its_package_and_missed_in_another() {
    let path = "./usr/lib/systemd/boot/efi/linuxx64.efi.stub";
    let package = deb("systemd-boot-efi", &[(path, b"stub")]);
    let opened = Deb::open("systemd.deb", &package).expect("a package");
    assert_eq!(Stub::from_package(&opened).expect("a stub").bytes, b"stub");
    let package = deb("systemd", &[("./usr/bin/systemctl", b"")]);
    let opened = Deb::open("systemd.deb", &package).expect("a package");
    let error = Stub::from_package(&opened).expect_err("no stub");
    assert!(
        error
            .to_string()
            .starts_with("systemd has no usr/lib/systemd/boot/efi/")
    );
}

proptest! {
    #[test]
    fn what_is_put_in_reads_back(
        initrd in vec(any::<u8>(), 0..2000),
        cmdline in "[ -~]{0,100}",
        spare in 5_usize..12,
    ) {
        let kernel = bzimage();
        let parts = Sections { cmdline: &cmdline, ..parts(&kernel, &initrd) };
        let image = uki::assemble(&stub_with_room(spare), &parts).expect("an image");
        let sections = uki::read_sections(&image, "image").expect("a PE file");
        let found = |name: &str| sections.iter().find(|(n, _)| n == name).map(|(_, c)| *c);
        prop_assert_eq!(found(".initrd"), Some(initrd.as_slice()));
        prop_assert_eq!(found(".cmdline"), Some(cmdline.as_bytes()));
        prop_assert_eq!(found(".linux"), Some(kernel.as_slice()));
    }

    #[test]
    fn a_damaged_stub_is_refused_or_used_but_never_panics(
        at in 0_usize..0x1f0,
        damage in vec(any::<u8>(), 1..8),
    ) {
        let mut stub = stub_with_room(5);
        stub[at..at + damage.len()].copy_from_slice(&damage);
        let kernel = bzimage();
        let _ = uki::assemble(&stub, &parts(&kernel, b"initrd"));
    }
}
