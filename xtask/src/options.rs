//! Options that several commands have.

use std::net::Ipv4Addr;
use std::path::PathBuf;
use std::time::Duration;

use anyhow::{Result, bail};
use clap::Args;
use jiff::SignedDuration;
use noonmark_builder::image::{self, BuildRequest, Image, Variant};
use noonmark_builder::prerequisites::{self, Prerequisite};
use noonmark_builder::progress;
use noonmark_builder::state_lock::StateLock;
use noonmark_builder::workspace::Workspace;
use noonmark_contract::units::Nanos;
use noonmark_image::spec::VmSpec;
use noonmark_qemu::accel::{self, Accelerator, Choice, Decision};
use noonmark_qemu::{Boot, Config, Device, Forward, Qemu, kvm_host};

/// The image's description.
#[derive(Clone, Debug, Args)]
pub struct SpecFile {
    /// The image's description [default: guest.toml in the top folder].
    #[arg(long, value_name = "FILE")]
    spec: Option<PathBuf>,
}

impl SpecFile {
    /// The file that was named, or that of the checkout or project.
    pub fn path(&self, workspace: &Workspace) -> PathBuf {
        self.spec
            .clone()
            .unwrap_or_else(|| workspace.root().join("guest.toml"))
    }

    /// The arguments that name the same file to another `cargo xtask`; none for the checkout's own,
    /// so that a copy of the checkout uses its own as well.
    pub fn arguments(&self) -> Vec<String> {
        self.spec
            .iter()
            .flat_map(|file| {
                let file = std::path::absolute(file).unwrap_or_else(|_| file.clone());
                ["--spec".to_owned(), file.display().to_string()]
            })
            .collect()
    }
}

/// The machine that a guest runs on.
#[derive(Clone, Debug, Args)]
pub struct MachineOptions {
    /// A QEMU to use instead of the distribution's qemu-system-x86_64.
    #[arg(long, env = "NOONMARK_QEMU", value_name = "PATH")]
    qemu: Option<PathBuf>,
    /// What runs the guest: kvm of this machine, nested with the KVM of a host that is itself
    /// emulated, or tcg, emulation alone. auto takes the first of them that can work.
    #[arg(long, value_name = "auto|kvm|nested|tcg", default_value = "auto")]
    accel: Choice,
    /// With nested, the suite of the emulated host's kernel [default: the machine's own].
    #[arg(long, value_name = "SUITE")]
    host_suite: Option<String>,
    /// Why an emulated host can't be taken.
    #[arg(skip)]
    no_nested: Option<String>,
    /// Virtual processors [default: `vm.vcpus` of guest.toml].
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(1..=255))]
    vcpus: Option<u32>,
    /// Memory in MiB [default: `vm.memory_mib` of guest.toml].
    #[arg(long, value_name = "MIB", value_parser = clap::value_parser!(u32).range(64..))]
    memory: Option<u32>,
}

/// A QEMU that was found, and how it will run guests.
#[derive(Debug)]
pub struct Host {
    pub qemu: Qemu,
    pub decision: Decision,
    /// The suite of an emulated host's kernel.
    pub kernel_suite: Option<String>,
}

impl Host {
    /// Whether guests are to be run in an emulated host, and this program is not in it yet.
    pub fn is_elsewhere(&self) -> bool {
        self.decision.accelerator == Accelerator::Nested && kvm_host::inside().is_none()
    }

    /// A NIC whose ports are reached from where the command was called.
    pub fn network(mut forwards: Vec<Forward>) -> Device {
        let on = match kvm_host::inside() {
            Some(_) => {
                // An address of the outside's is none here.
                forwards.iter_mut().for_each(|forward| forward.on = None);
                Ipv4Addr::UNSPECIFIED
            }
            None => Ipv4Addr::LOCALHOST,
        };
        Device::Net { forwards, on }
    }

    /// A machine with the time channel and no further device, whose RTC is right.
    pub fn machine(&self, name: &str, size: &VmSpec, boot: Boot) -> Config {
        Config {
            vcpus: size.vcpus,
            memory_mib: size.memory_mib,
            ..Config::new(name, self.decision.accelerator, boot)
        }
    }
}

impl MachineOptions {
    /// The same where a guest can't run in an emulated host: what is chosen automatically is then one of
    /// the others.
    ///
    /// # Errors
    ///
    /// It was asked for.
    pub fn without_nested(self, why: &str) -> Result<Self> {
        if self.accel == Choice::Nested {
            bail!("--accel nested: {why}; use --accel tcg");
        }
        Ok(Self {
            no_nested: Some(why.to_owned()),
            ..self
        })
    }

