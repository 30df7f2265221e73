//! `user-data` that begins with `#cloud-config`, as far as it means something in this guest.
//!
//! Keys and forms are those of cloud-init's modules set_hostname, write_files, runcmd, bootcmd and
//! ntp (its documentation, "Module reference"). What is honoured must be right, else the whole seed is
//! refused; any other key is ignored by name.

mod commands;
mod ntp;
mod write_files;

use commands::commands;
use noonmark_contract::config::Start;
use noonmark_contract::seed::instance::Instance;
use write_files::write_files;

use crate::value::{Checked, UNKNOWN, boolean, document, get, optional};
use crate::yaml::Node;

/// The first line of a cloud-config.
pub const HEADER: &str = "#cloud-config";

/// Takes in a cloud-config.
///
/// # Errors
/// [`DocumentError`](crate::value::DocumentError).
pub fn read(text: &str, instance: &mut Instance) -> Checked<()> {
    let entries = document(text)?;
    let get = |key: &str| get(&entries, key);
    let flag = |key: &str| get(key).map_or(Ok(false), |value| boolean(value, key));
    if flag("preserve_hostname")? {
        instance.settings.hostname = None;
    } else {
        let (first, second) = if flag("prefer_fqdn_over_hostname")? {
            ("fqdn", "hostname")
        } else {
            ("hostname", "fqdn")
        };
        let named = [first, second].into_iter().find(|key| get(key).is_some());
        if let Some(key) = named
            && let Some(value) = get(key)
        {
            let hostname = &mut instance.settings.hostname;
            *hostname = optional(value, key)?.or(hostname.take());
        }
    }
    for (key, start) in [("bootcmd", Start::Boot), ("runcmd", Start::ClockSynced)] {
        if let Some(value) = get(key) {
            commands(value, key, start, instance)?;
        }
    }
    for (key, value) in &entries {
        match key.as_str() {
            "hostname"
            | "fqdn"
            | "preserve_hostname"
            | "prefer_fqdn_over_hostname"
            | "bootcmd"
            | "runcmd" => {}
            "write_files" => write_files(value, instance)?,
            "ntp" => ntp::servers(value, instance)?,
            _ => instance.ignore(key, reason(key, value)),
        }
    }
    Ok(())
}

