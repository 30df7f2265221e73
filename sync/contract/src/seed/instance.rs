//! What a document of a seed gives one instance of an image, and what a seed may not touch.

use alloc::format;
use alloc::string::{String, ToString as _};
use alloc::vec::Vec;

use serde::{Deserialize, Serialize};
use thiserror::Error;

use crate::config::network::NtpConfig;
use crate::config::settings::Settings;
use crate::config::values::{GuestPath, Mode};
use crate::config::{Service, SystemCallFilter};

/// How many files a seed may write.
pub const FILES_MAX: usize = 256;

/// How many bytes they may have together.
pub const CONTENT_MAX: usize = 4 << 20;

/// How many services and commands a seed may add.
pub const SERVICES_MAX: usize = 64;

/// How many things a document tells of a kind: of what is taken, ignored, refused.
pub const NOTES_MAX: usize = 64;

/// How much of the place and the name of something ignored is told.
const KEY_MAX: usize = 120;

/// How much of anything else is told.
const NOTE_MAX: usize = 400;

/// The longest instance id.
const ID_MAX: usize = 128;

/// Folders whose content is PID 1's or the kernel's own, or becomes part of programs that have rights
/// which no seed can give: libraries (ld.so(8)).
const GUARDED: [&str; 10] = [
    "/dev",
    "/proc",
    "/sys",
    "/run/noonmark",
    "/lib",
    "/lib32",
    "/lib64",
    "/usr/lib",
    "/usr/lib64",
    "/usr/local/lib",
];

/// What names libraries to glibc's and to musl's dynamic linkers begins so.
const LINKERS: [&str; 2] = ["/etc/ld.so.", "/etc/ld-musl-"];

/// Everything that a document of a seed says, checked.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Instance {
    /// `instance-id` of the meta-data; printable.
    pub id: Option<String>,
    /// Settings in the place of the image's.
    pub settings: Settings,
    /// Files to write before anything is started, in this order.
    pub files: Vec<SeedFile>,
    /// Programs to start beside the image's.
    pub services: Vec<Service>,
    /// What is honoured, each with its place.
    pub taken: Vec<String>,
    /// What means nothing here, each with its place and the reason.
    pub ignored: Vec<String>,
    /// What is wrong or not allowed, and so is left out, each with its place and the reason.
    pub refused: Vec<String>,
}

/// A file that a seed writes.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct SeedFile {
    /// Where.
    pub path: GuestPath,
    /// Permission bits.
    pub mode: Mode,
    /// Owner.
    pub uid: u32,
    /// Group.
    pub gid: u32,
    /// Whether what is there stays in front of it.
    pub append: bool,
    /// What is in it; travels beside the JSON.
    #[serde(skip)]
    pub content: Vec<u8>,
    /// How many bytes that are.
    pub length: usize,
}

/// Something that a seed asks for and must not have; names the key.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
#[error("{0}")]
pub struct InstanceError(pub String);

impl Instance {
    /// An instance of which nothing but this is known: why its document is refused.
    #[must_use]
    pub fn refused(why: impl core::fmt::Display) -> Self {
        let mut instance = Self::default();
        instance.refuse(why);
        instance
    }

    /// Notes something that is honoured, as far as there is room.
    pub fn take(&mut self, what: impl core::fmt::Display) {
        note(&mut self.taken, what);
    }

    /// Notes something that does nothing, as far as there is room.
    pub fn ignore(&mut self, what: impl core::fmt::Display, why: &str) {
        let what = printable(&what.to_string(), KEY_MAX);
        note(&mut self.ignored, format_args!("{what}: {why}"));
    }

    /// Notes something that is left out because it is wrong, as far as there is room.
    pub fn refuse(&mut self, why: impl core::fmt::Display) {
        note(&mut self.refused, why);
    }

    /// Checks what the types alone don't say: sizes, and what no seed may do. Both ends of the pipe
    /// call it, so that PID 1 believes nothing of what the reader says.
    ///
    /// # Errors
    /// The first thing that is refused.
    pub fn check(&self) -> Result<(), InstanceError> {
        let refuse = |what: String| Err(InstanceError(what));
        if let Some(id) = &self.id
            && (id.len() > ID_MAX || *id != printable(id, ID_MAX))
        {
            return refuse("instance-id: expected at most 128 printable characters".into());
        }
        if self.files.len() > FILES_MAX {
            return refuse(format!("more than {FILES_MAX} files"));
        }
        let mut total = 0_usize;
        for file in &self.files {
            total = total.saturating_add(file.length);
            check_path(&file.path)?;
        }
        if total > CONTENT_MAX {
            return refuse(format!(
                "the files have {total} bytes together; at most {CONTENT_MAX} are taken"
            ));
        }
        if self.services.len() > SERVICES_MAX {
            return refuse(format!("more than {SERVICES_MAX} services and commands"));
        }
        for service in &self.services {
            if !service.capabilities.is_empty() {
                return refuse(format!(
                    "service {}: a seed can't give capabilities; only the image can",
                    service.name
                ));
            }
            if !service.private_devices
                || service.system_call_filter != SystemCallFilter::Default
                || !service.restrict_namespaces
                || !service.no_new_privileges
            {
                return refuse(format!(
                    "service {}: a seed can't give the machine's devices, system calls, namespaces or \
                     privileges; only the image can",
                    service.name
                ));
            }
        }
        if let Some(network) = &self.settings.network {
            network.check().or_else(|error| refuse(error.to_string()))?;
        }
        if let Some(servers) = &self.settings.ntp.servers {
            let checked = NtpConfig::check_servers(servers);
            checked.or_else(|problem| refuse(format!("ntp.servers: {problem}")))?;
        }
        for name in self.settings.sysctl.keys() {
            // Some of the others make the kernel run a program with all rights.
            if !["net.", "vm."]
                .iter()
                .any(|start| name.as_str().starts_with(start))
            {
                return refuse(format!(
                    "sysctl.{name}: a seed may set `net.*` and `vm.*`; the image and the kernel \
                     command line may set any"
                ));
            }
        }
        Ok(())
    }
}

