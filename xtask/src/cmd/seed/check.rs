//! `seed --check`: what a guest would make of a seed, told on the host by the guest's own reader.

use std::fs::{self, File};
use std::io::{self, Cursor, Read, Seek};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::path::Path;
use std::process::ExitCode;

use anyhow::{Context as _, Result};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use noonmark_contract::config::network::Interface;
use noonmark_contract::seed::instance::{SeedFile, printable};
use noonmark_contract::seed::verdict::{Datasource, Document};
use noonmark_image::seed;
use noonmark_seed::credentials::Credentials;
use noonmark_seed::nocloud::{self, Disk};
use noonmark_seed::root::Root;
use noonmark_seed::volume;
use serde::Serialize;

use super::document;
use super::partitions::{Part, partitions};

/// So much of a line is shown.
const LINE_MAX: usize = 1000;

/// So many names of a folder without a seed are shown, and so much of a label.
const NAMES_MAX: usize = 8;
const LABEL_MAX: usize = 128;

/// In which form it is told.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Format {
    /// For people.
    Text,
    /// For programs, as one object.
    Json,
}

/// What a guest would make of a seed.
#[derive(Debug, Default, Serialize)]
struct Found {
    /// Whether it is a seed at all.
    seed: bool,
    instance_id: Option<String>,
    hostname: Option<String>,
    files: Vec<WrittenFile>,
    network: Vec<NetworkInterface>,
    /// What means nothing to the guest, each with its key and the reason.
    ignored: Vec<String>,
    /// What is wrong or not allowed and so is left out, each with its place and the reason.
    refused: Vec<String>,
    /// What is there in the place of a seed, where there is none.
    #[serde(skip)]
    instead: Option<String>,
}

#[derive(Debug, Serialize)]
struct WrittenFile {
    path: String,
    mode: u32,
    uid: u32,
    gid: u32,
    append: bool,
    content_base64: String,
}

#[derive(Debug, Serialize)]
struct NetworkInterface {
    name: Option<String>,
    addresses: Vec<String>,
    dhcp4: bool,
    gateway4: Option<Ipv4Addr>,
    gateway6: Option<Ipv6Addr>,
    nameservers: Vec<IpAddr>,
}

/// Tells what a guest would make of a disk's image, a folder of a seed's files, or a user-data file; exit
/// status 1 where something would be ignored or refused, or there is no seed.
pub fn run(path: &Path, format: Format) -> Result<ExitCode> {
    let kind = fs::metadata(path).with_context(|| format!("cannot read {}", path.display()))?;
    let found = if kind.is_dir() {
        of_folder(path)?
    } else {
        let mut file =
            File::open(path).with_context(|| format!("cannot read {}", path.display()))?;
        if is_text(&mut file).with_context(|| format!("cannot read {}", path.display()))? {
            // One that is called as a document is that one.
            let mut names = seed::FILES.into_iter();
            let name = names.find(|name| path.file_name().is_some_and(|file| file == *name));
            let documents = [
                (name.unwrap_or("user-data"), document::read(path)?),
                ("meta-data", Vec::new()),
            ];
            of_documents(&documents)?
        } else {
            of_disk(file).with_context(|| format!("cannot read {}", path.display()))?
        }
    };
    match format {
        Format::Json => println!("{}", serde_json::to_string(&found)?),
        Format::Text => print!("{}", text(path, &found)),
    }
    Ok(if found.is_taken_whole() {
        ExitCode::SUCCESS
    } else {
        ExitCode::FAILURE
    })
}

/// Whether a file is a document, not a disk: a disk's image has NULs in its first sector.
fn is_text(file: &mut File) -> std::io::Result<bool> {
    let mut sector = Vec::new();
    file.by_ref().take(512).read_to_end(&mut sector)?;
    file.rewind()?;
    // A document of cloud-init's may also be packed, or in UTF-16.
    let starts = [&[0x1f, 0x8b], &[0xff, 0xfe], &[0xfe, 0xff]];
    Ok(!sector.contains(&0) || starts.iter().any(|start| sector.starts_with(*start)))
}

/// What comes of a disk and of the partitions that the kernel would show beside it.
fn of_disk(mut file: File) -> io::Result<Found> {
    let extents = partitions(&mut file)?;
    let mut disks: Vec<Disk<Box<dyn ReadSeek>>> = Vec::new();
    for (index, extent) in extents.into_iter().enumerate() {
        let part = Part::new(file.try_clone()?, extent);
        disks.push(Disk {
            name: format!("vda{}", index + 1),
            disk: Box::new(part),
        });
    }
    let whole = Disk {
        name: "vda".to_owned(),
        disk: Box::new(file) as Box<dyn ReadSeek>,
    };
    disks.insert(0, whole);
    let mut labels: Vec<String> = Vec::new();
    for Disk { disk, .. } in &mut disks {
        if let Ok(Some(volume)) = volume::probe(disk) {
            labels.push(format!("`{}`", printable(&volume.label, LABEL_MAX)));
        }
    }
    Ok(Found {
        instead: (!labels.is_empty()).then(|| format!("a disk labelled {}", labels.join(", "))),
        ..read(disks)
    })
}

/// What a disk is read by.
trait ReadSeek: Read + Seek {}
impl<T: Read + Seek> ReadSeek for T {}

