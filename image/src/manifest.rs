//! `manifest.json`: every input and every output of a build, with size and hash.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;

use serde::{Deserialize, Serialize};
use thiserror::Error;

use crate::artifact::Artifact;
use crate::cpio::Kind;
use crate::hash::Sha256Hex;
use crate::inputs::Inputs;
use crate::modules::Resolution;
use crate::{cmdline, json};

/// The version of the format.
const VERSION: u32 = 1;

/// The manifest.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Manifest {
    /// Version of the format: 1.
    pub v: u32,
    /// The image's name.
    pub name: String,
    /// Whether it is a test image, which has the fault program.
    pub test: bool,
    /// The date in every file system and archive, in seconds since 1970.
    pub source_date_s: u32,
    /// The kernel command line.
    pub cmdline: String,
    /// The kernel's release.
    pub kernel: String,
    /// The modules that are loaded, built in, and not there.
    pub modules: Resolution,
    /// Everything that went in, sorted.
    pub inputs: Vec<Input>,
    /// Everything that came out, beside this file and the bill of materials.
    pub outputs: Vec<Output>,
}

/// Something that went in.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Input {
    /// What it is.
    pub kind: InputKind,
    /// Its name: of the package, the crate, or its path in the guest.
    pub name: String,
    /// Its version, where it has one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub version: Option<String>,
    /// Its size in bytes, where it was read.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub size: Option<u64>,
    /// Its SHA-256, where it is known.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub sha256: Option<Sha256Hex>,
}

/// What an input is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum InputKind {
    /// `guest.toml`.
    Spec,
    /// A distribution's package.
    Package,
    /// The bzImage.
    Kernel,
    /// A kernel module, unpacked.
    Module,
    /// The EFI stub.
    Stub,
    /// The compiler of the guest's programs.
    Compiler,
    /// A crate of the guest's programs.
    Crate,
    /// A program of noonmark's own.
    Program,
    /// A `[[file]]`, or one of a `[[tree]]`.
    File,
    /// A symbolic link; its size and hash are its target's.
    Link,
    /// A folder of the spec's own.
    Dir,
}

/// Something that came out.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Output {
    /// Its file name.
    pub name: String,
    /// Its size in bytes.
    pub size: u64,
    /// Its SHA-256.
    pub sha256: Sha256Hex,
}

/// A text that is no manifest.
#[derive(Debug, Error)]
pub enum ManifestError {
    /// It is broken.
    #[error("no manifest of noonmark: {0}")]
    Json(#[from] serde_json::Error),
    /// It is of another version.
    #[error("a manifest of version {0}; expected {VERSION}")]
    Version(u32),
}

/// How two builds differ.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Comparison {
    /// Inputs that differ, a line each.
    pub inputs: Vec<String>,
    /// Outputs that differ, a line each.
    pub outputs: Vec<String>,
}

impl Manifest {
    /// The manifest of a build.
    #[must_use]
    pub fn new(inputs: &Inputs<'_>, outputs: &[Artifact]) -> Self {
        let spec = inputs.spec;
        Self {
            v: VERSION,
            name: spec.image.name.clone(),
            test: inputs.fault.is_some(),
            source_date_s: spec.image.source_date_seconds(),
            cmdline: cmdline::of(spec),
            kernel: inputs.kernel.release.clone(),
            modules: inputs.kernel.resolution.clone(),
            inputs: list_inputs(inputs),
            outputs: outputs
                .iter()
                .map(|artifact| Output {
                    name: artifact.name.into(),
                    size: artifact.bytes.len() as u64,
                    sha256: Sha256Hex::of(&artifact.bytes),
                })
                .collect(),
        }
    }

    /// Reads a manifest.
    ///
    /// # Errors
    /// If it is none, or of another version.
    pub fn parse(text: &str) -> Result<Self, ManifestError> {
        let manifest: Self = serde_json::from_str(text)?;
        match manifest.v {
            VERSION => Ok(manifest),
            other => Err(ManifestError::Version(other)),
        }
    }

    /// The file's bytes.
    #[must_use]
    pub fn to_json(&self) -> Vec<u8> {
        json::pretty(self)
    }

    /// How another build differs from this one; where the inputs differ, different outputs are no
    /// wonder.
    #[must_use]
    pub fn compare(&self, other: &Self) -> Comparison {
        Comparison {
            inputs: differences(&self.input_facts(), &other.input_facts()),
            outputs: differences(&self.output_facts(), &other.output_facts()),
        }
    }

