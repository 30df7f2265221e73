//! `meta-data`: the instance's id, and its host name unless user-data gives another.

use noonmark_contract::seed::instance::Instance;

use crate::cloud_config::platform_name;
use crate::network_config;
use crate::value::{Checked, Field, UNKNOWN, document};

/// The longest instance id.
const ID_MAX: usize = 128;

/// Takes in the document. A network configuration in it counts where there is no file of its own;
/// `whole_name` says that its host name counts with its domain.
///
/// # Errors
/// [`DocumentError`](crate::value::DocumentError).
pub fn read(
    text: &str,
    has_network: bool,
    whole_name: bool,
    instance: &mut Instance,
) -> Checked<()> {
    let root = document("meta-data", text, instance)?;
    let has_interfaces = Field::root(&root).get("network-interfaces").is_some();
    for (key, field) in Field::root(&root).entries()? {
        match key {
            "instance-id" => instance_id(&field, instance),
            "local-hostname" => match platform_name(&field, whole_name) {
                Ok(name) => {
                    instance.settings.hostname = Some(name);
                    field.take(instance);
                }
                Err(error) => instance.refuse(error),
            },
            "network" | "network_config" | "network-interfaces" if has_network => {
                field.ignore(instance, "the file network-config counts");
            }
            "network" | "network_config" if has_interfaces => {
                field.ignore(instance, "the key network-interfaces counts");
            }
            "network" | "network_config" | "network-interfaces" => {
                let before = instance.clone();
                let taken = match key {
                    "network-interfaces" => network_config::take_interfaces(&field, instance),
                    _ => network_config::take(&field, instance),
                };
                if let Err(error) = taken {
                    *instance = before;
                    instance.refuse(error);
                }
            }
            _ => field.ignore(instance, UNKNOWN),
        }
    }
    Ok(())
}

/// Takes in the instance's id.
pub fn instance_id(field: &Field<'_>, instance: &mut Instance) {
    match field.text() {
        Ok(id) if id.len() <= ID_MAX && !id.chars().any(char::is_control) => {
            instance.id = Some(id.into());
            field.take(instance);
        }
        _ => {
            let wrong = "expected at most 128 printable characters";
            instance.refuse(format_args!("{field}: {wrong}"));
        }
    }
}