fn of_folder(folder: &Path) -> Result<Found> {
    let mut of_drive = |path: &str| match fs::read(folder.join(path)) {
        Ok(bytes) => Ok(Some(bytes)),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
        Err(error) => Err(format!("{path}: {error}")),
    };
    if let Some(documents) = nocloud::config_drive(&mut of_drive, &Root::unknown()) {
        return Ok(Found::of(documents));
    }
    let mut names: Vec<String> = fs::read_dir(folder)
        .with_context(|| format!("cannot read {}", folder.display()))?
        .filter_map(|entry| Some(entry.ok()?.file_name().to_string_lossy().into_owned()))
        .collect();
    names.sort();
    names.truncate(NAMES_MAX);
    let mut documents = Vec::new();
    for name in seed::FILES {
        let file = folder.join(name);
        if file.exists() {
            documents.push((name, document::read(&file)?));
        }
    }
    let names = printable(&names.join(", "), LINE_MAX);
    Ok(Found {
        instead: (!names.is_empty()).then(|| format!("a folder with {names}")),
        ..of_documents(&documents)?
    })
}

/// What comes of these documents on a disk that `seed` makes.
fn of_documents(documents: &[(&'static str, Vec<u8>)]) -> Result<Found> {
    let document = |wanted| {
        let found = documents.iter().find(|(name, _)| *name == wanted);
        found.map(|(_, bytes)| bytes.as_slice())
    };
    let [user_data, meta_data, network_config, vendor_data] = seed::FILES.map(document);
    if user_data.is_none() && meta_data.is_none() {
        return Ok(Found::default());
    }
    let seed = seed::Seed {
        user_data: user_data.unwrap_or_default(),
        meta_data: meta_data.unwrap_or_default(),
        network_config,
        vendor_data,
    };
    let disk = seed::write(&seed, seed::Format::Fat)?;
    let disk = Disk {
        name: "the seed".to_owned(),
        disk: Cursor::new(disk),
    };
    Ok(read(vec![disk]))
}

fn read(disks: Vec<Disk<impl Read + Seek>>) -> Found {
    match nocloud::read(disks, Credentials::default(), &Root::unknown()).seed {
        Datasource::Absent => Found::default(),
        Datasource::Refused { problem, .. } => Found {
            seed: true,
            refused: vec![problem],
            ..Found::default()
        },
        Datasource::Found { documents, .. } => Found::of(documents),
    }
}

impl Found {
    /// Of two documents' words on the same setting the later one's counts.
    fn of(documents: Vec<Document>) -> Self {
        let mut found = Self {
            seed: true,
            ..Self::default()
        };
        for Document { mut instance, .. } in documents {
            let settings = instance.settings;
            found.instance_id = instance.id.or(found.instance_id);
            found.hostname = settings
                .hostname
                .map(|name| name.to_string())
                .or(found.hostname);
            found.files.extend(instance.files.into_iter().map(written));
            if let Some(network) = settings.network {
                found.network = network.interface.into_iter().map(interface).collect();
            }
            found.ignored.append(&mut instance.ignored);
            found.refused.append(&mut instance.refused);
        }
        found
    }

    fn is_taken_whole(&self) -> bool {
        self.seed && self.ignored.is_empty() && self.refused.is_empty()
    }
}

fn written(file: SeedFile) -> WrittenFile {
    WrittenFile {
        path: file.path.to_string(),
        mode: file.mode.get(),
        uid: file.uid,
        gid: file.gid,
        append: file.append,
        content_base64: STANDARD.encode(&file.content),
    }
}

fn interface(interface: Interface) -> NetworkInterface {
    let name = interface.name.map(|name| name.as_str().to_owned());
    NetworkInterface {
        name: name.or_else(|| interface.macaddress.map(|mac| mac.to_string())),
        addresses: interface
            .addresses
            .iter()
            .map(ToString::to_string)
            .collect(),
        dhcp4: interface.dhcp4,
        gateway4: interface.gateway4,
        gateway6: interface.gateway6,
        nameservers: interface.nameservers,
    }
}

fn text(path: &Path, found: &Found) -> String {
    if !found.seed {
        let instead = found.instead.as_deref().unwrap_or("something else");
        return format!(
            "{}: no seed, but {instead}: a seed is a disk labelled {} or {}, or a folder with user-data or meta-data\n",
            path.display(),
            seed::LABEL,
            noonmark_seed::config_drive::LABEL
        );
    }
    let mut lines = Vec::new();
    let mut tell = |key: &str, value: String| {
        // A seed's own words, which may be meant for the terminal.
        lines.push(format!("{key:<12} {}\n", printable(&value, LINE_MAX)));
    };
    if let Some(id) = &found.instance_id {
        tell("instance-id", id.clone());
    }
    if let Some(name) = &found.hostname {
        tell("hostname", name.clone());
    }
    for file in &found.files {
        let (way, WrittenFile { path, mode, .. }) = (if file.append { ">>" } else { ">" }, file);
        tell(
            "file",
            format!("{way} {path} {mode:04o} {}:{}", file.uid, file.gid),
        );
    }
    for interface in &found.network {
        let name = interface.name.as_deref().unwrap_or("the first interface");
        let dhcp = interface.dhcp4.then(|| "dhcp4".to_owned());
        let what: Vec<String> = dhcp
            .into_iter()
            .chain(interface.addresses.clone())
            .collect();
        tell("network", format!("{name} {}", what.join(" ")));
    }
    for what in &found.ignored {
        tell("ignored", what.clone());
    }
    for why in &found.refused {
        tell("refused", why.clone());
    }
    if lines.is_empty() {
        return format!("{}: a seed that says nothing\n", path.display());
    }
    lines.concat()
}
