//! OpenStack's ConfigDrive: a disk labelled `config-2`, with documents in JSON and the files that these
//! name. `network_data.json` is read where version 1 and 2 of a network-config are.

use noonmark_contract::config::values::Mode;
use noonmark_contract::seed::instance::{Instance, SeedFile};

use crate::cloud_config::{fits, guest_path, platform_name};
use crate::content;
use crate::json;
use crate::meta_data;
use crate::network_config;
use crate::value::{Checked, Field, UNKNOWN};
use crate::yaml::{Node, Value};

/// The label, in small letters or in capitals.
pub const LABEL: &str = "config-2";

/// The names of the documents, in the order in which they count; `user_data` is the last. Beside them there is
/// [`VENDOR_DATA_2`].
pub const FILES: [&str; 4] = [META_DATA, NETWORK_DATA, VENDOR_DATA, "user_data"];

/// One of [`FILES`].
pub const META_DATA: &str = "meta_data.json";
/// One of [`FILES`].
pub const NETWORK_DATA: &str = "network_data.json";
/// One of [`FILES`].
pub const VENDOR_DATA: &str = "vendor_data.json";
/// What the cloud says of this one instance, where [`VENDOR_DATA`] is for all of them; it counts before that.
pub const VENDOR_DATA_2: &str = "vendor_data2.json";

/// The folder of all of it.
const FOLDER: &str = "openstack";

/// The folders with documents in [`FOLDER`], as cloud-init looks for them: the newest that it knows first.
const VERSIONS: [&str; 9] = [
    "2018-08-27",
    "2017-02-22",
    "2016-10-06",
    "2016-06-30",
    "2015-10-15",
    "2013-10-17",
    "2013-04-04",
    "2012-08-10",
    "latest",
];

/// The permissions of the files that meta-data names, as cloud-init writes them.
const MODE: i64 = 0o660;

/// A file's bytes, that it is not there, or why it can't be read.
type File = Result<Option<Vec<u8>>, String>;

/// The documents [`FILES`] of the version that counts, and [`VENDOR_DATA_2`], by who reads a file at its path.
/// None where there is no meta-data.
pub fn documents(read: &mut impl FnMut(&str) -> File) -> Option<([File; 4], File)> {
    VERSIONS.into_iter().find_map(|version| {
        let mut document = |name: &str| read(&format!("{FOLDER}/{version}/{name}"));
        let meta = document(META_DATA);
        (!matches!(meta, Ok(None))).then(|| {
            let [_, network, vendor, user] = FILES;
            let files = [meta, document(network), document(vendor), document(user)];
            (files, document(VENDOR_DATA_2))
        })
    })
}

/// Takes in `meta_data.json`, with the files that it names.
///
/// # Errors
/// If it is no JSON of keys and values.
pub fn meta_data(
    text: &str,
    has_network: bool,
    whole_name: bool,
    instance: &mut Instance,
    read: &mut impl FnMut(&str) -> File,
) -> Checked<()> {
    let root = json::parse(META_DATA, text)?;
    let whole = Field::root(&root);
    let entries = whole.entries()?;
    if whole.get("uuid").is_none() {
        instance.refuse(format_args!("{META_DATA}: `uuid` is missing"));
    }
    for (key, field) in entries {
        match key {
            "uuid" => meta_data::instance_id(&field, instance),
            "hostname" => match platform_name(&field, whole_name) {
                Ok(name) => {
                    instance.settings.hostname = Some(name);
                    field.take(instance);
                }
                Err(error) => instance.refuse(error),
            },
            "files" => match field.items() {
                Ok(items) => items.iter().for_each(|item| injected(item, instance, read)),
                Err(error) => instance.refuse(error),
            },
            "network_config" if has_network => {
                field.ignore(instance, "the file network_data.json counts");
            }
            "network_config" => {
                let taken = interfaces(&field, instance, read);
                taken.unwrap_or_else(|error| instance.refuse(error));
            }
            // What the cloud has to say of the machine, which asks for nothing.
            "name" | "availability_zone" | "launch_index" | "project_id" | "devices"
            | "dedicated_cpus" => {}
            "meta" => {
                if let Some(mode) = field.get("dsmode") {
                    mode.ignore(instance, "a seed is read once, before the network is up");
                }
            }
            "public_keys" | "keys" | "admin_pass" => {
                field.ignore(instance, "the guest has no accounts and no login");
            }
            _ => field.ignore(instance, UNKNOWN),
        }
    }
    Ok(())
}

