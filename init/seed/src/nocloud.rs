//! The datasource NoCloud: looks through disks for the one that is labelled as a seed, and reads the
//! documents on it.

use std::fmt::Display;
use std::io::{Read, Seek};

use noonmark_contract::seed::instance::{Instance, printable};
use noonmark_contract::seed::verdict::{Datasource, Verdict};

use crate::value::UNKNOWN;
use crate::volume::{self, Volume};
use crate::{content, meta_data, network_config, user_data};

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

fn choose<D: Read + Seek>(mut seeds: Vec<(Disk<D>, Volume)>) -> Datasource {
    if seeds.len() > 1 {
        let names: Vec<&str> = seeds.iter().map(|(disk, _)| disk.name.as_str()).collect();
        return Datasource::Refused {
            device: None,
            problem: format!(
                "the disks {} are all labelled {LABEL}; attach one",
                names.join(", ")
            ),
        };
    }
    let Some((mut disk, volume)) = seeds.pop() else {
        return Datasource::Absent;
    };
    match instance(&mut disk.disk, &volume) {
        Ok(instance) => Datasource::Found {
            device: disk.name,
            instance: Box::new(instance),
        },
        Err(problem) => Datasource::Refused {
            device: Some(disk.name),
            problem: printable(&problem, 500),
        },
    }
}

/// Everything that the seed says; else what is wrong, with the file that it is wrong in.
fn instance(disk: &mut (impl Read + Seek), volume: &Volume) -> Result<Instance, String> {
    let mut file = |name| in_file(name, volume.read(disk, name, FILE_MAX));
    let (meta, user) = (file("meta-data")?, file("user-data")?);
    if meta.is_none() && user.is_none() {
        return Err("it has neither meta-data nor user-data".into());
    }
    let mut instance = Instance::default();
    if let Some(meta) = meta {
        let text = in_file("meta-data", content::text(&meta))?;
        in_file("meta-data", meta_data::read(text, &mut instance))?;
    }
    let is_there = |content: &Vec<u8>| !content.trim_ascii().is_empty();
    if file("vendor-data")?.as_ref().is_some_and(is_there) {
        instance.ignore("vendor-data", UNKNOWN);
    }
    if let Some(network) = file("network-config")?.filter(is_there) {
        let text = in_file("network-config", content::text(&network))?;
        in_file("network-config", network_config::read(text, &mut instance))?;
    }
    if let Some(user) = user {
        let read = user_data::read(user, FILE_MAX, &mut instance);
        in_file("user-data", read)?;
    }
    instance.check().map_err(|refusal| refusal.to_string())?;
    Ok(instance)
}

fn in_file<T>(name: &str, read: Result<T, impl Display>) -> Result<T, String> {
    read.map_err(|error| format!("{name}: {error}"))
}
