//! Which accelerator a machine gets, and why.
//!
//! `/dev/kvm` alone proves nothing: it can exist, open and create machines on a processor without
//! hardware virtualization, where an unmodified kernel then dies with `KVM internal error` after
//! minutes. So the processor's own flags decide first.
//!
//! Where KVM can't be used, the real path of ptp_kvm still can: in a KVM host that is itself emulated
//! ([`crate::kvm_host`]). Only where that can't work either is the guest emulated alone.

use std::fmt;
use std::fs::{self, OpenOptions};
use std::str::FromStr;

use crate::kvm_host::{self, KvmHost};
use crate::program::{Qemu, QemuError};

/// What the user asked for: `--accel auto|kvm|nested|tcg`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Choice {
    /// KVM where it is sure to work, else KVM in an emulated host, else TCG.
    #[default]
    Auto,
    /// KVM, or an error.
    Kvm,
    /// KVM in an emulated host, or an error.
    Nested,
    /// Emulation.
    Tcg,
}

/// What runs the guest's instructions.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Accelerator {
    /// The processor, through `/dev/kvm`.
    Kvm,
    /// The `/dev/kvm` of a host whose processor QEMU's translator emulates.
    Nested,
    /// QEMU's translator.
    Tcg,
}

/// An accelerator and the reason for it, in words.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Decision {
    /// The one to use.
    pub accelerator: Accelerator,
    /// Why, as a clause that can follow its name: `/dev/kvm cannot be opened: …`.
    pub reason: String,
}

/// What a decision rests on.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Facts {
    /// Whether the processor virtualizes: `vmx` or `svm` among x86's flags; taken for granted on
    /// other architectures, where the kernel offers `/dev/kvm` only if it does.
    processor: bool,
    /// Whether `/dev/kvm` opens for reading and writing, or why not.
    device: Result<(), String>,
    /// Whether this QEMU was built with KVM.
    qemu: bool,
    /// Whether a KVM host can be emulated here, or what stands against it.
    nested: Result<(), String>,
}

/// An accelerator was demanded and cannot work.
#[derive(Debug, thiserror::Error)]
pub enum AccelError {
    /// `--accel kvm` on a machine where it cannot work.
    #[error(
        "KVM was asked for but cannot be used: {reason}; use --accel nested or tcg, or leave \
         --accel out"
    )]
    KvmUnusable {
        /// What is missing.
        reason: String,
    },
    /// `--accel nested` on a machine where it cannot work.
    #[error("no KVM host can be emulated: {reason}; use --accel tcg, or leave --accel out")]
    NestedUnusable {
        /// What is missing.
        reason: String,
    },
    /// The QEMU could not be asked.
    #[error(transparent)]
    Qemu(#[from] QemuError),
}

/// Looks at this host and `qemu`, and decides.
///
/// # Errors
/// Where KVM was demanded and cannot be used, or where `qemu` does not run.
pub fn choose(choice: Choice, qemu: &Qemu) -> Result<Decision, AccelError> {
    if let Some(host) = kvm_host::inside() {
        // Whoever made this host has decided already.
        return Ok(Decision {
            accelerator: Accelerator::Nested,
            reason: host.reason.clone(),
        });
    }
    if choice == Choice::Tcg {
        return decide(choice, &Facts::none());
    }
    decide(choice, &Facts::probe(qemu)?)
}

/// The decision as a pure function of the facts.
fn decide(choice: Choice, facts: &Facts) -> Result<Decision, AccelError> {
    let usable = facts.kvm();
    let (accelerator, reason) = match (choice, usable) {
        (Choice::Tcg, _) => (Accelerator::Tcg, "it was asked for".to_owned()),
        (Choice::Kvm, Ok(())) => (Accelerator::Kvm, "it was asked for".to_owned()),
        (Choice::Kvm, Err(reason)) => return Err(AccelError::KvmUnusable { reason }),
        (Choice::Auto, Ok(())) => (
            Accelerator::Kvm,
            "the processor virtualizes and /dev/kvm opens".to_owned(),
        ),
        (Choice::Nested, _) => match &facts.nested {
            Ok(()) => (Accelerator::Nested, "it was asked for".to_owned()),
            Err(reason) => {
                let reason = reason.clone();
                return Err(AccelError::NestedUnusable { reason });
            }
        },
        (Choice::Auto, Err(kvm)) => match &facts.nested {
            Ok(()) => (Accelerator::Nested, kvm),
            Err(nested) => {
                let reason = format!("{kvm}; and no KVM host can be emulated: {nested}");
                (Accelerator::Tcg, reason)
            }
        },
    };
    Ok(Decision {
        accelerator,
        reason,
    })
}

impl Facts {
    /// Nothing known; enough where emulation was asked for.
    fn none() -> Self {
        Self {
            processor: false,
            device: Err("not looked at".to_owned()),
            qemu: false,
            nested: Err("not looked at".to_owned()),
        }
    }

    /// Asks the processor, the device and the QEMU.
    fn probe(qemu: &Qemu) -> Result<Self, QemuError> {
        let kvm = qemu.has_accelerator("kvm")?;
        Ok(Self {
            processor: processor_virtualizes(),
            device: OpenOptions::new()
                .read(true)
                .write(true)
                .open("/dev/kvm")
                .map(drop)
                .map_err(|error| error.to_string()),
            qemu: kvm,
            nested: KvmHost::is_possible(qemu, kvm)?,
        })
    }