/// The file that `content_path` names.
fn content(item: &Field<'_>, read: &mut impl FnMut(&str) -> File) -> Checked<Vec<u8>> {
    let path = item
        .get("content_path")
        .map_or(Ok(""), |path| path.text())?;
    let parts: Vec<&str> = path.split('/').filter(|part| !part.is_empty()).collect();
    if parts.is_empty() {
        return item.wrong("`content_path` is missing");
    }
    match read(&format!("{FOLDER}/{}", parts.join("/"))) {
        Ok(Some(bytes)) => Ok(bytes),
        Ok(None) => item.wrong(format!("`{path}` is not on the disk, below {FOLDER}")),
        Err(error) => item.wrong(error),
    }
}

/// A file to write; one without a `path` is for somebody else, as with cloud-init.
fn injected(item: &Field<'_>, instance: &mut Instance, read: &mut impl FnMut(&str) -> File) {
    let Some(path) = item.get("path") else {
        return item.ignore(instance, "it has no `path`");
    };
    let mut file = || -> Checked<SeedFile> {
        let path = guest_path(&path)?;
        // Nothing is read for one that is too many.
        fits(item, instance, 0)?;
        let content = content(item, read)?;
        fits(item, instance, content.len())?;
        Ok(SeedFile {
            path,
            mode: Mode::try_from(MODE).or_else(|unfit| item.wrong(unfit))?,
            uid: 0,
            gid: 0,
            append: false,
            length: content.len(),
            content,
        })
    };
    match file() {
        Ok(file) => {
            instance.files.push(file);
            item.take(instance);
        }
        Err(error) => instance.refuse(error),
    }
}

/// The network in the form of `/etc/network/interfaces`, in a file that meta-data names.
fn interfaces(
    field: &Field<'_>,
    instance: &mut Instance,
    read: &mut impl FnMut(&str) -> File,
) -> Checked<()> {
    let bytes = content(field, read)?;
    let text = content::text(&bytes).or_else(|error| field.wrong(error))?;
    let node = Node {
        place: field.place().clone(),
        value: Value::Quoted(text.into_owned()),
    };
    network_config::take_interfaces(&Field::root(&node), instance)
}

/// Takes in `network_data.json`.
///
/// # Errors
/// If it is no JSON of this shape.
pub fn network_data(text: &str, instance: &mut Instance) -> Checked<()> {
    let root = json::parse(NETWORK_DATA, text)?;
    network_config::take_openstack(&Field::root(&root), instance)
}

/// What `vendor_data.json`, or the other one of this name, has for cloud-init: a text, or several, in it or
/// below its key `cloud-init`. What else is there is for other programs.
///
/// # Errors
/// If it is no JSON of this shape.
pub fn vendor_data(name: &str, text: &str) -> Checked<Vec<Vec<u8>>> {
    let root = json::parse(name, text)?;
    let whole = Field::root(&root);
    let field = match whole.value() {
        Value::Map(_) => whole.get("cloud-init"),
        _ => Some(whole),
    };
    let Some(field) = field.filter(|field| !field.is_null()) else {
        return Ok(Vec::new());
    };
    match field.value() {
        Value::List(_) => field.items()?.iter().map(Field::bytes).collect(),
        _ => Ok(vec![field.bytes()?]),
    }
}
