//! The software bill of materials: CycloneDX 1.5 in JSON (ECMA-424).
//!
//! The format's official library reads and checks what this writes, in the tests. It is not used
//! here, since it takes forty crates and most of a minute to build, for a dozen fields.

use serde::Serialize;

use crate::inputs::Provenance;
use crate::json;
use crate::manifest::{Input, InputKind, Manifest};

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Bom<'a> {
    bom_format: &'static str,
    spec_version: &'static str,
    version: u32,
    metadata: Metadata<'a>,
    components: Vec<Component>,
}

#[derive(Serialize)]
struct Metadata<'a> {
    component: Component,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    properties: Vec<Property<'a>>,
}

#[derive(Serialize)]
struct Property<'a> {
    name: &'static str,
    value: &'a str,
}

#[derive(Serialize)]
struct Component {
    #[serde(rename = "type")]
    kind: &'static str,
    name: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    version: Option<String>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    hashes: Vec<Hash>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    licenses: Vec<License>,
    #[serde(skip_serializing_if = "Option::is_none")]
    purl: Option<String>,
}

#[derive(Serialize)]
struct Hash {
    alg: &'static str,
    content: String,
}

#[derive(Serialize)]
struct License {
    expression: String,
}

/// Writes the bill of a build. It has no serial number and no date, which would be others in each
/// build.
#[must_use]
pub fn write(manifest: &Manifest, provenance: &Provenance) -> Vec<u8> {
    let component = |kind, name: &str, version: Option<&String>| Component {
        kind,
        name: name.into(),
        version: version.cloned(),
        hashes: Vec::new(),
        licenses: Vec::new(),
        purl: None,
    };
    let components = manifest.inputs.iter().filter_map(|input| {
        let kind = match input.kind {
            InputKind::Package | InputKind::Program | InputKind::Kernel => "application",
            InputKind::Crate => "library",
            InputKind::Module | InputKind::Stub | InputKind::File | InputKind::Link => "file",
            // Neither of the first two is in the image, and a folder is no component.
            InputKind::Spec | InputKind::Compiler | InputKind::Dir => return None,
        };
        let hashes = input.sha256.map(|hash| Hash {
            alg: "SHA-256",
            content: hash.to_string(),
        });
        Some(Component {
            hashes: hashes.into_iter().collect(),
            licenses: licenses(input, provenance),
            purl: purl(input),
            ..component(kind, &input.name, input.version.as_ref())
        })
    });
    json::pretty(&Bom {
        bom_format: "CycloneDX",
        spec_version: "1.5",
        version: 1,
        metadata: Metadata {
            component: component("operating-system", &manifest.name, None),
            properties: vec![Property {
                name: "noonmark:kernel",
                value: &manifest.kernel,
            }],
        },
        components: components.collect(),
    })
}

/// The package URL of a crate or a Debian package.
fn purl(input: &Input) -> Option<String> {
    let (name, version) = (&input.name, input.version.as_ref()?);
    let vendor = match version.contains("ubuntu") {
        true => "ubuntu",
        false => "debian",
    };
    let version = percent_encoded(version);
    match input.kind {
        InputKind::Crate => Some(format!("pkg:cargo/{name}@{version}")),
        InputKind::Package => {
            let (name, architecture) = name.split_once(':')?;
            let name = percent_encoded(name);
            Some(format!(
                "pkg:deb/{vendor}/{name}@{version}?arch={architecture}"
            ))
        }
        _ => None,
    }
}

/// A text as a package URL has it.
fn percent_encoded(text: &str) -> String {
    let mut encoded = String::new();
    for byte in text.bytes() {
        if byte.is_ascii_alphanumeric() || b".-_~:".contains(&byte) {
            encoded.push(char::from(byte));
        } else {
            encoded.push_str(&format!("%{byte:02X}"));
        }
    }
    encoded
}

/// The licence of a crate; no other input is known to have one.
fn licenses(input: &Input, provenance: &Provenance) -> Vec<License> {
    if input.kind != InputKind::Crate {
        return Vec::new();
    }
    let mut crates = provenance.crates.iter();
    crates
        .find(|c| c.name == input.name && Some(&c.version) == input.version.as_ref())
        .and_then(|c| c.license.as_ref())
        // An old way to write `OR`, which SPDX does not know.
        .map(|license| License {
            expression: license.replace('/', " OR "),
        })
        .into_iter()
        .collect()
}