    /// Whether KVM can be used, or what stands against it.
    fn kvm(&self) -> Result<(), String> {
        if !self.processor {
            return Err(
                "the processor has no hardware virtualization (neither vmx nor svm in \
                 /proc/cpuinfo)"
                    .to_owned(),
            );
        }
        if let Err(why) = &self.device {
            return Err(format!(
                "/dev/kvm cannot be opened for reading and writing: {why}"
            ));
        }
        if !self.qemu {
            return Err("this QEMU was built without KVM".to_owned());
        }
        Ok(())
    }
}

/// Whether this machine's processor has hardware virtualization.
#[must_use]
pub fn processor_virtualizes() -> bool {
    let cpuinfo = fs::read_to_string("/proc/cpuinfo").unwrap_or_default();
    virtualizes(std::env::consts::ARCH, &cpuinfo)
}

/// Whether a processor of `arch` with this `/proc/cpuinfo` has hardware virtualization.
fn virtualizes(arch: &str, cpuinfo: &str) -> bool {
    if !matches!(arch, "x86_64" | "x86") {
        return true;
    }
    cpuinfo
        .lines()
        .filter(|line| line.starts_with("flags"))
        .flat_map(str::split_whitespace)
        .any(|flag| flag == "vmx" || flag == "svm")
}

/// A word that is no accelerator.
#[derive(Debug, thiserror::Error)]
#[error("unknown accelerator `{0}`; expected auto, kvm, nested or tcg")]
pub struct UnknownChoice(String);

impl FromStr for Choice {
    type Err = UnknownChoice;

    fn from_str(text: &str) -> Result<Self, UnknownChoice> {
        match text {
            "auto" => Ok(Self::Auto),
            "kvm" => Ok(Self::Kvm),
            "nested" => Ok(Self::Nested),
            "tcg" => Ok(Self::Tcg),
            _ => Err(UnknownChoice(text.to_owned())),
        }
    }
}

impl fmt::Display for Choice {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Auto => "auto",
            Self::Kvm => "kvm",
            Self::Nested => "nested",
            Self::Tcg => "tcg",
        })
    }
}

impl fmt::Display for Accelerator {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Kvm => "kvm",
            Self::Nested => "nested",
            Self::Tcg => "tcg",
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn facts() -> Facts {
        Facts {
            processor: true,
            device: Ok(()),
            qemu: true,
            nested: Ok(()),
        }
    }

    fn auto(facts: &Facts) -> (Accelerator, String) {
        let decision = decide(Choice::Auto, facts).unwrap();
        (decision.accelerator, decision.reason)
    }

    #[test]
    fn auto_takes_kvm_only_where_all_three_agree_else_a_host_that_is_emulated() {
        assert_eq!(auto(&facts()).0, Accelerator::Kvm);
        for spoil in [
            |f: &mut Facts| f.processor = false,
            |f: &mut Facts| f.device = Err("Permission denied".into()),
            |f: &mut Facts| f.qemu = false,
        ] {
            let mut facts = facts();
            spoil(&mut facts);
            assert_eq!(auto(&facts).0, Accelerator::Nested, "{facts:?}");
            facts.nested = Err("QEMU 7.2 is too old".into());
            let (accelerator, reason) = auto(&facts);
            assert_eq!(accelerator, Accelerator::Tcg, "{facts:?}");
            assert!(reason.ends_with("QEMU 7.2 is too old"), "{reason}");
        }
    }

    #[test]
    fn a_device_that_opens_does_not_outweigh_a_processor_that_cannot() {
        let facts = Facts {
            processor: false,
            ..facts()
        };
        let (accelerator, reason) = auto(&facts);
        assert_eq!(accelerator, Accelerator::Nested);
        assert!(reason.contains("vmx"), "{reason}");
    }

    #[test]
    fn an_emulated_host_on_demand_fails_with_the_way_out() {
        let facts = Facts {
            nested: Err("QEMU 7.2 is too old".into()),
            ..facts()
        };
        let error = decide(Choice::Nested, &facts).unwrap_err().to_string();
        assert!(error.contains("QEMU 7.2 is too old") && error.contains("--accel tcg"));
    }

    #[test]
    fn kvm_on_demand_fails_with_the_way_out() {
        let facts = Facts {
            device: Err("Permission denied".into()),
            ..facts()
        };
        let error = decide(Choice::Kvm, &facts).unwrap_err().to_string();
        assert!(error.contains("Permission denied") && error.contains("--accel nested or tcg"));
    }

    #[test]
    fn flags_are_whole_words_of_the_flags_line() {
        assert!(virtualizes("x86_64", "flags\t\t: fpu vmx sse\n"));
        assert!(virtualizes("x86_64", "flags : fpu svm\n"));
        assert!(!virtualizes(
            "x86_64",
            "flags : fpu vmx_like svmlock\nbugs : vmx\n"
        ));
        assert!(!virtualizes("x86_64", ""));
        assert!(virtualizes("aarch64", ""));
    }
}
