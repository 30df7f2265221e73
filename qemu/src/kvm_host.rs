//! The KVM host that is itself emulated: whether one can be had, and how a program knows that it
//! runs in one.
//!
//! QEMU's translator emulates AMD's SVM with nested paging, so an ordinary kernel under it has a
//! working `/dev/kvm`, and KVM's own code answers a guest's ptp_kvm there. That host's clock is its own,
//! and may be moved by an experiment; the clock of a user's machine may not. So there is a token,
//! made for one boot of one such host and given to its kernel as a parameter: only a program that
//! finds the same token in [`DESCRIPTION`] runs [`inside`] it.

use std::fs;
use std::io::{self, BufRead as _, BufReader, Write as _};
use std::os::unix::net::UnixStream;
use std::sync::OnceLock;
use std::time::Duration;

use serde::{Deserialize, Serialize};

use crate::program::{Qemu, QemuError};

/// Where the emulated host says what it is.
pub const DESCRIPTION: &str = "/run/noonmark-kvm-host.json";

/// The kernel parameter with the token. It is none of PID 1's own, which begin with `noonmark.`.
pub const PARAMETER: &str = "noonmark_kvm_host";

/// The port on which the emulated host is told what to run.
pub const LINK_PORT: &str = "noonmark.kvm-host";

/// The port on which it hands on what its guest says on the status port.
pub const STATUS_PORT: &str = "noonmark.guest-status";

/// The socket in it on which its outside is asked for something: a line each way.
pub const REQUESTS: &str = "/run/noonmark-kvm-host.sock";

/// Its own memory, in MiB: the programs, which lie in it, and what they need.
const OWN_MEMORY_MIB: u32 = 1536;

/// The first QEMU whose translator's nested paging is sound.
const QEMU_LEAST: (u32, u32) = (9, 2);

/// An emulated KVM host, as it is described to the programs in it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct KvmHost {
    /// What its kernel was given as [`PARAMETER`].
    pub token: String,
    /// The version of the QEMU that emulates it.
    pub qemu: String,
    /// The release of the kernel that this QEMU runs on.
    pub kernel: Option<String>,
    /// The processor that it runs on.
    pub cpu: Option<String>,
    /// Why it was made, as a clause that can follow the accelerator's name.
    pub reason: String,
}

/// The emulated KVM host that this program runs in; none anywhere else.
pub fn inside() -> Option<&'static KvmHost> {
    static HOST: OnceLock<Option<KvmHost>> = OnceLock::new();
    HOST.get_or_init(|| {
        let cmdline = fs::read_to_string("/proc/cmdline").ok()?;
        let host = serde_json::from_slice(&fs::read(DESCRIPTION).ok()?).ok()?;
        is_of(&host, &cmdline).then_some(host)
    })
    .as_ref()
}

/// Whether the kernel of this command line was started as this host's.
fn is_of(host: &KvmHost, cmdline: &str) -> bool {
    !host.token.is_empty()
        && cmdline
            .split_whitespace()
            .filter_map(|word| word.strip_prefix(PARAMETER)?.strip_prefix('='))
            .any(|token| token == host.token)
}

impl KvmHost {
    /// Has the whole host stand still for this long, by its own clock no time at all.
    ///
    /// # Errors
    /// Where the outside can't be asked, or can't do it.
    pub fn suspend(&self, span: Duration) -> io::Result<()> {
        let mut outside = UnixStream::connect(REQUESTS)?;
        writeln!(outside, "{}", span.as_millis())?;
        let mut answer = String::new();
        BufReader::new(outside).read_line(&mut answer)?;
        match answer.trim() {
            "done" => Ok(()),
            why => Err(io::Error::other(format!("the outside answered `{why}`"))),
        }
    }

    /// Whether `qemu`, which was built with `kvm` or without, can emulate one on this machine, or what
    /// stands against it.
    ///
    /// # Errors
    /// Where `qemu` does not run.
    pub fn is_possible(qemu: &Qemu, kvm: bool) -> Result<Result<(), String>, QemuError> {
        let emulates = qemu.has_accelerator("tcg")?;
        let meminfo = fs::read_to_string("/proc/meminfo").unwrap_or_default();
        Ok(
            check_program(std::env::consts::ARCH, qemu.version(), emulates, kvm)
                .and_then(|()| check_memory(&meminfo)),
        )
    }

