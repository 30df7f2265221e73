//! Why a machine ended, told from what it left behind.

use std::fmt;
use std::os::unix::process::ExitStatusExt;
use std::process::ExitStatus;

/// Lines of the console that a message shows.
pub const TAIL_LINES: usize = 20;

/// What QEMU prints on its standard error where KVM fails to run a guest.
pub const KVM_INTERNAL_ERROR: &str = "KVM internal error";

/// What a Linux kernel prints before it panics.
pub const KERNEL_PANIC: &str = "Kernel panic - not syncing";

/// A machine's end with the evidence. Its text is a paragraph, then the console's last lines.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Death {
    /// What it died of.
    pub cause: Cause,
    /// The console's last lines.
    pub console: Vec<String>,
}

/// What a machine died of.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Cause {
    /// KVM could not run the guest.
    KvmInternalError,
    /// The guest's kernel panicked.
    KernelPanic,
    /// The guest turned itself off.
    PoweredOff,
    /// The guest started over, which ends QEMU.
    Rebooted,
    /// QEMU ended with an error of its own.
    Failed {
        /// Its exit status, in words.
        status: String,
        /// Its last words.
        complaint: String,
    },
    /// QEMU was killed from outside.
    Killed {
        /// The signal's number.
        signal: i32,
    },
    /// QEMU ended in order and did not say why.
    Ended,
}

/// What there is to judge by.
#[derive(Clone, Copy, Debug, Default)]
pub struct Evidence<'a> {
    /// How QEMU exited; none while it runs.
    pub exit: Option<ExitStatus>,
    /// The reason in QMP's `SHUTDOWN` event.
    pub shutdown: Option<&'a str>,
    /// The end of QEMU's standard error.
    pub stderr: &'a str,
    /// Whether the console shows a kernel's panic.
    pub panicked: bool,
}

impl Evidence<'_> {
    /// The cause that the evidence shows; none where the machine seems to be well.
    #[must_use]
    pub fn cause(&self) -> Option<Cause> {
        // QEMU stays up after the first, and a guest may after the second.
        if self.stderr.contains(KVM_INTERNAL_ERROR) {
            return Some(Cause::KvmInternalError);
        }
        if self.panicked {
            return Some(Cause::KernelPanic);
        }
        let exit = self.exit?;
        Some(if let Some(signal) = exit.signal() {
            Cause::Killed { signal }
        } else if !exit.success() {
            Cause::Failed {
                status: exit.to_string(),
                complaint: last_words(self.stderr),
            }
        } else {
            match self.shutdown {
                Some("guest-shutdown") => Cause::PoweredOff,
                Some("guest-reset") => Cause::Rebooted,
                Some("guest-panic") => Cause::KernelPanic,
                _ => Cause::Ended,
            }
        })
    }
}

/// The last lines that say something, as one.
fn last_words(stderr: &str) -> String {
    let lines: Vec<&str> = stderr.lines().filter(|l| !l.trim().is_empty()).collect();
    match lines[lines.len().saturating_sub(3)..].join("; ") {
        words if words.is_empty() => "it gave no reason".to_owned(),
        words => words,
    }
}

impl fmt::Display for Cause {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::KvmInternalError => f.write_str(
                "KVM gave up on the guest (`KVM internal error`): this host offers /dev/kvm but \
                 cannot run this guest with it; try --accel tcg",
            ),
            Self::KernelPanic => f.write_str(
                "the guest's kernel panicked; the console's last lines say why, and a kernel that \
                 works elsewhere may do so with another accelerator (--accel), or under emulation \
                 with one processor (--vcpus 1)",
            ),
            Self::PoweredOff => f.write_str(
                "the guest turned itself off; if nobody asked it to, its PID 1 could not go on and \
                 says why on the console",
            ),
            Self::Rebooted => f.write_str(
                "the guest restarted, which ends QEMU here; its PID 1 or kernel says why on the \
                 console",
            ),
            Self::Failed { status, complaint } => {
                write!(f, "QEMU ended with {status}: {complaint}")
            }
            Self::Killed { signal } => write!(
                f,
                "QEMU was killed by signal {signal}; if nobody did that, the host may be short of \
                 memory: see its kernel log"
            ),
            Self::Ended => f.write_str("QEMU ended without an error and without a reason"),
        }
    }
}

impl fmt::Display for Death {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.cause)?;
        write_tail(f, &self.console)
    }
}

/// The console's end, for the foot of a message.
pub(crate) fn write_tail(f: &mut fmt::Formatter<'_>, lines: &[String]) -> fmt::Result {
    if lines.is_empty() {
        return write!(f, "\nThe console shows nothing.");
    }
    write!(f, "\nThe console's last lines:")?;
    for line in lines {
        write!(f, "\n  | {line}")?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn exited(raw: i32) -> Evidence<'static> {
        Evidence {
            exit: Some(ExitStatus::from_raw(raw)),
            ..Evidence::default()
        }
    }

    #[test]
    fn a_running_machine_is_well_until_something_says_otherwise() {
        assert_eq!(Evidence::default().cause(), None);
        let evidence = Evidence {
            stderr: "KVM internal error. Suberror: 1\n",
            ..Evidence::default()
        };
        assert_eq!(evidence.cause(), Some(Cause::KvmInternalError));
        let evidence = Evidence {
            panicked: true,
            ..Evidence::default()
        };
        assert_eq!(evidence.cause(), Some(Cause::KernelPanic));
    }

    #[test]
    fn a_reset_after_a_panic_is_a_panic() {
        let evidence = Evidence {
            panicked: true,
            shutdown: Some("guest-reset"),
            ..exited(0)
        };
        assert_eq!(evidence.cause(), Some(Cause::KernelPanic));
    }

    #[test]
    fn an_end_is_told_by_status_signal_and_qemu_s_own_reason() {
        assert_eq!(exited(9).cause(), Some(Cause::Killed { signal: 9 }));
        assert_eq!(exited(0).cause(), Some(Cause::Ended));
        let off = Evidence {
            shutdown: Some("guest-shutdown"),
            ..exited(0)
        };
        assert_eq!(off.cause(), Some(Cause::PoweredOff));
        let refused = Evidence {
            stderr: "\nqemu: could not load kernel '/k': No such file\n",
            ..exited(1 << 8)
        };
        let text = refused.cause().unwrap().to_string();
        assert!(text.contains("could not load kernel '/k'"), "{text}");
    }

    #[test]
    fn the_message_ends_with_the_console_s_last_lines() {
        let death = Death {
            cause: Cause::KvmInternalError,
            console: vec!["one".into(), "two".into()],
        };
        let text = death.to_string();
        assert!(text.contains("--accel tcg"), "{text}");
        assert!(text.ends_with("lines:\n  | one\n  | two"), "{text}");
    }
}
