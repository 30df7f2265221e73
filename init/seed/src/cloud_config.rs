//! A cloud-config, as far as a guest without accounts, packages and shell can honour one.
//!
//! The keys that are honoured are those of cloud-init: hostname, fqdn, write_files, runcmd, bootcmd and
//! ntp (its documentation, "Module reference"). An entry of a list that can't be used is left out and
//! told, as is a key whose value is wrong; any other key is ignored by name. Where an entry wants what no
//! seed may have, the whole document is refused.

mod commands;
mod hostname;
mod ntp;
mod write_files;

pub use hostname::platform_name;
use noonmark_contract::config::Start;
use write_files::write_files;
pub use write_files::{fits, guest_path};

use crate::instances::Instances;
use crate::root::Root;
use crate::user_data::Script;
use crate::value::{Checked, Field, UNKNOWN};
use crate::yaml::Node;

/// The first line of a cloud-config.
pub const HEADER: &str = "#cloud-config";

/// Takes in a cloud-config, which may be merged from several, and the scripts beside it, for an image of
/// which this is known. As with cloud-init scripts are run in the order of their names, of which `runcmd` is
/// one.
pub fn read(config: &Node, scripts: Vec<Script>, root: &Root, instances: &mut Instances) {
    let whole = Field::root(config);
    keep(hostname::hostname(&whole, instances), &whole, instances);
    if let Some(field) = whole.get("bootcmd") {
        let taken = commands::commands(&field, Start::Boot, root, instances);
        keep(taken, &field, instances);
    }
    let (before, after): (Vec<_>, Vec<_>) = scripts.into_iter().partition(Script::is_before_runcmd);
    for script in before {
        commands::script(script, root, instances);
    }
    if let Some(field) = whole.get("runcmd") {
        let taken = commands::commands(&field, Start::ClockSynced, root, instances);
        keep(taken, &field, instances);
    }
    for script in after {
        commands::script(script, root, instances);
    }
    let entries = whole.entries().unwrap_or_default();
    for (key, field) in entries {
        let instance = instances.of(&field);
        match key {
            "hostname"
            | "fqdn"
            | "preserve_hostname"
            | "prefer_fqdn_over_hostname"
            | "bootcmd"
            | "runcmd"
            | "merge_how"
            | "merge_type" => {}
            "write_files" => {
                let written = write_files(&field, root, instances);
                keep(written, &field, instances);
            }
            "ntp" => {
                let servers = ntp::servers(&field, instance);
                keep(servers, &field, instances);
            }
            _ => field.ignore(instance, reason(key, &field)),
        }
    }
}

/// Tells what is wrong with a key, which does nothing then.
fn keep(taken: Checked<()>, field: &Field<'_>, instances: &mut Instances) {
    if let Err(error) = taken {
        instances.of(field).refuse(error);
    }
}

