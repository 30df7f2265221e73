//! `ntp`: time servers, for an image that has the client for them.

use noonmark_contract::config::network::{NtpConfig, Server};
use noonmark_contract::seed::instance::Instance;

use crate::value::{Checked, UNKNOWN, boolean, list, map, parsed, wrong};
use crate::yaml::Node;

/// Takes in the servers. Of a pool one server is asked, as of any name.
pub fn servers(value: &Node, instance: &mut Instance) -> Checked<()> {
    let mut servers: Vec<Server> = Vec::new();
    let mut enabled = true;
    for (key, value) in map(value, "ntp")? {
        let name = format!("ntp.{key}");
        match key.as_str() {
            "enabled" => enabled = boolean(value, &name)?,
            "servers" | "pools" => {
                for (index, item) in list(value, &name)?.iter().enumerate() {
                    servers.push(parsed(item, &format!("{name}[{index}]"))?);
                }
            }
            "peers" | "allow" => {
                instance.ignore(&name, "the guest serves no time to others");
            }
            "ntp_client" | "config" => {
                instance.ignore(&name, "the guest has an NTP client of its own")
            }
            _ => instance.ignore(&name, UNKNOWN),
        }
    }
    if !enabled {
        servers.clear();
    }
    NtpConfig::check_servers(&servers).or_else(|problem| wrong("ntp", problem))?;
    // As with cloud-init, a section that names no server leaves the image's.
    if !enabled || !servers.is_empty() {
        instance.settings.ntp.servers = Some(servers);
    }
    Ok(())
}
