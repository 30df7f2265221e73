//! Looks through disks for the one seed among them, and reads it whole.

use std::io::{Read, Seek};

use noonmark_contract::seed::instance::{Instance, printable};
use noonmark_contract::seed::verdict::{Seed, Verdict};

use super::volume::{self, Volume};
use super::{cloud, content, toml};

/// NoCloud's label, in capitals or not.
const LABEL: &str = "CIDATA";

/// The longest file of a seed that is read, packed or unpacked.
const FILE_MAX: usize = 1 << 20;

/// A disk to look at, and its name in messages.
#[derive(Debug)]
pub struct Disk<D> {
    /// E.g. `vda`.
    pub name: String,
    /// The disk.
    pub disk: D,
}

/// Looks at the disks, and reads the seed if there is exactly one.
#[must_use]
pub fn read<D: Read + Seek>(disks: Vec<Disk<D>>) -> Verdict {
    let mut seeds: Vec<(Disk<D>, Volume)> = Vec::new();
    for mut disk in disks {
        // A disk that can't be read is no seed, and whose it is can't be told.
        let Ok(Some(volume)) = volume::probe(&mut disk.disk) else {
            continue;
        };
        // A hybrid image shows the same volume as a disk and as its partition.
        let is_part = seeds
            .iter()
            .any(|(whole, _)| disk.name.starts_with(&whole.name));
        if volume.label.eq_ignore_ascii_case(LABEL) && !is_part {
            seeds.push((disk, volume));
        }
    }
    Verdict {
        seed: choose(seeds),
    }
}

fn choose<D: Read + Seek>(mut seeds: Vec<(Disk<D>, Volume)>) -> Seed {
    if seeds.len() > 1 {
        let names: Vec<&str> = seeds.iter().map(|(disk, _)| disk.name.as_str()).collect();
        return Seed::Refused {
            device: None,
            problem: format!(
                "the disks {} are all labelled {LABEL}; attach one",
                names.join(", ")
            ),
        };
    }
    let Some((mut disk, volume)) = seeds.pop() else {
        return Seed::Absent;
    };
    match instance(&mut disk.disk, &volume) {
        Ok(instance) => Seed::Found {
            device: disk.name,
            instance: Box::new(instance),
        },
        Err(problem) => Seed::Refused {
            device: Some(disk.name),
            problem: printable(&problem, 500),
        },
    }
}

/// Everything that the seed says; else what is wrong, with the file that it is wrong in.
fn instance(disk: &mut (impl Read + Seek), volume: &Volume) -> Result<Instance, String> {
    let mut file = |name: &str| {
        let read = volume.read(disk, name, FILE_MAX);
        read.map_err(|error| format!("{name}: {error}"))
    };
    let (meta, user) = (file("meta-data")?, file("user-data")?);
    if meta.is_none() && user.is_none() {
        return Err("it has neither meta-data nor user-data".into());
    }
    let mut instance = Instance::default();
    if let Some(meta) = meta {
        let text = text(&meta).map_err(|problem| format!("meta-data: {problem}"))?;
        cloud::meta_data(text, &mut instance).map_err(|error| format!("meta-data: {error}"))?;
    }
    let is_there = |content: &Vec<u8>| !content.trim_ascii().is_empty();
    if file("vendor-data")?.as_ref().is_some_and(is_there) {
        instance.ignore("vendor-data", "means nothing to this guest");
    }
    if let Some(network) = file("network-config")?.filter(is_there) {
        let read = text(&network).and_then(|text| {
            let read = cloud::network::network_config(text, &mut instance);
            read.map_err(|error| error.to_string())
        });
        read.map_err(|problem| format!("network-config: {problem}"))?;
    }
    if let Some(user) = user {
        user_data(user, &mut instance).map_err(|problem| format!("user-data: {problem}"))?;
    }
    instance.check().map_err(|refusal| refusal.to_string())?;
    Ok(instance)
}

fn user_data(mut bytes: Vec<u8>, instance: &mut Instance) -> Result<(), String> {
    if bytes.starts_with(&[0x1f, 0x8b]) {
        bytes = content::gunzip(&bytes, FILE_MAX).map_err(|error| error.to_string())?;
    }
    let text = text(&bytes)?;
    if text.trim().is_empty() {
        return Ok(());
    }
    let header = text.lines().next().unwrap_or_default().trim_end();
    match header {
        cloud::HEADER => cloud::user_data(text, instance).map_err(|error| error.to_string()),
        toml::HEADER => toml::user_data(text, instance).map_err(|error| error.to_string()),
        _ => Err(format!(
            "its first line is `{}`; expected {} or {}",
            printable(header, 60),
            cloud::HEADER,
            toml::HEADER
        )),
    }
}

fn text(bytes: &[u8]) -> Result<&str, String> {
    std::str::from_utf8(bytes).map_err(|error| format!("no UTF-8: {error}"))
}
