//! Kernel modules: loaded in the order that the image resolved, failures explained.

use std::ffi::CString;
use std::fs::{self, File};
use std::path::Path;

use noonmark_contract::config::Module;
use rustix::io::Errno;
use rustix::system::finit_module;
use thiserror::Error;

/// Where the initrd keeps modules; looked through where the configuration can't be read.
const FOLDER: &str = "/lib/modules";

/// How deep below `/lib/modules` a distribution keeps its modules, and some more.
const DEPTH_MAX: usize = 8;

/// The kernel's command line, which also has parameters of modules (`MODULE.PARAMETER=VALUE`): the
/// kernel keeps those of what is built into it, and leaves the others to who loads modules.
const CMDLINE: &str = "/proc/cmdline";

/// Whether modules may still be loaded; once 1, it stays so (kernel/module/main.c).
const LOCK: &str = "/proc/sys/kernel/modules_disabled";

/// Why a module is not in.
#[derive(Debug, Error)]
pub enum ModuleError {
    /// Its file can't be opened.
    #[error("module {name}: {path}: {source}")]
    Open {
        /// The module's name.
        name: String,
        /// Its file.
        path: String,
        /// Why.
        source: std::io::Error,
    },
    /// The kernel refused it.
    #[error("module {name}: {errno} ({})", meaning(name, *errno))]
    Refused {
        /// The module's name.
        name: String,
        /// What `finit_module` returned.
        errno: Errno,
    },
    /// No module can be loaded any more.
    #[error("module {name}: module loading is locked ({LOCK} is 1)")]
    Locked {
        /// The module's name.
        name: String,
    },
}

/// The kernel's command line; empty where it can't be read, so that modules get no parameters.
#[must_use]
pub fn command_line() -> String {
    fs::read_to_string(CMDLINE).unwrap_or_default()
}

/// Loads one module with its parameters on the kernel's command line, as modprobe(8) does; that it is
/// in already is fine.
///
/// # Errors
/// [`ModuleError`].
pub fn load(module: &Module, command_line: &str) -> Result<(), ModuleError> {
    let file = File::open(&module.path).map_err(|source| ModuleError::Open {
        name: module.name.clone(),
        path: module.path.clone(),
        source,
    })?;
    // The command line ends at its first NUL.
    let parameters = CString::new(parameters(command_line, &module.name)).unwrap_or_default();
    match finit_module(&file, &parameters, 0) {
        Ok(()) | Err(Errno::EXIST) => Ok(()),
        // A driver's own EPERM looks the same.
        Err(Errno::PERM) if is_locked(Path::new(LOCK)) => Err(ModuleError::Locked {
            name: module.name.clone(),
        }),
        Err(errno) => Err(ModuleError::Refused {
            name: module.name.clone(),
            errno,
        }),
    }
}

impl ModuleError {
    /// The module that it is about.
    #[must_use]
    pub fn module(&self) -> &str {
        match self {
            Self::Open { name, .. } | Self::Refused { name, .. } | Self::Locked { name } => name,
        }
    }
}

/// Loads whatever modules the initrd has, for an image whose list can't be read. Their order is not
/// known, so rounds are made until one brings nothing new.
#[must_use]
pub fn load_all() -> Vec<ModuleError> {
    let mut waiting = Vec::new();
    find_in(Path::new(FOLDER), DEPTH_MAX, &mut waiting);
    let command_line = command_line();
    loop {
        let before = waiting.len();
        let mut errors = Vec::new();
        waiting.retain(|module| match load(module, &command_line) {
            Ok(()) => false,
            Err(error) => {
                errors.push(error);
                true
            }
        });
        if waiting.is_empty() || waiting.len() == before {
            return errors;
        }
    }
}

fn find_in(folder: &Path, depth: usize, found: &mut Vec<Module>) {
    let mut paths: Vec<_> = fs::read_dir(folder)
        .map(|dir| dir.flatten().map(|entry| entry.path()).collect())
        .unwrap_or_default();
    paths.sort();
    for path in paths {
        if path.is_dir() {
            if depth > 0 {
                find_in(&path, depth - 1, found);
            }
        } else if path.extension().is_some_and(|extension| extension == "ko")
            && let Some(stem) = path.file_stem().and_then(|stem| stem.to_str())
            && let Some(text) = path.to_str()
        {
            found.push(Module {
                name: stem.replace('-', "_"),
                path: text.into(),
            });
        }
    }
}

