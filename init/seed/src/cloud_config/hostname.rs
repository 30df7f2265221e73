//! `hostname`, `fqdn` and what says which of them counts, as cloud-init's `get_hostname_fqdn` has it.

use std::net::Ipv4Addr;

use noonmark_contract::config::values::Hostname;

use crate::instances::Instances;
use crate::value::{Checked, Field};

/// Takes in the name: the host's part of it, unless the whole one is preferred or `fqdn` stands beside it.
pub fn hostname(config: &Field<'_>, instances: &mut Instances) -> Checked<()> {
    let mut flag = |key: &str| {
        let field = config.get(key);
        field.is_some_and(|field| field.switch(instances.of(&field)))
    };
    let (hostname, fqdn) = (config.get("hostname"), config.get("fqdn"));
    let (preserve, whole) = (flag("preserve_hostname"), flag("prefer_fqdn_over_hostname"));
    if preserve {
        instances.preserve_hostname = true;
        for field in [hostname, fqdn].into_iter().flatten() {
            field.ignore(instances.of(&field), "preserve_hostname says so");
        }
        return Ok(());
    }
    let is_beside = hostname.is_some() && fqdn.is_some();
    let field = match whole {
        true => fqdn.or(hostname),
        false => hostname.or(fqdn),
    };
    let Some(field) = field else {
        instances.prefer_whole_name = whole;
        return Ok(());
    };
    let name = match whole || is_beside {
        true => field.parsed()?,
        false => first_label(&field, field.text()?.trim())?,
    };
    let instance = instances.of(&field);
    instance.settings.hostname = Some(name);
    field.take(instance);
    Ok(())
}

/// A platform's name, without its domain unless the whole one is wanted; of an address a name is made.
///
/// # Errors
/// If it is no host name.
pub fn platform_name(field: &Field<'_>, whole: bool) -> Checked<Hostname> {
    let text = field.text()?.trim();
    if text.parse::<Ipv4Addr>().is_ok() {
        return first_label(field, &format!("ip-{}", text.replace('.', "-")));
    }
    match whole {
        true => field.parsed(),
        false => first_label(field, text),
    }
}

/// The name before the first dot.
fn first_label(field: &Field<'_>, name: &str) -> Checked<Hostname> {
    let name = name.split('.').next().unwrap_or_default();
    let parsed: Result<Hostname, _> = name.parse();
    parsed.or_else(|unfit| field.wrong(unfit))
}