    /// Finds QEMU, installing it where it is missing, and decides on the accelerator.
    ///
    /// # Errors
    ///
    /// There is no QEMU to be had, or the accelerator that was asked for can't work.
    pub fn host(&self, workspace: &Workspace) -> Result<Host> {
        prerequisites::ensure(workspace, &[Prerequisite::Qemu(self.qemu.clone())])?;
        let qemu = Qemu::find(self.qemu.as_deref())?;
        let mut decision = accel::choose(self.accel, &qemu)?;
        if let Some(why) = &self.no_nested
            && decision.accelerator == Accelerator::Nested
        {
            decision = accel::choose(Choice::Tcg, &qemu)?;
            decision.reason.clone_from(why);
        }
        progress::note(format!(
            "QEMU {} with {}: {}",
            qemu.version(),
            decision.accelerator,
            decision.reason
        ));
        Ok(Host {
            qemu,
            decision,
            kernel_suite: self.host_suite.clone(),
        })
    }

    /// Finds QEMU, and builds the image of this variant where it is stale.
    ///
    /// # Errors
    ///
    /// As [`MachineOptions::host`] and [`image::build`].
    pub fn prepare(
        &self,
        workspace: &Workspace,
        spec: &SpecFile,
        variant: Variant,
    ) -> Result<(Host, Image)> {
        let spec_file = spec.path(workspace);
        self.prepare_image(
            workspace,
            &BuildRequest::new(workspace, &spec_file, variant),
        )
    }

    /// The same with an image that may be of another description or go to another folder.
    ///
    /// # Errors
    ///
    /// As [`MachineOptions::prepare`].
    pub fn prepare_image(
        &self,
        workspace: &Workspace,
        request: &BuildRequest<'_>,
    ) -> Result<(Host, Image)> {
        let _lock = StateLock::acquire(workspace)?;
        // A QEMU that is missing or wrong is an error before a minute of building, not after it.
        let host = self.host(workspace)?;
        let image = image::build(workspace, request)?;
        Ok((host, image))
    }

    /// Processors and memory: what was asked for, else what the image's description says.
    pub fn size(&self, spec: &VmSpec) -> VmSpec {
        VmSpec {
            vcpus: self.vcpus.unwrap_or(spec.vcpus),
            memory_mib: self.memory.unwrap_or(spec.memory_mib),
        }
    }
}

/// The options that have another `cargo xtask` use the same image and machine, as one would type them.
pub fn same_machine(
    spec: &SpecFile,
    options: &MachineOptions,
    host: &Host,
    size: &VmSpec,
) -> String {
    let mut words = spec.arguments();
    words.extend(["--accel".to_owned(), host.decision.accelerator.to_string()]);
    words.extend(["--vcpus".to_owned(), size.vcpus.to_string()]);
    words.extend(["--memory".to_owned(), size.memory_mib.to_string()]);
    let suite = options
        .host_suite
        .iter()
        .flat_map(|suite| ["--host-suite", suite]);
    words.extend(suite.map(str::to_owned));
    if let Some(qemu) = &options.qemu {
        words.extend(["--qemu".to_owned(), qemu.display().to_string()]);
    }
    let quoted: Vec<String> = words.iter().map(|word| quoted(word)).collect();
    quoted.join(" ")
}

/// A word as a shell takes it for one.
fn quoted(word: &str) -> String {
    let plain = |c: char| c.is_ascii_alphanumeric() || "-_./:+=%,".contains(c);
    if !word.is_empty() && word.chars().all(plain) {
        return word.to_owned();
    }
    format!("'{}'", word.replace('\'', r"'\''"))
}

/// A span of time on the command line: `50ms`, `1.5s`.
pub fn span(text: &str) -> Result<Nanos, String> {
    let parsed: SignedDuration = text
        .parse()
        .map_err(|_| "expected a span of time such as 50ms or 1.5s".to_owned())?;
    i64::try_from(parsed.as_nanos())
        .ok()
        .filter(|nanos| *nanos > 0)
        .map(Nanos)
        .ok_or_else(|| "expected a span longer than nothing and shorter than 292 years".to_owned())
}

/// A span that is known to be positive, for the standard library.
pub fn duration(span: Nanos) -> Duration {
    Duration::from_nanos(u64::try_from(span.0).unwrap_or(0))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_word_stays_one_word_in_a_shell() {
        assert_eq!(
            quoted("/usr/bin/qemu-system-x86_64"),
            "/usr/bin/qemu-system-x86_64"
        );
        assert_eq!(quoted("my guest's.toml"), r"'my guest'\''s.toml'");
        assert_eq!(quoted(""), "''");
    }

    #[test]
    fn a_span_needs_a_unit_and_must_be_positive() {
        assert_eq!(span("50ms"), Ok(Nanos::from_millis(50)));
        assert_eq!(span("1.5s"), Ok(Nanos::from_millis(1500)));
        for wrong in ["50", "-50ms", "0s", "soon", "999999999999h"] {
            assert!(span(wrong).is_err(), "{wrong}");
        }
    }
}