/// The parameters of a module among the words of a command line, which end at blanks outside of double
/// quotes; `-` and `_` are the same in its name (kernel/params.c).
fn parameters(command_line: &str, module: &str) -> String {
    let mut quoted = false;
    let words = command_line.split(|character: char| {
        quoted ^= character == '"';
        !quoted && character.is_ascii_whitespace()
    });
    let own = words.filter_map(|word| {
        let (name, parameter) = word.split_once('.')?;
        (name.replace('-', "_") == module).then_some(parameter)
    });
    own.collect::<Vec<_>>().join(" ")
}

fn is_locked(lock: &Path) -> bool {
    fs::read_to_string(lock).is_ok_and(|text| text.trim_end() == "1")
}

/// What an errno of `finit_module` tells (kernel/module/main.c, and the driver's own init).
fn meaning(module: &str, errno: Errno) -> &'static str {
    match (module, errno) {
        // drivers/ptp/ptp_kvm_x86.c: the hypercall's answer, or no page of kvm-clock.
        ("ptp_kvm", Errno::OPNOTSUPP | Errno::NODEV) => {
            "not a KVM guest, or the host's clocksource is not TSC"
        }
        (_, Errno::NODEV) => "the machine has no such device",
        (_, Errno::OPNOTSUPP) => "the machine does not support it",
        (_, Errno::NOENT) => "a symbol that it needs is missing: a dependency is not loaded",
        (_, Errno::NOEXEC) => "built for another kernel, or no module at all",
        (_, Errno::KEYREJECTED | Errno::NOKEY | Errno::BADMSG) => {
            "the kernel demands a signature that this file does not have"
        }
        (_, Errno::PERM) => "the driver won't serve this machine, or the kernel is locked down",
        (_, Errno::NOMEM) => "no memory",
        (_, Errno::INVAL) => {
            "a value of one of its parameters is wrong, or the driver's own failure"
        }
        _ => "the driver's own failure",
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_refusal_says_what_its_errno_means() {
        let error = ModuleError::Refused {
            name: "ptp_kvm".into(),
            errno: Errno::OPNOTSUPP,
        };
        let text = error.to_string();
        assert!(text.contains("module ptp_kvm"), "{text}");
        assert!(text.contains("clocksource is not TSC"), "{text}");
    }

    #[test]
    fn a_drivers_own_refusal_is_not_taken_for_the_lock() {
        let lock = std::env::temp_dir().join(format!("noonmark-lock-{}", std::process::id()));
        let mut seen = Vec::new();
        for text in ["0\n", "1\n"] {
            fs::write(&lock, text).unwrap();
            seen.push(is_locked(&lock));
        }
        fs::remove_file(&lock).unwrap();
        assert_eq!(seen, [false, true]);
        assert!(!is_locked(&lock));
        let error = ModuleError::Refused {
            name: "ptp_vmw".into(),
            errno: Errno::PERM,
        };
        assert!(error.to_string().contains("won't serve"), "{error}");
    }

    #[test]
    fn a_module_gets_its_own_parameters_of_the_command_line_in_their_order() {
        let line = "quiet virtio-mmio.device=512@0xfeb00e00:5 virtio_net.csum=0 \
                    virtio_mmio.device=4K@0xd0001000:6 a.b=\"c virtio_net.x=1\" virtio_net.gso panic=1\n";
        for (module, expected) in [
            (
                "virtio_mmio",
                "device=512@0xfeb00e00:5 device=4K@0xd0001000:6",
            ),
            ("virtio_net", "csum=0 gso"),
            ("a", "b=\"c virtio_net.x=1\""),
            ("virtio", ""),
        ] {
            assert_eq!(parameters(line, module), expected);
        }
    }

    #[test]
    fn a_missing_file_is_named() {
        let module = Module {
            name: "ptp_kvm".into(),
            path: "/nowhere/ptp_kvm.ko".into(),
        };
        let text = load(&module, "").unwrap_err().to_string();
        assert!(text.contains("/nowhere/ptp_kvm.ko"), "{text}");
    }

    #[test]
    fn modules_without_a_list_are_named_after_their_files() {
        let folder = std::env::temp_dir().join(format!("noonmark-ko-{}", std::process::id()));
        fs::create_dir_all(folder.join("6.1/kernel")).unwrap();
        for file in ["6.1/kernel/virtio-rng.ko", "6.1/ptp_kvm.ko", "notes.txt"] {
            fs::write(folder.join(file), "").unwrap();
        }
        let mut found = Vec::new();
        find_in(&folder, DEPTH_MAX, &mut found);
        fs::remove_dir_all(&folder).unwrap();
        found.sort_by(|a, b| a.name.cmp(&b.name));
        let names: Vec<_> = found.into_iter().map(|module| module.name).collect();
        assert_eq!(names, ["ptp_kvm", "virtio_rng"]);
    }
}