    /// The memory of one whose guests have so much, in MiB: two of them run at once while one
    /// migrates, each in a QEMU of its own.
    #[must_use]
    pub fn memory_mib(guest_mib: u32) -> u32 {
        OWN_MEMORY_MIB + 2 * guest_mib
    }
}

fn check_program(arch: &str, version: &str, emulates: bool, kvm: bool) -> Result<(), String> {
    if arch != "x86_64" {
        return Err(format!("this machine is no x86-64 but {arch}"));
    }
    if !emulates || !kvm {
        return Err("this QEMU was built without TCG or without KVM".to_owned());
    }
    if is_sound(version) {
        return Ok(());
    }
    let (major, minor) = QEMU_LEAST;
    Err(format!(
        "QEMU {version} mishandles nested paging; {major}.{minor} or newer is needed"
    ))
}

/// Whether the nested paging is sound that a QEMU of this version emulates.
#[must_use]
pub fn is_sound(version: &str) -> bool {
    let mut numbers = version.split('.').map(|part| {
        let digits = part.split(|c: char| !c.is_ascii_digit()).next();
        digits.and_then(|digits| digits.parse::<u32>().ok())
    });
    let found = (numbers.next().flatten(), numbers.next().flatten());
    matches!(found, (Some(major), Some(minor)) if (major, minor) >= QEMU_LEAST)
}

/// `meminfo` is the text of /proc/meminfo; what it does not say is no reason against.
fn check_memory(meminfo: &str) -> Result<(), String> {
    let available = meminfo.lines().find_map(|line| {
        let kib = line.strip_prefix("MemAvailable:")?.split_whitespace();
        kib.into_iter().next()?.parse::<u64>().ok()
    });
    let needed_mib = u64::from(OWN_MEMORY_MIB) + 512;
    match available {
        Some(kib) if kib / 1024 < needed_mib => Err(format!(
            "it needs {needed_mib} MiB of memory, and {} MiB are available",
            kib / 1024
        )),
        _ => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn host(token: &str) -> KvmHost {
        KvmHost {
            token: token.into(),
            qemu: "10.0.2".into(),
            kernel: None,
            cpu: None,
            reason: String::new(),
        }
    }

    #[test]
    fn only_the_token_of_this_very_boot_makes_it_the_emulated_host() {
        let cmdline = "console=ttyS0 noonmark_kvm_host=5f1c quiet\n";
        assert!(is_of(&host("5f1c"), cmdline));
        for wrong in ["", "5f1", "5f1c0"] {
            assert!(!is_of(&host(wrong), cmdline), "{wrong}");
        }
        assert!(!is_of(
            &host("5f1c"),
            "console=ttyS0 xnoonmark_kvm_host=5f1c"
        ));
        assert!(!is_of(&host(""), "noonmark_kvm_host="));
        // This test runs on a machine whose clock is its user's.
        assert_eq!(inside(), None);
    }

    #[test]
    fn a_qemu_whose_nested_paging_is_unsound_is_refused_by_its_version() {
        let check = |version| check_program("x86_64", version, true, true);
        for sound in ["9.2.0", "10.0.2 (Debian 1:10.0.2+ds-2)", "11.1"] {
            assert_eq!(check(sound), Ok(()), "{sound}");
        }
        for unsound in ["7.2.13 (Debian 1:7.2)", "9.1.9", "8", "strange"] {
            let why = check(unsound).unwrap_err();
            assert!(why.contains(unsound) && why.contains("9.2"), "{why}");
        }
        assert!(check_program("x86_64", "10.0.2", true, false).is_err());
        assert!(check_program("aarch64", "10.0.2", true, true).is_err());
    }

    #[test]
    fn too_little_memory_is_told_in_figures() {
        let meminfo = |mib: u64| format!("MemTotal: 9 kB\nMemAvailable:   {} kB\n", mib * 1024);
        assert_eq!(check_memory(&meminfo(4096)), Ok(()));
        assert_eq!(check_memory(""), Ok(()));
        let why = check_memory(&meminfo(900)).unwrap_err();
        assert!(why.contains("900 MiB") && why.contains("2048 MiB"), "{why}");
    }
}
