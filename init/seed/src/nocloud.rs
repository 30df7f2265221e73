//! The datasource NoCloud: looks through disks for the one that is labelled as a seed, and reads the
//! documents on it, and those that a hypervisor gave as credentials.

use std::io::{Read, Seek};

use noonmark_contract::seed::instance::{Instance, printable};
use noonmark_contract::seed::verdict::{Datasource, Document, NO_DISK, Verdict};

use crate::credentials::Credentials;
pub use crate::instances::FILES;
use crate::instances::Instances;
use crate::merge::Mergers;
use crate::root::Root;
use crate::volume::{self, Volume};
use crate::yaml::{Node, Place, Value};
use crate::{cloud_config, content, meta_data, network_config, noonmark_config, user_data};

/// NoCloud's label, in small letters or in capitals.
const LABEL: &str = "cidata";

/// The longest file of a seed that is read, packed or unpacked.
const FILE_MAX: usize = 1 << 20;

/// So much is shown of the names on a seed without documents.
const NAMES_SHOWN: usize = 300;

/// A disk to look at, and its name in messages.
#[derive(Debug)]
pub struct Disk<D> {
    /// E.g. `vda`.
    pub name: String,
    /// The disk.
    pub disk: D,
}

/// A document's bytes, that it is not there, or why it can't be read.
pub type File = Result<Option<Vec<u8>>, String>;

/// Looks at the disks, and reads the seed if there is exactly one, for an image of which this is known.
/// A document among the credentials takes the place of the disk's.
#[must_use]
pub fn read<D: Read + Seek>(disks: Vec<Disk<D>>, credentials: Credentials, root: &Root) -> Verdict {
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
        if volume.is_labelled(LABEL) && !is_part {
            seeds.push((disk, volume));
        }
    }
    Verdict {
        seed: choose(seeds, credentials, root),
    }
}

fn choose<D: Read + Seek>(
    mut seeds: Vec<(Disk<D>, Volume)>,
    credentials: Credentials,
    root: &Root,
) -> Datasource {
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
        if credentials.is_empty() {
            return Datasource::Absent;
        }
        return Datasource::Found {
            device: NO_DISK.into(),
            documents: with_credentials([const { Ok(None) }; 4], credentials, root),
        };
    };
    let files = FILES.map(|name| {
        let read = volume.read(&mut disk.disk, name, FILE_MAX);
        read.map_err(|error| format!("{name}: {error}"))
    });
    if let [Ok(None), _, _, Ok(None)] = files {
        let names = volume.names(&mut disk.disk).map(|names| names.join(", "));
        let there = names.unwrap_or_else(|error| error.to_string());
        return Datasource::Refused {
            device: Some(disk.name),
            problem: format!(
                "it has neither meta-data nor user-data; in its root folder: {}",
                printable(&there, NAMES_SHOWN)
            ),
        };
    }
    Datasource::Found {
        device: disk.name,
        documents: with_credentials(files, credentials, root),
    }
}

/// What the documents of a disk and the credentials say. Credentials outside a document count before
/// meta-data, as cloud-init has it with `ds=nocloud`.
fn with_credentials(
    mut files: [File; 4],
    mut credentials: Credentials,
    root: &Root,
) -> Vec<Document> {
    for ((file, name), given) in files.iter_mut().zip(FILES).zip(credentials.documents) {
        if let Some(given) = given {
            if !matches!(file, Ok(None)) {
                let why = "the credential of this name counts";
                credentials
                    .instance
                    .ignore(format_args!("{name} on the disk"), why);
            }
            *file = Ok(Some(given));
        }
    }
    let mut documents = documents(files, root);
    if credentials.instance != Instance::default() {
        let has_meta = documents
            .first()
            .is_some_and(|first| first.name == FILES[0]);
        let name = NO_DISK.to_owned();
        let instance = credentials.instance;
        documents.insert(usize::from(has_meta), Document { name, instance });
    }
    documents
}

/// What each of the documents [`FILES`] says. One that is wrong says nothing but that, and the others
/// count.
#[must_use]
pub fn documents(files: [File; 4], root: &Root) -> Vec<Document> {
    let has_network = !matches!(files[1], Ok(None));
    let [meta, network, vendor, user] = files;
    let mut meta = text(meta, "meta-data", |text, instance| {
        meta_data::read(text, has_network, instance)
    });
    let network = text(network, "network-config", network_config::read);
    let Instances {
        user: user_says,
        vendor: vendor_says,
        preserve_hostname,
    } = programs(&vendor, &user, root);
    if let Some(meta) = meta.as_mut().filter(|_| preserve_hostname) {
        meta.settings.hostname = None;
    }
    let is_there = |file: &File| !matches!(file, Ok(None));
    let says = [
        meta,
        network,
        is_there(&vendor).then_some(vendor_says),
        is_there(&user).then_some(user_says),
    ];
    let document = |(name, instance): (&str, Option<Instance>)| {
        let instance = instance?;
        let instance = match instance.check() {
            Ok(()) => instance,
            Err(refusal) => Instance::refused(format_args!("{name}: {refusal}")),
        };
        let name = name.to_owned();
        Some(Document { name, instance })
    };
    FILES.into_iter().zip(says).filter_map(document).collect()
}

/// What a document of text says; none where it is not there.
fn text<E: std::fmt::Display>(
    file: File,
    name: &str,
    read: impl FnOnce(&str, &mut Instance) -> Result<(), E>,
) -> Option<Instance> {
    let mut instance = Instance::default();
    let taken = file.transpose()?.and_then(|bytes| {
        let text = content::text(&bytes).map_err(|error| format!("{name}: {error}"))?;
        read(&text, &mut instance).map_err(|error| error.to_string())
    });
    Some(match taken {
        Ok(()) => instance,
        Err(why) => Instance::refused(why),
    })
}

/// What vendor-data and user-data say. What vendor-data has counts where user-data says nothing of it.
fn programs(vendor: &File, user: &File, root: &Root) -> Instances {
    let mut instances = Instances::default();
    let mut config: Option<Node> = None;
    let mut scripts = Vec::new();
    for (name, file) in [(FILES[3], user), (FILES[2], vendor)] {
        let instance = instances.of_document(name);
        let bytes = match file {
            Ok(Some(bytes)) => bytes.clone(),
            Ok(None) => continue,
            Err(why) => {
                instance.refuse(why);
                continue;
            }
        };
        let mut parts = user_data::parts(name, bytes, FILE_MAX, instance);
        for (name, text) in parts.noonmark {
            let before = instance.clone();
            if let Err(error) = noonmark_config::read(&text, instance) {
                *instance = before;
                instance.refuse(format_args!("{name}: {error}"));
            }
        }
        config = match (config, parts.cloud_config) {
            (Some(user), Some(vendor)) => Some(Mergers::of_vendor().merge(user, vendor)),
            (user, vendor) => user.or(vendor),
        };
        // Those of vendor-data run first.
        parts.scripts.append(&mut scripts);
        scripts = parts.scripts;
    }
    let nothing = || Node {
        place: Place {
            document: FILES[3].into(),
            line: 1,
        },
        value: Value::Map(Vec::new()),
    };
    let config = config.unwrap_or_else(nothing);
    cloud_config::read(&config, scripts, root, &mut instances);
    instances
}
