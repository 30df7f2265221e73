//! The manifest and the bill of materials.

use std::sync::LazyLock;

use cyclonedx_bom::prelude::*;
use noonmark_image::artifact::{MANIFEST, SBOM};
use noonmark_image::build;
use noonmark_image::deb::PackageId;
use noonmark_image::hash::Sha256Hex;
use noonmark_image::inputs::{Crate, Inputs, Provenance};
use noonmark_image::kernel::Kernel;
use noonmark_image::manifest::Manifest;
use proptest::prelude::*;

use crate::support::{empty_spec, kernel, program, with_inputs};

fn provenance() -> Provenance {
    let library = |name: &str, version: &str| Crate {
        name: name.into(),
        version: version.into(),
        license: Some("MIT/Apache-2.0".into()),
        sha256: Some(Sha256Hex::of(name.as_bytes())),
    };
    Provenance {
        spec: vec![("guest.toml".into(), String::new())],
        rustc: Some("rustc 1.95.0".into()),
        crates: vec![library("libc", "0.2.1"), library("serde", "1.0.1")],
    }
}

fn packaged_kernel() -> Kernel {
    Kernel {
        packages: vec![PackageId {
            package: "linux-image-6.1".into(),
            version: "6.1.1-1~deb12+1".into(),
            architecture: "amd64".into(),
            sha256: Sha256Hex::of(b"package"),
            size: 7,
        }],
        ..kernel()
    }
}

fn build(init: &[u8], provenance: &Provenance) -> build::Outputs {
    let (spec, kernel) = (empty_spec(), packaged_kernel());
    with_inputs(&spec, &kernel, &program(init), |inputs| {
        build::build(&Inputs {
            provenance,
            ..inputs
        })
        .expect("an image")
    })
}

fn manifest(outputs: &build::Outputs) -> Manifest {
    let bytes = outputs.artifact(MANIFEST).expect("a manifest");
    Manifest::parse(str::from_utf8(bytes).expect("text")).expect("a manifest")
}

#[test]
fn the_manifest_has_every_input_and_output_with_size_and_hash() {
    let outputs = build(b"init", &provenance());
    let manifest = manifest(&outputs);
    let lines: Vec<_> = manifest
        .inputs
        .iter()
        .map(|input| format!("{} {}", input.kind, input.name))
        .collect();
    assert_eq!(
        lines,
        [
            "spec guest.toml",
            "package linux-image-6.1:amd64",
            "kernel vmlinuz",
            "module ptp_kvm",
            "module virtio_console",
            "EFI stub linuxx64.efi.stub",
            "compiler rustc",
            "crate libc",
            "crate serde",
            "program /init",
        ]
    );
    for output in &manifest.outputs {
        let bytes = outputs.artifact(&output.name).expect("the artifact");
        assert_eq!(output.size, bytes.len() as u64);
        assert_eq!(output.sha256, Sha256Hex::of(bytes));
    }
    assert_eq!(manifest.outputs.len(), outputs.artifacts.len() - 2);
}

#[test]
fn a_manifest_reads_back_as_it_was_written() {
    let manifest = manifest(&build(b"init", &provenance()));
    let text = String::from_utf8(manifest.to_json()).expect("text");
    assert_eq!(Manifest::parse(&text).expect("a manifest"), manifest);
}

#[test]
fn two_builds_are_compared_by_what_went_in() {
    let one = manifest(&build(b"init", &provenance()));
    let mut other_provenance = provenance();
    other_provenance.crates[0].version = "0.2.2".into();
    let two = manifest(&build(b"INIT", &other_provenance));
    let comparison = one.compare(&two);
    let hash = |content: &[u8]| Sha256Hex::of(content);
    assert_eq!(
        comparison.inputs,
        [
            format!(
                "crate libc: 0.2.1, SHA-256 {0}; the other has 0.2.2, SHA-256 {0}",
                hash(b"libc")
            ),
            format!(
                "program /init: {2} bytes, SHA-256 {0}; the other has {2} bytes, SHA-256 {1}",
                hash(&program(b"init")),
                hash(&program(b"INIT")),
                program(b"init").len(),
            ),
        ]
    );
    let changed: Vec<_> = comparison
        .outputs
        .iter()
        .filter_map(|line| line.split(':').next())
        .collect();
    assert_eq!(changed, ["disk.img", "initrd.img", "noonmark.efi"]);
    assert_eq!(one.compare(&one), Default::default());
}

#[test]
fn what_is_no_manifest_is_refused() {
    assert!(Manifest::parse("{}").is_err());
    let text = String::from_utf8(manifest(&build(b"init", &provenance())).to_json());
    let newer = text.expect("text").replace("\"v\": 1", "\"v\": 2");
    let error = Manifest::parse(&newer).expect_err("a newer manifest");
    assert_eq!(error.to_string(), "a manifest of version 2; expected 1");
}

#[test]
fn cyclonedx_own_library_accepts_the_bill_of_materials() {
    let outputs = build(b"init", &provenance());
    let bytes = outputs.artifact(SBOM).expect("a bill of materials");
    let bom = Bom::parse_from_json_v1_5(bytes).expect("CycloneDX 1.5");
    let verdict = bom.validate_version(SpecVersion::V1_5);
    assert!(verdict.passed(), "{verdict:?}");
    let components = bom.components.expect("components").0;
    let urls: Vec<_> = components
        .iter()
        .filter_map(|component| component.purl.as_ref())
        .map(ToString::to_string)
        .collect();
    assert_eq!(
        urls,
        [
            "pkg:deb/debian/linux-image-6.1@6.1.1-1~deb12%2B1?arch=amd64",
            "pkg:cargo/libc@0.2.1",
            "pkg:cargo/serde@1.0.1",
        ]
    );
}

proptest! {
    #[test]
    fn no_text_makes_the_parser_panic(text in "\\PC{0,200}") {
        let _ = Manifest::parse(&text);
    }

    #[test]
    fn a_damaged_manifest_is_a_manifest_or_an_error(at in 0_usize..4000, byte in 32_u8..127) {
        let mut text = WRITTEN.clone();
        let at = at % text.len();
        text[at] = byte;
        let _ = Manifest::parse(&String::from_utf8_lossy(&text));
    }
}

/// A manifest, built once for all damages.
static WRITTEN: LazyLock<Vec<u8>> =
    LazyLock::new(|| manifest(&build(b"init", &provenance())).to_json());
