//! The datasources: looks through disks for the one that is labelled as NoCloud's seed or as a ConfigDrive,
//! and reads the documents on it, and those that a hypervisor gave as credentials.

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
use crate::{
    cloud_config, config_drive, content, meta_data, network_config, noonmark_config, user_data,
};

/// The labels, in small letters or in capitals: NoCloud's, and the ConfigDrive's, which counts where there is
/// no other, as with cloud-init.
const LABELS: [&str; 2] = ["cidata", config_drive::LABEL];

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
    let mut seeds: [Vec<(Disk<D>, Volume)>; 2] = Default::default();
    for mut disk in disks {
        // A disk that can't be read is no seed, and whose it is can't be told.
        let Ok(Some(volume)) = volume::probe(&mut disk.disk) else {
            continue;
        };
        let mut labels = LABELS.iter();
        let Some(kind) = labels.position(|label| volume.is_labelled(label)) else {
            continue;
        };
        // A hybrid image shows the same volume as a disk and as its partition.
        let mut others = seeds[kind].iter();
        if !others.any(|(whole, _)| is_partition(&disk.name, &whole.name)) {
            seeds[kind].push((disk, volume));
        }
    }
    Verdict {
        seed: choose(seeds, credentials, root),
    }
}

/// Whether the kernel calls a partition of this disk so: `vda1`, `nvme0n1p1`; `sdaa` is a disk of its own.
fn is_partition(name: &str, disk: &str) -> bool {
    let number = name.strip_prefix(disk).and_then(|rest| {
        match disk.ends_with(|last: char| last.is_ascii_digit()) {
            true => rest.strip_prefix('p'),
            false => Some(rest),
        }
    });
    number.is_some_and(|number| number.parse::<u32>().is_ok())
}

fn choose<D: Read + Seek>(
    seeds: [Vec<(Disk<D>, Volume)>; 2],
    mut credentials: Credentials,
    root: &Root,
) -> Datasource {
    let [nocloud, config_drives] = seeds;
    let (label, mut seeds) = match nocloud.is_empty() {
        true => (LABELS[1], config_drives),
        false => {
            for (disk, _) in config_drives {
                let what = format!("the ConfigDrive on {}", disk.name);
                credentials.instance.ignore(what, "the NoCloud seed counts");
            }
            (LABELS[0], nocloud)
        }
    };
    if seeds.len() > 1 {
        let names: Vec<&str> = seeds.iter().map(|(disk, _)| disk.name.as_str()).collect();
        return Datasource::Refused {
            device: None,
            problem: format!(
                "the disks {} are all labelled {label}; attach one",
                names.join(", ")
            ),
        };
    }
    let Some((mut disk, volume)) = seeds.pop() else {
        if credentials.is_empty() {
            return Datasource::Absent;
        }
        let seed = Seed {
            names: FILES,
            files: [const { Ok(None) }; 4],
            vendor_2: Ok(None),
        };
        return Datasource::Found {
            device: NO_DISK.into(),
            documents: with_credentials(seed, credentials, root, &mut |_| Ok(None)),
        };
    };
    // What is wrong with the volume as a whole is told once, not of each document.
    let names = match volume.names(&mut disk.disk) {
        Ok(names) => names.join(", "),
        Err(error) => {
            return Datasource::Refused {
                device: Some(disk.name),
                problem: error.to_string(),
            };
        }
    };
    let mut read = |path: &str| {
        let read = volume.read(&mut disk.disk, path, FILE_MAX);
        read.map_err(|error| format!("{path}: {error}"))
    };
    let (found, wanted) = match label {
        config_drive::LABEL => (
            Seed::of_config_drive(&mut read),
            "no openstack/latest/meta_data.json",
        ),
        _ => (
            Seed::of_nocloud(&mut read),
            "neither meta-data nor user-data",
        ),
    };
    let Some(seed) = found else {
        return Datasource::Refused {
            device: Some(disk.name),
            problem: format!(
                "it has {wanted}; in its root folder: {}",
                printable(&names, NAMES_SHOWN)
            ),
        };
    };
    let documents = with_credentials(seed, credentials, root, &mut read);
    Datasource::Found {
        device: disk.name,
        documents,
    }
}

/// A seed's documents as they were found.
struct Seed {
    /// What each is called, which tells its form: in the order of [`FILES`].
    names: [&'static str; 4],
    files: [File; 4],
    /// A ConfigDrive's second vendor-data.
    vendor_2: File,
}

impl Seed {
    /// Of who reads a file at its path; none where there is none.
    fn of_nocloud(read: &mut impl FnMut(&str) -> File) -> Option<Self> {
        let (names, files) = (FILES, FILES.map(read));
        let vendor_2 = Ok(None);
        (!matches!(files, [Ok(None), _, _, Ok(None)])).then_some(Self {
            names,
            files,
            vendor_2,
        })
    }

