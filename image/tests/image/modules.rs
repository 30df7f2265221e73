//! Which modules are loaded, and in which order.

use noonmark_image::compress::{self, Compression};
use noonmark_image::modules::{ModuleError, ModuleFiles, Resolution, WantedModule};

use crate::support::{RELEASE, module, module_needing};

fn wanted(name: &str, required: bool) -> WantedModule {
    WantedModule {
        name: name.into(),
        needed_by: "`modules.load`".into(),
        key: Some("modules.load".into()),
        required,
    }
}

/// Modules by name, and what each needs.
fn files(modules: &[(&str, &str)]) -> ModuleFiles {
    let mut files = ModuleFiles::default();
    files.add("modules.builtin", b"kernel/drivers/ptp/ptp.ko\n".to_vec());
    for (name, depends) in modules {
        let path = format!("kernel/drivers/{name}.ko");
        files.add(&path, module_needing(name, depends));
    }
    files
}

fn resolve(files: &ModuleFiles, names: &[&str]) -> Result<Resolution, ModuleError> {
    let wanted: Vec<_> = names.iter().map(|name| wanted(name, true)).collect();
    files.resolve(&wanted, RELEASE).map(|(found, _)| found)
}

#[test]
fn a_module_comes_after_all_that_it_needs_and_none_twice() {
    // As virtio_pci of Linux 6.1 needs them.
    let files = files(&[
        (
            "virtio_pci",
            "virtio_pci_legacy_dev,virtio_pci_modern_dev,virtio_ring,virtio",
        ),
        ("virtio_console", "virtio_ring,virtio"),
        ("virtio_ring", "virtio"),
        ("virtio", ""),
        ("virtio_pci_legacy_dev", ""),
        ("virtio_pci_modern_dev", "virtio_ring"),
    ]);
    let found = resolve(&files, &["virtio_pci", "virtio-console"]).expect("a resolution");
    assert_eq!(
        found.load,
        [
            "virtio_pci_legacy_dev",
            "virtio",
            "virtio_ring",
            "virtio_pci_modern_dev",
            "virtio_pci",
            "virtio_console",
        ]
    );
}

#[test]
fn what_is_built_in_is_not_loaded_and_satisfies_who_needs_it() {
    let files = files(&[("ptp_kvm", "ptp")]);
    let found = resolve(&files, &["ptp_kvm", "ptp"]).expect("a resolution");
    assert_eq!(
        (found.load, found.builtin),
        (vec!["ptp_kvm".into()], vec!["ptp".into()])
    );
}

#[test]
fn an_optional_module_may_be_absent_and_a_required_one_is_named() {
    let files = files(&[("ptp_kvm", "")]);
    let (found, _) = files
        .resolve(&[wanted("ptp_vmclock", false)], RELEASE)
        .expect("a resolution");
    assert_eq!(found.absent, ["ptp_vmclock"]);
    let error = resolve(&files, &["ptp_vmclock"]).expect_err("a missing module");
    assert_eq!(
        error.to_string(),
        "the kernel 6.1.0-9-test has no module `ptp_vmclock`, which `modules.load` needs; \
         take another kernel, or change `modules.load`"
    );
}

#[test]
fn a_missing_dependency_is_named_with_the_module_that_needs_it() {
    let error = resolve(&files(&[("a", "b"), ("b", "gone")]), &["a"]).expect_err("a gap");
    assert_eq!(
        error.to_string(),
        "the kernel 6.1.0-9-test has no module `gone`, which module `b` needs; take another \
         kernel, or change `modules.load`"
    );
}

#[test]
fn a_circle_is_told_with_all_that_are_in_it() {
    let error = resolve(&files(&[("a", "b"), ("b", "c"), ("c", "a")]), &["a"]);
    let circle = ["a", "b", "c", "a"].map(String::from).to_vec();
    assert_eq!(error, Err(ModuleError::Cycle(circle)));
}

#[test]
fn a_soft_dependency_comes_first_where_it_exists() {
    let mut files = files(&[("pre", ""), ("post", "")]);
    let vermagic = format!("vermagic={RELEASE} SMP");
    let fields = [
        vermagic.as_str(),
        "softdep=pre: pre crc32c post: post",
        "depends=",
    ];
    files.add("kernel/a.ko", module("a", &fields));
    assert_eq!(
        resolve(&files, &["a"]).expect("a resolution").load,
        ["pre", "a"]
    );
}

#[test]
fn a_compressed_module_is_unpacked_for_the_initrd() {
    let plain = module_needing("a", "");
    for (how, extension) in [
        (Compression::Xz, "xz"),
        (Compression::Gzip, "gz"),
        (Compression::Zstd, "zst"),
    ] {
        let mut files = files(&[]);
        let packed = compress::compress(&plain, how).expect("in memory");
        files.add(&format!("kernel/a.ko.{extension}"), packed);
        let (_, modules) = files
            .resolve(&[wanted("a", true)], RELEASE)
            .expect("a module");
        assert_eq!(modules[0].bytes, plain);
        assert_eq!(modules[0].file, "a.ko");
    }
}

#[test]
fn a_module_for_another_kernel_is_refused() {
    let mut files = files(&[]);
    files.add(
        "kernel/a.ko",
        module("a", &["vermagic=6.1.0-8-test SMP", "depends="]),
    );
    let error = resolve(&files, &["a"]).expect_err("another kernel's module");
    assert_eq!(
        error.to_string(),
        "module `kernel/a.ko` was built for kernel `6.1.0-8-test`, not for `6.1.0-9-test`; it \
         would be refused when loaded"
    );
}

#[test]
fn a_module_that_is_cut_off_anywhere_is_refused_by_name() {
    let whole = module_needing("a", "");
    for len in 0..whole.len() {
        let mut files = files(&[]);
        files.add("kernel/a.ko", whole[..len].to_vec());
        let error = resolve(&files, &["a"]).expect_err("a truncated module");
        let message = error.to_string();
        assert!(
            message.starts_with("module `kernel/a.ko` is damaged: "),
            "{len}: {message}"
        );
    }
}