    /// What went in, in words, by what it is.
    fn input_facts(&self) -> BTreeMap<String, String> {
        let kind = if self.test { "test" } else { "base" };
        let mut facts = BTreeMap::from([
            ("name".to_string(), self.name.clone()),
            ("kind of image".into(), kind.into()),
            (
                "source date".into(),
                format!("{} s after 1970", self.source_date_s),
            ),
            ("kernel command line".into(), format!("`{}`", self.cmdline)),
        ]);
        for input in &self.inputs {
            // A program can have two versions of one crate in it.
            facts
                .entry(format!("{} {}", input.kind, input.name))
                .and_modify(|fact| *fact += &format!(" and {input}"))
                .or_insert_with(|| input.to_string());
        }
        facts
    }

    fn output_facts(&self) -> BTreeMap<String, String> {
        let facts = self.outputs.iter().map(|output| {
            let fact = format!("{} bytes, SHA-256 {}", output.size, output.sha256);
            (output.name.clone(), fact)
        });
        facts.collect()
    }
}

impl fmt::Display for InputKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Spec => "spec",
            Self::Package => "package",
            Self::Kernel => "kernel",
            Self::Module => "module",
            Self::Stub => "EFI stub",
            Self::Compiler => "compiler",
            Self::Crate => "crate",
            Self::Program => "program",
            Self::File => "file",
            Self::Link => "link",
            Self::Dir => "folder",
        })
    }
}

/// Version, size and hash, as far as they are known.
impl fmt::Display for Input {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let facts = [
            self.version.clone(),
            self.size.map(|size| format!("{size} bytes")),
            self.sha256.map(|hash| format!("SHA-256 {hash}")),
        ];
        let known: Vec<_> = facts.into_iter().flatten().collect();
        f.write_str(&known.join(", "))
    }
}

/// A line for each fact that is not the same on both sides.
fn differences(left: &BTreeMap<String, String>, right: &BTreeMap<String, String>) -> Vec<String> {
    let keys: BTreeSet<_> = left.keys().chain(right.keys()).collect();
    let fact = |side: &BTreeMap<String, String>, key| {
        side.get(key).cloned().unwrap_or_else(|| "not there".into())
    };
    keys.into_iter()
        .map(|key| (key, fact(left, key), fact(right, key)))
        .filter(|(_, left, right)| left != right)
        .map(|(key, left, right)| format!("{key}: {left}; the other has {right}"))
        .collect()
}

/// Every input, sorted.
fn list_inputs(inputs: &Inputs<'_>) -> Vec<Input> {
    let provenance = inputs.provenance;
    let stub_package = inputs.stub.and_then(|stub| stub.package.as_ref());
    let packages = inputs.kernel.packages.iter().chain(stub_package);
    let packages = packages.chain(inputs.packages);
    let mut list: Vec<_> = packages
        .map(|id| Input {
            kind: InputKind::Package,
            name: format!("{}:{}", id.package, id.architecture),
            version: Some(id.version.clone()),
            size: Some(id.size),
            sha256: Some(id.sha256),
        })
        .collect();
    list.extend(provenance.crates.iter().map(|c| Input {
        kind: InputKind::Crate,
        name: c.name.clone(),
        version: Some(c.version.clone()),
        size: None,
        sha256: c.sha256,
    }));
    list.extend(provenance.rustc.iter().map(|version| Input {
        kind: InputKind::Compiler,
        name: "rustc".into(),
        version: Some(version.clone()),
        size: None,
        sha256: None,
    }));
    let mut add = |kind, name: &str, bytes: &[u8]| {
        list.push(Input {
            kind,
            name: name.into(),
            version: None,
            size: Some(bytes.len() as u64),
            sha256: Some(Sha256Hex::of(bytes)),
        });
    };
    for (name, text) in &provenance.spec {
        add(InputKind::Spec, name, text.as_bytes());
    }
    add(InputKind::Kernel, "vmlinuz", &inputs.kernel.image);
    for (path, program) in inputs.programs() {
        add(InputKind::Program, path, program);
    }
    if let Some(stub) = inputs.stub {
        add(InputKind::Stub, "linuxx64.efi.stub", &stub.bytes);
    }
    for module in &inputs.kernel.modules {
        add(InputKind::Module, &module.name, &module.bytes);
    }
    for file in inputs.files {
        add(InputKind::File, &file.spec.path, &file.bytes);
    }
    for (path, entry) in inputs.content {
        let path = format!("/{path}");
        match &entry.kind {
            Kind::File(bytes) => add(InputKind::File, &path, bytes),
            Kind::Symlink(target) => add(InputKind::Link, &path, target.as_bytes()),
            Kind::Directory | Kind::CharacterDevice { .. } => add(InputKind::Dir, &path, &[]),
        }
    }
    list.sort();
    list
}
