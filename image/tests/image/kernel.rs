//! Kernels out of packages and files.

use std::fs;

use noonmark_image::bzimage::{BzImage, BzImageError};
use noonmark_image::deb::Deb;
use noonmark_image::kernel::{Kernel, KernelError};
use noonmark_image::modules::WantedModule;
use proptest::prelude::*;

use crate::support::{RELEASE, bzimage, bzimage_without_efi_stub, deb, kernel, module_needing};

fn wanted() -> Vec<WantedModule> {
    let wanted = |name: &str, required| WantedModule {
        name: name.into(),
        needed_by: "the clock".into(),
        key: None,
        required,
    };
    vec![
        wanted("ptp_kvm", true),
        wanted("virtio_pci", true),
        wanted("ptp_vmclock", false),
    ]
}

fn from_debs(debs: &[Vec<u8>]) -> Result<Kernel, KernelError> {
    let opened: Vec<_> = debs
        .iter()
        .map(|bytes| Deb::open("kernel.deb", bytes).expect("a package"))
        .collect();
    Kernel::from_packages(&opened, &wanted())
}

#[test]
fn one_package_with_all_is_read() {
    let module = module_needing("ptp_kvm", "");
    let folder = format!("./lib/modules/{RELEASE}");
    let package = deb(
        "linux-image-6.1",
        &[
            (&format!("./boot/vmlinuz-{RELEASE}"), &bzimage()),
            (&format!("{folder}/kernel/drivers/ptp/ptp_kvm.ko"), &module),
            (
                &format!("{folder}/modules.builtin"),
                b"kernel/virtio_pci.ko\n",
            ),
            ("./usr/share/doc/copyright", b"..."),
        ],
    );
    let kernel = from_debs(&[package]).expect("a kernel");
    assert_eq!(kernel.release, RELEASE);
    assert_eq!(kernel.image, bzimage());
    assert_eq!(kernel.resolution.load, ["ptp_kvm"]);
    assert_eq!(kernel.resolution.builtin, ["virtio_pci"]);
    assert_eq!(kernel.resolution.absent, ["ptp_vmclock"]);
    assert_eq!(kernel.packages[0].package, "linux-image-6.1");
    assert_eq!(kernel.packages[0].version, "6.1-1");
}

/// The packages of Linux 7 in Debian, without the one that has `modules.builtin`.
fn split_packages() -> Vec<Vec<u8>> {
    let folder = format!("./usr/lib/modules/{RELEASE}");
    let module = module_needing("ptp_kvm", "");
    vec![
        deb(
            "linux-binary",
            &[(&format!("{folder}/vmlinuz"), &bzimage())],
        ),
        deb(
            "linux-modules",
            &[(&format!("{folder}/kernel/ptp_kvm.ko"), &module)],
        ),
    ]
}

#[test]
fn image_modules_and_lists_may_be_in_packages_of_their_own() {
    let mut packages = split_packages();
    let list = format!("./usr/lib/modules/{RELEASE}/modules.builtin");
    packages.push(deb("linux-base", &[(&list, b"kernel/virtio_pci.ko\n")]));
    let kernel = from_debs(&packages).expect("a kernel");
    assert_eq!(kernel.resolution.load, ["ptp_kvm"]);
}

#[test]
fn packages_with_a_part_missing_say_which() {
    let message = |debs: &[Vec<u8>]| from_debs(debs).expect_err("a part is missing").to_string();
    let packages = split_packages();
    assert_eq!(
        message(&packages),
        "there is no lib/modules/6.1.0-9-test/modules.builtin in linux-binary, linux-modules, \
         which says what is built into the kernel; from Linux 7 on Debian has it in the package \
         linux-base-6.1.0-9-test"
    );
    assert_eq!(
        message(&packages[..1]),
        "the kernel image is 6.1.0-9-test, but there is no modules folder \
         lib/modules/6.1.0-9-test in linux-binary"
    );
    assert!(message(&packages[1..]).starts_with("0 kernel images"));
}

#[test]
fn files_of_the_host_do_as_well_as_packages() {
    let folder = tempfile::tempdir().expect("a folder");
    let modules = folder.path().join("modules");
    fs::create_dir_all(modules.join("kernel/ptp")).expect("a folder");
    fs::write(folder.path().join("bzImage"), bzimage()).expect("a file");
    fs::write(modules.join("modules.builtin"), "kernel/virtio_pci.ko\n").expect("a file");
    let module = module_needing("ptp_kvm", "");
    fs::write(modules.join("kernel/ptp/ptp-kvm.ko"), &module).expect("a file");
    let kernel = Kernel::from_files(&folder.path().join("bzImage"), &modules, &wanted());
    assert_eq!(kernel.expect("a kernel").modules[0].bytes, module);
}

#[test]
fn a_kernel_file_that_is_not_there_is_named_with_its_key() {
    let missing = std::path::Path::new("/no/such/bzImage");
    let error = Kernel::from_files(missing, missing, &[]).expect_err("no such file");
    assert_eq!(
        error.to_string(),
        "kernel.image: can't read /no/such/bzImage: No such file or directory (os error 2)"
    );
}

#[test]
fn what_is_kept_for_the_next_build_reads_back() {
    let archive = kernel().to_archive().expect("an archive");
    assert_eq!(
        Kernel::from_archive(&archive).expect("the same kernel"),
        kernel()
    );
}

#[test]
fn a_kernel_image_tells_release_and_efi_stub() {
    let image = bzimage();
    let parsed = BzImage::parse(&image).expect("a bzImage");
    assert_eq!((parsed.release, parsed.has_efi_stub), (RELEASE, true));
    let image = bzimage_without_efi_stub();
    assert!(!BzImage::parse(&image).expect("a bzImage").has_efi_stub);
}

#[test]
fn what_is_no_kernel_for_this_processor_is_refused() {
    assert_eq!(BzImage::parse(b"\x7fELF"), Err(BzImageError::NoHeader));
    let mut image = bzimage();
    image[0x236] = 0;
    assert_eq!(BzImage::parse(&image), Err(BzImageError::NotX86_64));
    let mut image = bzimage();
    image[0x500..].fill(0);
    assert_eq!(BzImage::parse(&image), Err(BzImageError::NoRelease));
}

#[test]
fn a_package_that_was_cut_off_is_refused() {
    let whole = deb("linux-image-6.1", &[("./boot/vmlinuz-6.1", &bzimage())]);
    for len in (0..whole.len() - 2).step_by(7) {
        let cut = &whole[..len];
        let outcome = Deb::open("kernel.deb", cut)
            .map_err(KernelError::from)
            .and_then(|deb| Kernel::from_packages(&[deb], &[]));
        let message = outcome.expect_err("a truncated package").to_string();
        assert!(
            message.contains("kernel.deb") || message.contains("linux-image"),
            "{message}"
        );
    }
}

proptest! {
    #[test]
    fn no_bytes_make_the_readers_panic(
        mut bytes in proptest::collection::vec(any::<u8>(), 0..2048),
        pretend in any::<bool>(),
    ) {
        if pretend && bytes.len() > 0x240 {
            bytes[..8].copy_from_slice(b"!<arch>\n");
            bytes[66..68].copy_from_slice(b"`\n");
            bytes[0x202..0x206].copy_from_slice(b"HdrS");
        }
        let _ = BzImage::parse(&bytes);
        let _ = Kernel::from_archive(&bytes);
        if let Ok(deb) = Deb::open("kernel.deb", &bytes) {
            let _ = Kernel::from_packages(&[deb], &[]);
        }
    }
}
