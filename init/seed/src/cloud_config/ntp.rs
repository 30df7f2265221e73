//! `ntp`: time servers, for an image that has the client for them.

use noonmark_contract::config::network::{NtpConfig, Server};
use noonmark_contract::seed::instance::Instance;

use crate::value::{Checked, Field, UNKNOWN};

/// Takes in the servers. Of a pool one server is asked, as of any name.
pub fn servers(ntp: &Field<'_>, instance: &mut Instance) -> Checked<()> {
    let mut servers: Vec<Server> = Vec::new();
    let mut enabled = true;
    for (key, field) in ntp.entries()? {
        match key {
            "enabled" => enabled = field.switch(instance),
            "servers" | "pools" => {
                for item in field.items()? {
                    match item.parsed() {
                        Ok(server) if servers.contains(&server) => {
                            item.ignore(instance, "it is there twice");
                        }
                        Ok(_) if servers.len() == NtpConfig::SERVERS_MAX => {
                            item.ignore(instance, "so many servers are not asked");
                        }
                        Ok(server) => servers.push(server),
                        Err(error) => instance.refuse(error),
                    }
                }
            }
            "peers" | "allow" => field.ignore(instance, "the guest serves no time to others"),
            "ntp_client" | "config" => {
                field.ignore(instance, "the guest has an NTP client of its own");
            }
            _ => field.ignore(instance, UNKNOWN),
        }
    }
    if !enabled {
        servers.clear();
    }
    // As with cloud-init, a section that names no server leaves the image's.
    if !enabled || !servers.is_empty() {
        instance.settings.ntp.servers = Some(servers);
        ntp.take(instance);
    }
    Ok(())
}
