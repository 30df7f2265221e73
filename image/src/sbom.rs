//! The software bill of materials: CycloneDX 1.5 in JSON (ECMA-424).
//!
//! The format's official library reads and checks what this writes, in the tests. It is not used
//! here, since it takes forty crates and most of a minute to build, for a dozen fields.

use serde::Serialize;

use crate::manifest::{InputKind, Manifest, Provenance};

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
            InputKind::Module | InputKind::Stub | InputKind::File => "file",
            // Neither of them is in the image.
            InputKind::Spec | InputKind::Compiler => return None,
        };
        let hashes = input.sha256.map(|hash| Hash {
            alg: "SHA-256",
            content: hash.to_string(),
        });
        Some(Component {
            hashes: hashes.into_iter().collect(),
            licenses: licenses(
                input.kind,
                &input.name,
                input.version.as_deref(),
                provenance,
            ),
            purl: purl(input.kind, &input.name, input.version.as_deref()),
            ..component(kind, &input.name, input.version.as_ref())
        })
    });
    let bom = Bom {
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
    };
    // Numbers, texts and lists of them always have a JSON form.
    let mut json = serde_json::to_vec_pretty(&bom).unwrap_or_default();
    json.push(b'\n');
    json
}

/// The package URL of a crate or a Debian package.
fn purl(kind: InputKind, name: &str, version: Option<&str>) -> Option<String> {
    let vendor = match version?.contains("ubuntu") {
        true => "ubuntu",
        false => "debian",
    };
    let version = percent_encoded(version?);
    match kind {
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

fn licenses(
    kind: InputKind,
    name: &str,
    version: Option<&str>,
    provenance: &Provenance,
) -> Vec<License> {
    if kind != InputKind::Crate {
        return Vec::new();
    }
    let found = provenance
        .crates
        .iter()
        .find(|c| c.name == name && Some(c.version.as_str()) == version);
    found
        .and_then(|c| c.license.clone())
        // An old way to write `OR`, which SPDX does not know.
        .map(|license| License {
            expression: license.replace('/', " OR "),
        })
        .into_iter()
        .collect()
}