    fn of_config_drive(read: &mut impl FnMut(&str) -> File) -> Option<Self> {
        let names = config_drive::FILES;
        config_drive::documents(read).map(|(files, vendor_2)| Self {
            names,
            files,
            vendor_2,
        })
    }
}

/// What the documents of a disk and the credentials say. Credentials outside a document count before
/// meta-data, as cloud-init has it with `ds=nocloud`.
fn with_credentials(
    mut seed: Seed,
    mut credentials: Credentials,
    root: &Root,
    read: &mut impl FnMut(&str) -> File,
) -> Vec<Document> {
    for (index, given) in credentials.documents.into_iter().enumerate() {
        if let Some(given) = given {
            let name = seed.names[index];
            if !matches!(seed.files[index], Ok(None)) {
                let what = format!("{name} on the disk");
                let why = "the credential of this name counts";
                credentials.instance.ignore(what, why);
            }
            seed.names[index] = FILES[index];
            seed.files[index] = Ok(Some(given));
        }
    }
    let meta = seed.names[0];
    let mut documents = all(seed, root, read);
    if credentials.instance != Instance::default() {
        let has_meta = documents.first().is_some_and(|first| first.name == meta);
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
    let names = FILES;
    let seed = Seed {
        names,
        files,
        vendor_2: Ok(None),
    };
    all(seed, root, &mut |_| Ok(None))
}

/// What the documents of a ConfigDrive say, by who reads a file at its path; none where it is none.
#[must_use]
pub fn config_drive(read: &mut impl FnMut(&str) -> File, root: &Root) -> Option<Vec<Document>> {
    Seed::of_config_drive(read).map(|seed| all(seed, root, read))
}

fn all(seed: Seed, root: &Root, read: &mut impl FnMut(&str) -> File) -> Vec<Document> {
    let Seed {
        names,
        files,
        vendor_2,
    } = seed;
    let has_network = !matches!(files[1], Ok(None));
    let [meta, network, vendor, user] = files;
    let is_there = |file: &File| !matches!(file, Ok(None));
    let there = [is_there(&vendor) || is_there(&vendor_2), is_there(&user)];
    let vendor_2 = (config_drive::VENDOR_DATA_2, vendor_2);
    let [vendor, vendor_2] = [(names[2], vendor), vendor_2].map(|(name, file)| {
        let texts = file.and_then(|bytes| match (name, bytes) {
            (config_drive::VENDOR_DATA | config_drive::VENDOR_DATA_2, Some(bytes)) => {
                let text = content::text(&bytes).map_err(|error| format!("{name}: {error}"))?;
                config_drive::vendor_data(name, &text).map_err(|error| error.to_string())
            }
            (_, bytes) => Ok(bytes.into_iter().collect()),
        });
        (name, texts)
    });
    let user = user.map(|bytes| bytes.into_iter().collect());
    let Instances {
        user: user_says,
        vendor: vendor_says,
        preserve_hostname,
        prefer_whole_name: whole,
    } = programs([(names[3], user), vendor_2, vendor], root);
    let mut meta = text(meta, names[0], |text, instance| match names[0] {
        config_drive::META_DATA => {
            config_drive::meta_data(text, has_network, whole, instance, read)
        }
        _ => meta_data::read(text, has_network, whole, instance),
    });
    let network = text(network, names[1], |text, instance| match names[1] {
        config_drive::NETWORK_DATA => config_drive::network_data(text, instance),
        _ => network_config::read(text, instance),
    });
    if let Some(meta) = meta.as_mut().filter(|_| preserve_hostname) {
        meta.settings.hostname = None;
    }
    let says = [
        meta,
        network,
        there[0].then_some(vendor_says),
        there[1].then_some(user_says),
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
    names.into_iter().zip(says).filter_map(document).collect()
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

/// A document's name, and the texts that it has.
type Texts<'a> = (&'a str, Result<Vec<Vec<u8>>, String>);

/// What user-data and vendor-data say. What a later document has counts where those before it say nothing of
/// that.
fn programs(documents: [Texts<'_>; 3], root: &Root) -> Instances {
    let user = documents[0].0;
    let mut instances = Instances::default();
    let mut config: Option<Node> = None;
    let mut scripts = Vec::new();
    for (name, texts) in documents {
        let instance = instances.of_document(name);
        let texts = match texts {
            Ok(texts) => texts,
            Err(why) => {
                instance.refuse(why);
                continue;
            }
        };
        let mut parts = user_data::parts(name, texts, FILE_MAX, instance);
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
        // Those of vendor-data come first.
        parts.scripts.append(&mut scripts);
        scripts = parts.scripts;
    }
    let nothing = || Node {
        place: Place {
            document: user.into(),
            line: 1,
        },
        value: Value::Map(Vec::new()),
    };
    let config = config.unwrap_or_else(nothing);
    let scripts = user_data::in_order(scripts);
    cloud_config::read(&config, scripts, root, &mut instances);
    instances
}
