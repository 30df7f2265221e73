//! Kernel modules: loaded in the order that the image resolved, failures told in words.

use std::fs::{self, File};
use std::path::Path;

use noonmark_sync::config::Module;
use noonmark_sync::sample::Source;
use rustix::io::Errno;
use rustix::system::finit_module;
use thiserror::Error;

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
}

/// Loads one module; that it is in already is fine.
///
/// # Errors
/// [`ModuleError`].
pub fn load(module: &Module) -> Result<(), ModuleError> {
    let file = File::open(&module.path).map_err(|source| ModuleError::Open {
        name: module.name.clone(),
        path: module.path.clone(),
        source,
    })?;
    match finit_module(&file, c"", 0) {
        Ok(()) | Err(Errno::EXIST) => Ok(()),
        Err(errno) => Err(ModuleError::Refused {
            name: module.name.clone(),
            errno,
        }),
    }
}

/// Loads whatever modules lie in `folder`, for an image whose list can't be read. Their order is
/// not known, so rounds are made until one brings nothing new.
#[must_use]
pub fn load_all_in(folder: &Path) -> Vec<ModuleError> {
    let mut waiting = found_in(folder);
    loop {
        let before = waiting.len();
        let mut errors = Vec::new();
        waiting.retain(|module| match load(module) {
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

fn found_in(folder: &Path) -> Vec<Module> {
    let mut modules: Vec<_> = fs::read_dir(folder)
        .map(|dir| dir.flatten().map(|entry| entry.path()).collect())
        .unwrap_or_default();
    modules.sort();
    modules
        .iter()
        .filter(|path| path.extension().is_some_and(|extension| extension == "ko"))
        .filter_map(|path| {
            Some(Module {
                name: path.file_stem()?.to_str()?.replace('-', "_"),
                path: path.to_str()?.into(),
            })
        })
        .collect()
}

/// The source that is lost when this module does not load.
#[must_use]
pub fn source_served(module: &str) -> Option<Source> {
    Some(match module {
        "ptp_kvm" => Source::Kvm,
        "ptp_vmclock" => Source::Vmclock,
        "virtio_rtc" => Source::VirtioRtc,
        "hv_utils" => Source::Hyperv,
        "ptp_vmw" => Source::Vmware,
        _ => return None,
    })
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
        (_, Errno::PERM) => "module loading is locked",
        (_, Errno::NOMEM) => "no memory",
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
    fn a_missing_file_is_named() {
        let module = Module {
            name: "ptp_kvm".into(),
            path: "/nowhere/ptp_kvm.ko".into(),
        };
        let text = load(&module).unwrap_err().to_string();
        assert!(text.contains("/nowhere/ptp_kvm.ko"), "{text}");
    }

    #[test]
    fn modules_without_a_list_are_named_after_their_files() {
        let folder = std::env::temp_dir().join(format!("noonmark-ko-{}", std::process::id()));
        fs::create_dir_all(&folder).unwrap();
        for file in ["virtio-rng.ko", "ptp_kvm.ko", "notes.txt"] {
            fs::write(folder.join(file), "").unwrap();
        }
        let names: Vec<_> = found_in(&folder).into_iter().map(|m| m.name).collect();
        fs::remove_dir_all(&folder).unwrap();
        assert_eq!(names, ["ptp_kvm", "virtio_rng"]);
    }
}
