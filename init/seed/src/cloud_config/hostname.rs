//! `hostname`, `fqdn` and what says which of them counts.

use std::net::Ipv4Addr;

use noonmark_contract::config::values::Hostname;

use crate::instances::Instances;
use crate::value::{Checked, Field};

/// Takes in the name: the host's part of it, unless the whole one is preferred.
pub fn hostname(config: &Field<'_>, instances: &mut Instances) -> Checked<()> {
    let flag = |key: &str| config.get(key).map_or(Ok(false), |field| field.boolean());
    let (hostname, fqdn) = (config.get("hostname"), config.get("fqdn"));
    if flag("preserve_hostname")? {
        instances.preserve_hostname = true;
        for field in [hostname, fqdn].into_iter().flatten() {
            field.ignore(instances.of(&field), "preserve_hostname says so");
        }
        return Ok(());
    }
    let whole = flag("prefer_fqdn_over_hostname")?;
    let field = match whole {
        true => fqdn.or(hostname),
        false => hostname.or(fqdn),
    };
    let Some(field) = field else {
        return Ok(());
    };
    let name = match whole {
        true => field.parsed()?,
        false => short_name(&field)?,
    };
    let instance = instances.of(&field);
    instance.settings.hostname = Some(name);
    field.take(instance);
    Ok(())
}

/// The name without its domain; of an address a name is made.
///
/// # Errors
/// If it is no host name.
pub fn short_name(field: &Field<'_>) -> Checked<Hostname> {
    let text = field.text()?.trim();
    let name = match text.parse::<Ipv4Addr>() {
        Ok(_) => format!("ip-{}", text.replace('.', "-")),
        Err(_) => text.split('.').next().unwrap_or_default().to_owned(),
    };
    let parsed: Result<Hostname, _> = name.parse();
    parsed.or_else(|unfit| field.wrong(unfit))
}