/// Why a key is ignored.
fn reason(key: &str, field: &Field<'_>) -> &'static str {
    match key {
        "timezone" if matches!(field.text(), Ok("UTC" | "Etc/UTC")) => {
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

    use noonmark_contract::seed::instance::Instance;

    use crate::value::document;

    use super::*;

    /// What this says to an image of which this is known.
    fn read_by(text: &str, root: &Root) -> Instance {
        let mut instances = Instances::default();
        match document("user-data", text, &mut instances.user) {
            Ok(config) => read(&config, Vec::new(), root, &mut instances),
            Err(error) => instances.user.refuse(error),
        }
        instances.user
    }

    fn taken(text: &str) -> Instance {
        read_by(text, &Root::unknown())
    }

    fn name(text: &str) -> Option<String> {
        taken(text).settings.hostname.map(String::from)
    }

    #[test]
    fn the_host_name_follows_cloud_inits_precedence() {
        assert_eq!(name("hostname: a\nfqdn: b.c\n").as_deref(), Some("a"));
        assert_eq!(name("fqdn: b.c\n").as_deref(), Some("b"));
        assert_eq!(name("hostname: a.b.c\n").as_deref(), Some("a"));
        assert_eq!(name("hostname: a.b\nfqdn: b.c\n").as_deref(), Some("a.b"));
        assert_eq!(name("hostname: 192.0.2.7\n").as_deref(), Some("192"));
        for unclear in ["preserve_hostname: [x]", "prefer_fqdn_over_hostname: maybe"] {
            let instance = taken(&format!("{unclear}\nhostname: a\n"));
            assert_eq!(instance.settings.hostname.unwrap().as_str(), "a");
            assert!(instance.ignored[0].contains("it counts as false"));
        }
        let preferred = "hostname: a\nfqdn: b.c\nprefer_fqdn_over_hostname: true\n";
        assert_eq!(name(preferred).as_deref(), Some("b.c"));
        assert_eq!(
            name("hostname: build_box_1\n").as_deref(),
            Some("build_box_1")
        );
        assert_eq!(name("hostname: a\npreserve_hostname: yes\n"), None);
    }

    #[test]
    fn files_are_taken_with_content_mode_and_owner() {
        let instance = taken(
            "write_files:\n- path: /etc/a\n  content: |\n    one\n  permissions: 0600\n  \
             owner: 1000:50\n- path: /etc/b\n  encoding: b64\n  content: aGk=\n  append: true\n- \
             {path: /etc/c, content: !!binary aGk=, permissions: '0755', defer: true}\n- {path: etc/x/../d}\n",
        );
        let told: Vec<_> = instance
            .files
            .iter()
            .map(|file| {
                let text = String::from_utf8_lossy(&file.content).into_owned();
                let path = file.path.as_str();
                (path, text, file.mode.get(), file.uid, file.gid, file.append)
            })
            .collect();
        let expected = [
            ("/etc/a", "one\n".to_owned(), 0o600, 1000, 50, false),
            ("/etc/b", "hi".to_owned(), 0o644, 0, 0, true),
            ("/etc/c", "hi".to_owned(), 0o755, 0, 0, false),
            ("/etc/d", String::new(), 0o644, 0, 0, false),
        ];
        assert_eq!(told, expected);
        assert_eq!(instance.taken[0], "user-data line 2: write_files[0]");
    }

    #[test]
    fn permissions_are_what_pyyaml_and_cloud_init_make_of_them() {
        for (written, mode) in [
            ("0644", 0o644),
            ("'0644'", 0o644),
            ("'644'", 0o644),
            ("0o644", 0o644),
            ("420", 0o644),
            ("0x1a4", 0o644),
            ("0b110100100", 0o644),
            ("'1755'", 0o1755),
        ] {
            let text = format!("write_files: [{{path: /a, permissions: {written}}}]\n");
            let instance = taken(&text);
            let [file] = instance.files.as_slice() else {
                panic!("{written}: {instance:?}");
            };
            assert_eq!(file.mode.get(), mode, "{written}");
        }
    }

    #[test]
    fn commands_need_no_shell_where_they_are_lists_and_the_images_where_it_has_one() {
        let text = "runcmd:\n- [/bin/a, -x, 5]\n- echo hello\n- [ls, -l]\nbootcmd:\n- [/bin/b]\n";
        let started = |instance: &Instance| -> Vec<(String, Start, String)> {
            let services = instance.services.iter();
            services
                .map(|service| (service.name.clone(), service.start, service.exec.join(" ")))
                .collect()
        };
        let instance = taken(text);
        let expected = [
            ("bootcmd.0".into(), Start::Boot, "/bin/b".into()),
            ("runcmd.0".into(), Start::ClockSynced, "/bin/a -x 5".into()),
        ];
        assert_eq!(started(&instance), expected);
        let ignored = instance.ignored.join("\n");
        assert!(
            ignored.contains("line 3: runcmd[1]: a text needs a shell"),
            "{ignored}"
        );
        assert!(ignored.contains("line 4: runcmd[2]: `ls`"), "{ignored}");
        let image = tempfile::tempdir().unwrap();
        std::fs::create_dir(image.path().join("bin")).unwrap();
        for program in ["sh", "ls"] {
            std::fs::write(image.path().join("bin").join(program), "").unwrap();
        }
        let instance = read_by(text, &Root::at(image.path().to_owned()));
        let execs: Vec<String> = started(&instance)
            .into_iter()
            .map(|(_, _, exec)| exec)
            .collect();
        assert_eq!(
            execs,
            [
                "/bin/b",
                "/bin/a -x 5",
                "/bin/sh -c echo hello",
                "/bin/ls -l"
            ]
        );
        assert_eq!(instance.ignored, [""; 0]);
    }

    #[test]
    fn a_script_is_run_where_the_image_has_its_interpreter() {
        let script = || Script::new("user-data", false, 1, None, "#! /bin/sh -e\necho\n");
        let read = |root: &Root| {
            let mut instances = Instances::default();
            let text = "runcmd: [[/bin/a]]\n";
            let config = document("user-data", text, &mut instances.user).unwrap();
            super::read(&config, vec![script()], root, &mut instances);
            instances.user
        };
        let instance = read(&Root::unknown());
        assert!(
            instance.ignored[0].contains("#! /bin/sh -e"),
            "{instance:?}"
        );
        assert!(instance.services.len() == 1 && instance.files.is_empty());
        let image = tempfile::tempdir().unwrap();
        std::fs::create_dir(image.path().join("bin")).unwrap();
        std::fs::write(image.path().join("bin/sh"), "").unwrap();
        let instance = read(&Root::at(image.path().to_owned()));
        assert_eq!(instance.files[0].mode.get(), 0o700);
        assert_eq!(instance.services[0].exec, [script().path]);
        assert_eq!(instance.services[1].after.as_deref(), Some("script.0"));
    }

    #[test]
    fn keys_that_mean_nothing_are_ignored_by_name_with_the_reason() {
        let instance = taken("packages: [vim]\nfrobnicate: {a: [1]}\ntimezone: Etc/UTC\n");
        assert_eq!(
            instance.ignored,
            [
                "user-data line 1: packages: the guest has no package manager",
                "user-data line 2: frobnicate: means nothing to this guest",
                "user-data line 3: timezone: the guest's zone is UTC as it is",
            ]
        );
    }

    #[test]
    fn what_is_wrong_is_left_out_and_told_with_its_place_and_the_rest_counts() {
        for (text, named) in [
            ("hostname: 'a b'\n", "hostname: `a b`"),
            ("write_files: x\n", "write_files: expected a list"),
            (
                "write_files: [{content: x}]\n",
                "write_files[0]: `path` is missing",
            ),
            (
                "write_files: [{path: /a, permissions: '9'}]\n",
                "write_files[0].permissions",
            ),
            (
                "write_files: [{path: /a, encoding: b64, content: a}]\n",
                "content: no base64",
            ),
            (
                "write_files: [{path: /a, source: {uri: 'http://192.0.2.1/'}}]\n",
                "write_files[0].source",
            ),
            ("runcmd: [[/x, {a: b}]]\n", "runcmd[0][1]: expected a text"),
            ("ntp: {servers: ['a b']}\n", "ntp.servers[0]"),
            ("- a\n", "expected keys and values"),
        ] {
            let instance = taken(&format!(
                "{text}{}",
                if text.starts_with('-') {
                    ""
                } else {
                    "fqdn: right\n"
                }
            ));
            let [refused] = instance.refused.as_slice() else {
                panic!("{text}: {instance:?}");
            };
            assert!(refused.starts_with("user-data line 1: "), "{refused}");
            assert!(refused.contains(named), "{text}: {refused}");
            assert!(instance.files.is_empty() && instance.services.is_empty());
            if !text.starts_with('-') && !text.starts_with("hostname") {
                assert_eq!(
                    instance.settings.hostname.unwrap().as_str(),
                    "right",
                    "{text}"
                );
            }
        }
    }

    #[test]
    fn an_owner_that_the_image_lacks_leaves_the_file_roots_and_is_told() {
        let instance = taken("write_files: [{path: /a, owner: 'app:app'}]\n");
        assert_eq!((instance.files[0].uid, instance.files[0].gid), (0, 0));
        assert!(
            instance.ignored[0].contains("write_files[0].owner: `app:app`"),
            "{instance:?}"
        );
    }

    proptest! {
        #[test]
        fn no_document_upsets_the_reader(
            text in "(hostname|write_files|runcmd|path|content|-|:|\\[|\\]|\\{|\\}|,| |\n|x|0){0,60}",
        ) {
            let _ = taken(&text);
            let _ = crate::meta_data::read(&text, false, false, &mut Instance::default());
        }
    }
}