fn note(notes: &mut Vec<String>, what: impl core::fmt::Display) {
    if notes.len() < NOTES_MAX {
        notes.push(printable(&what.to_string(), NOTE_MAX));
    }
}

/// Whether a seed may write this file.
///
/// # Errors
/// If it is PID 1's own, or the kernel's.
pub fn check_path(path: &GuestPath) -> Result<(), InstanceError> {
    let text = path.as_str();
    let within = |folder: &str| {
        let rest = text.strip_prefix(folder);
        rest.is_some_and(|rest| rest.is_empty() || rest.starts_with('/'))
    };
    let own = within("/init") || text.starts_with("/noonmark");
    let linkers = LINKERS.iter().any(|start| text.starts_with(start));
    if own || linkers || GUARDED.iter().any(|folder| within(folder)) {
        return Err(InstanceError(format!(
            "the file {path}: a seed may not write there"
        )));
    }
    Ok(())
}

/// Foreign text as a log can show it: control characters escaped, and cut to about `max` bytes.
#[must_use]
pub fn printable(text: &str, max: usize) -> String {
    let mut shown = String::new();
    for character in text.chars() {
        if shown.len() >= max {
            shown.push_str("...");
            break;
        }
        if character.is_control() {
            shown.extend(character.escape_default());
        } else {
            shown.push(character);
        }
    }
    shown
}

#[cfg(test)]
mod tests {
    use alloc::vec;

    use super::*;

    fn file(path: &str) -> SeedFile {
        SeedFile {
            path: path.parse().unwrap(),
            mode: Mode::try_from(0o644).unwrap(),
            uid: 0,
            gid: 0,
            append: false,
            content: Vec::new(),
            length: 0,
        }
    }

    #[test]
    fn a_seed_writes_neither_pid_1s_files_nor_the_kernels() {
        for path in [
            "/init",
            "/init/x",
            "/noonmark.json",
            "/noonmark-seed",
            "/proc/sysrq-trigger",
            "/sys/x",
            "/dev/mem",
            "/lib/modules/x.ko",
            "/lib/x86_64-linux-gnu/libc.so.6",
            "/usr/lib/libssl.so.3",
            "/etc/ld.so.preload",
            "/etc/ld-musl-x86_64.path",
        ] {
            let instance = Instance {
                files: vec![file(path)],
                ..Instance::default()
            };
            let error = instance.check().unwrap_err().to_string();
            assert!(error.contains(path), "{error}");
        }
        for path in [
            "/etc/init",
            "/initial",
            "/device",
            "/library",
            "/run/x",
            "/etc/ld",
        ] {
            assert_eq!(check_path(&path.parse().unwrap()), Ok(()), "{path}");
        }
    }

    #[test]
    fn a_seed_gives_a_service_no_devices_and_no_system_calls() {
        let service = Service::new("a", vec!["/a".into()]);
        let check = |service: Service| {
            let services = vec![service];
            Instance {
                services,
                ..Instance::default()
            }
            .check()
        };
        assert_eq!(check(service.clone()), Ok(()));
        for with_more in [
            Service {
                private_devices: false,
                ..service.clone()
            },
            Service {
                system_call_filter: SystemCallFilter::None,
                ..service.clone()
            },
        ] {
            let error = check(with_more).unwrap_err().to_string();
            assert!(error.contains("service a"), "{error}");
        }
    }

    #[test]
    fn a_seed_sets_no_kernel_setting_that_runs_programs() {
        let mut instance = Instance::default();
        let value: crate::config::values::SysctlValue = "x".parse().unwrap();
        for name in ["net.core.somaxconn", "vm.swappiness"] {
            let sysctl = &mut instance.settings.sysctl;
            sysctl.insert(name.parse().unwrap(), value.clone());
        }
        assert_eq!(instance.check(), Ok(()));
        let name = "kernel.core_pattern";
        instance
            .settings
            .sysctl
            .insert(name.parse().unwrap(), value);
        assert!(instance.check().unwrap_err().0.contains(name));
    }

    #[test]
    fn foreign_text_is_shown_without_control_characters() {
        assert_eq!(printable("a\u{1b}[31m\n", 80), "a\\u{1b}[31m\\n");
        assert_eq!(printable("abcdef", 3), "abc...");
    }
}