/// Why a key is ignored.
fn reason(key: &str, value: &Node) -> &'static str {
    match key {
        "timezone" if matches!(value, Node::Text(zone) if zone == "UTC" || zone == "Etc/UTC") => {
            "the guest's zone is UTC as it is"
        }
        "timezone" => "the guest has no zones' database; its programs use UTC, or $TZ",
        "packages" | "package_update" | "package_upgrade" | "apt" | "snap" => {
            "the guest has no package manager"
        }
        "users"
        | "groups"
        | "password"
        | "chpasswd"
        | "ssh_pwauth"
        | "user"
        | "ssh_authorized_keys"
        | "ssh_keys"
        | "disable_root" => "the guest has no accounts and no login",
        "mounts" | "fs_setup" | "disk_setup" | "growpart" | "resize_rootfs" | "swap" => {
            "the image names its data disks, in `[[mount]]`"
        }
        _ => UNKNOWN,
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use crate::meta_data;

    use super::*;

    fn taken(text: &str) -> Instance {
        let mut instance = Instance::default();
        read(text, &mut instance).unwrap();
        instance
    }

    fn error(text: &str) -> String {
        let read = read(text, &mut Instance::default());
        read.unwrap_err().to_string()
    }

    fn name(text: &str) -> Option<String> {
        taken(text).settings.hostname.map(String::from)
    }

    #[test]
    fn the_host_name_follows_cloud_inits_precedence() {
        assert_eq!(name("hostname: a\nfqdn: b.c\n").as_deref(), Some("a"));
        assert_eq!(name("fqdn: b.c\n").as_deref(), Some("b.c"));
        let preferred = "hostname: a\nfqdn: b.c\nprefer_fqdn_over_hostname: true\n";
        assert_eq!(name(preferred).as_deref(), Some("b.c"));
        assert_eq!(name("hostname: a\npreserve_hostname: yes\n"), None);
        let mut instance = Instance::default();
        meta_data::read("instance-id: i-1\nlocal-hostname: m\nx: 1\n", &mut instance).unwrap();
        assert_eq!(instance.id.as_deref(), Some("i-1"));
        assert_eq!(instance.ignored.len(), 1);
        read("hostname: u\n", &mut instance).unwrap();
        assert_eq!(instance.settings.hostname.unwrap().as_str(), "u");
    }

    #[test]
    fn files_are_taken_with_content_mode_and_owner() {
        let instance = taken(
            "write_files:\n- path: /etc/a\n  content: |\n    one\n  permissions: 0600\n  \
             owner: 1000:50\n- path: /etc/b\n  encoding: b64\n  content: aGk=\n  append: true\n- \
             {path: /etc/c, content: !!binary aGk=, permissions: '0755'}\n",
        );
        let told: Vec<_> = instance
            .files
            .iter()
            .map(|file| {
                let text = String::from_utf8_lossy(&file.content).into_owned();
                (text, file.mode.get(), file.uid, file.gid, file.append)
            })
            .collect();
        let expected = [
            ("one\n".to_owned(), 0o600, 1000, 50, false),
            ("hi".to_owned(), 0o644, 0, 0, true),
            ("hi".to_owned(), 0o755, 0, 0, false),
        ];
        assert_eq!(told, expected);
    }

    #[test]
    fn commands_as_lists_are_taken_and_texts_are_ignored_by_name() {
        let instance =
            taken("runcmd:\n- [/bin/a, -x, 5]\n- echo hello\n- [ls, -l]\nbootcmd:\n- [/bin/b]\n");
        let services: Vec<_> = instance
            .services
            .iter()
            .map(|service| (service.name.as_str(), service.start, service.exec.len()))
            .collect();
        let expected = [
            ("bootcmd.0", Start::Boot, 1),
            ("runcmd.0", Start::ClockSynced, 3),
        ];
        assert_eq!(services, expected);
        let ignored = instance.ignored.join("\n");
        assert!(
            ignored.contains("runcmd[1]: a text needs a shell"),
            "{ignored}"
        );
        assert!(
            ignored.contains("runcmd[2]: the program's absolute"),
            "{ignored}"
        );
    }

    #[test]
    fn keys_that_mean_nothing_are_ignored_by_name_with_the_reason() {
        let instance = taken("packages: [vim]\nfrobnicate: {a: [1]}\ntimezone: Etc/UTC\n");
        assert_eq!(
            instance.ignored,
            [
                "packages: the guest has no package manager",
                "frobnicate: means nothing to this guest",
                "timezone: the guest's zone is UTC as it is",
            ]
        );
    }

    #[test]
    fn what_is_wrong_in_an_honoured_key_is_named_with_its_place() {
        for (text, named) in [
            ("hostname: a_b\n", "hostname: `a_b`"),
            ("write_files: x\n", "write_files: expected a list"),
            (
                "write_files: [{content: x}]\n",
                "write_files[0].path: is missing",
            ),
            ("write_files: [{path: /a/../b}]\n", "write_files[0].path"),
            ("write_files: [{path: /a, encoding: rot13}]\n", "rot13"),
            (
                "write_files: [{path: /a, permissions: '9'}]\n",
                "permissions",
            ),
            (
                "write_files: [{path: /a, owner: joe}]\n",
                "write_files[0].owner",
            ),
            (
                "write_files: [{path: /a, encoding: b64, content: '%'}]\n",
                "content: no base64",
            ),
            ("- a\n", "expected keys and values"),
        ] {
            let error = error(text);
            assert!(error.contains(named), "{text}: {error}");
        }
    }

    proptest! {
        #[test]
        fn no_document_upsets_the_reader(
            text in "(hostname|write_files|runcmd|path|content|-|:|\\[|\\]|\\{|\\}|,| |\n|x|0){0,60}",
        ) {
            let _ = read(&text, &mut Instance::default());
            let _ = meta_data::read(&text, &mut Instance::default());
        }
    }
}
