//! KubeVirt's: the disk in a container image, as `/disk/disk.qcow2` of the user that QEMU is there, in a
//! tar archive of an OCI image layout, as `skopeo copy oci-archive:FILE` takes it (OCI image
//! specification, "Image Layout"; KubeVirt's user guide, "containerDisk").

use jiff::Timestamp;
use serde_json::{Value, json};
use tar::{Builder, EntryType, Header};

use super::bytes::FormatError;
use super::qcow2;
use crate::compress::{self, Compression};
use crate::hash::Sha256Hex;

/// The user and group that KubeVirt runs QEMU as.
const QEMU: u64 = 107;

/// What an image is called where nobody gives it another name.
const TAG: &str = "latest";

const INDEX: &str = "application/vnd.oci.image.index.v1+json";
const MANIFEST: &str = "application/vnd.oci.image.manifest.v1+json";
const CONFIG: &str = "application/vnd.oci.image.config.v1+json";
const LAYER: &str = "application/vnd.oci.image.layer.v1.tar+gzip";

pub fn write(disk: &[u8], source_date: u32) -> Result<Vec<u8>, FormatError> {
    let mut layer = Archive::new(source_date, QEMU);
    layer.folder("disk/", 0o555)?;
    layer.file("disk/disk.qcow2", 0o440, &qcow2::write(disk)?)?;
    let layer = layer.finish()?;
    let packed = compress::compress(&layer, Compression::Gzip)?;
    let created = Timestamp::new(source_date.into(), 0).unwrap_or(Timestamp::UNIX_EPOCH);
    let created = created.to_string();
    let config = bytes(&json!({
        "architecture": "amd64",
        "os": "linux",
        "created": created,
        "config": {},
        "rootfs": { "type": "layers", "diff_ids": [digest(&layer)] },
        "history": [{ "created": created, "created_by": "noonmark" }],
    }));
    let manifest = bytes(&json!({
        "schemaVersion": 2,
        "mediaType": MANIFEST,
        "config": descriptor(CONFIG, &config),
        "layers": [descriptor(LAYER, &packed)],
    }));
    let mut named = descriptor(MANIFEST, &manifest);
    named["annotations"] = json!({ "org.opencontainers.image.ref.name": TAG });
    let index = bytes(&json!({
        "schemaVersion": 2,
        "mediaType": INDEX,
        "manifests": [named],
    }));
    let mut layout = Archive::new(source_date, 0);
    layout.folder("blobs/", 0o755)?;
    layout.folder("blobs/sha256/", 0o755)?;
    let mut blobs = [config, manifest, packed].map(|blob| (Sha256Hex::of(&blob), blob));
    blobs.sort();
    for (hash, blob) in &blobs {
        layout.file(&format!("blobs/sha256/{hash}"), 0o644, blob)?;
    }
    layout.file("index.json", 0o644, &index)?;
    let version = bytes(&json!({ "imageLayoutVersion": "1.0.0" }));
    layout.file("oci-layout", 0o644, &version)?;
    Ok(layout.finish()?)
}

/// An archive all of whose entries have one date and one owner.
struct Archive {
    builder: Builder<Vec<u8>>,
    date: u32,
    owner: u64,
}

impl Archive {
    fn new(date: u32, owner: u64) -> Self {
        Self {
            builder: Builder::new(Vec::new()),
            date,
            owner,
        }
    }

    fn folder(&mut self, path: &str, mode: u32) -> std::io::Result<()> {
        self.add(path, EntryType::Directory, mode, &[])
    }

    fn file(&mut self, path: &str, mode: u32, content: &[u8]) -> std::io::Result<()> {
        self.add(path, EntryType::Regular, mode, content)
    }

    fn add(
        &mut self,
        path: &str,
        kind: EntryType,
        mode: u32,
        content: &[u8],
    ) -> std::io::Result<()> {
        let mut header = Header::new_ustar();
        header.set_entry_type(kind);
        header.set_mode(mode);
        header.set_uid(self.owner);
        header.set_gid(self.owner);
        header.set_mtime(self.date.into());
        header.set_size(content.len() as u64);
        self.builder.append_data(&mut header, path, content)
    }

    fn finish(self) -> std::io::Result<Vec<u8>> {
        self.builder.into_inner()
    }
}

fn descriptor(kind: &str, blob: &[u8]) -> Value {
    json!({ "mediaType": kind, "digest": digest(blob), "size": blob.len() })
}

fn digest(blob: &[u8]) -> String {
    format!("sha256:{}", Sha256Hex::of(blob))
}

/// Without a blank, keys sorted.
fn bytes(document: &Value) -> Vec<u8> {
    document.to_string().into_bytes()
}
