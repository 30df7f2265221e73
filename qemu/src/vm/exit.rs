//! Why a machine ended, told from what its QEMU left behind.

use std::fmt;
use std::os::unix::process::ExitStatusExt;
use std::process::ExitStatus;

/// Lines of the console that a message shows.
pub(super) const TAIL_LINES: usize = 20;

/// What QEMU prints on its standard error where KVM fails to run a guest.
const KVM_INTERNAL_ERROR: &str = "KVM internal error";

/// What a Linux kernel prints before it panics.
pub(super) const KERNEL_PANIC: &str = "Kernel panic - not syncing";

/// A machine that does not run any more, or can't go on. Its text is a paragraph, then the console's
/// last lines.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Exit {
    /// Why.
    pub cause: ExitCause,
    /// The console's last lines.
    pub console: Vec<String>,
}

/// Why a machine does not run any more.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ExitCause {
    /// KVM could not run the guest.
    KvmInternalError,
    /// The guest's kernel panicked.
    KernelPanic,
    /// The guest turned itself off.
    PoweredOff,
    /// The guest started over, which ends QEMU.
    Rebooted,
    /// QEMU exited with an error of its own.
    Failed {
        /// Its exit status, in words.
        status: String,
        /// The last lines of its standard error.
        message: String,
    },
    /// QEMU was killed from outside.
    Killed {
        /// The signal's number.
        signal: i32,
    },
    /// QEMU exited in order and did not say why.
    Exited,
}

/// What is seen of a QEMU, from which the cause is told.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Symptoms<'a> {
    /// How QEMU exited; none while it runs.
    pub(super) status: Option<ExitStatus>,
    /// The reason in QMP's `SHUTDOWN` event.
    pub(super) shutdown: Option<&'a str>,
    /// The end of QEMU's standard error.
    pub(super) stderr: &'a str,
    /// Whether the console shows a kernel's panic.
    pub(super) panicked: bool,
}

impl Symptoms<'_> {
    /// The cause; none where the machine seems to be well.
    pub(super) fn cause(&self) -> Option<ExitCause> {
        // QEMU stays up after the first, and a guest may after the second.
        if self.stderr.contains(KVM_INTERNAL_ERROR) {
            return Some(ExitCause::KvmInternalError);
        }
        if self.panicked {
            return Some(ExitCause::KernelPanic);
        }
        let status = self.status?;
        Some(if let Some(signal) = status.signal() {
            ExitCause::Killed { signal }
        } else if !status.success() {
            ExitCause::Failed {
                status: status.to_string(),
                message: last_lines(self.stderr),
            }
        } else {
            match self.shutdown {
                Some("guest-shutdown") => ExitCause::PoweredOff,
                Some("guest-reset") => ExitCause::Rebooted,
                Some("guest-panic") => ExitCause::KernelPanic,
                _ => ExitCause::Exited,
            }
        })
    }
}

/// The last lines that say something, as one.
fn last_lines(stderr: &str) -> String {
    let lines: Vec<&str> = stderr.lines().filter(|l| !l.trim().is_empty()).collect();
    match lines[lines.len().saturating_sub(3)..].join("; ") {
        text if text.is_empty() => "it gave no reason".to_owned(),
        text => text,
    }
}

impl fmt::Display for ExitCause {
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
            Self::Failed { status, message } => {
                write!(f, "QEMU ended with {status}: {message}")
            }
            Self::Killed { signal } => write!(
                f,
                "QEMU was killed by signal {signal}; if nobody did that, the host may be short of \
                 memory: see its kernel log"
            ),
            Self::Exited => f.write_str("QEMU ended without an error and without a reason"),
        }
    }
}

impl fmt::Display for Exit {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.cause)?;
        write_tail(f, &self.console)
    }
}

/// The console's end, for the foot of a message.
pub(super) fn write_tail(f: &mut fmt::Formatter<'_>, lines: &[String]) -> fmt::Result {
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

    fn exited(raw: i32) -> Symptoms<'static> {
        Symptoms {
            status: Some(ExitStatus::from_raw(raw)),
            ..Symptoms::default()
        }
    }

    #[test]
    fn a_running_machine_is_well_until_something_says_otherwise() {
        assert_eq!(Symptoms::default().cause(), None);
        let symptoms = Symptoms {
            stderr: "KVM internal error. Suberror: 1\n",
            ..Symptoms::default()
        };
        assert_eq!(symptoms.cause(), Some(ExitCause::KvmInternalError));
        let symptoms = Symptoms {
            panicked: true,
            ..Symptoms::default()
        };
        assert_eq!(symptoms.cause(), Some(ExitCause::KernelPanic));
    }

    #[test]
    fn a_reset_after_a_panic_is_a_panic() {
        let symptoms = Symptoms {
            panicked: true,
            shutdown: Some("guest-reset"),
            ..exited(0)
        };
        assert_eq!(symptoms.cause(), Some(ExitCause::KernelPanic));
    }

    #[test]
    fn an_end_is_told_by_status_signal_and_qemu_s_own_reason() {
        assert_eq!(exited(9).cause(), Some(ExitCause::Killed { signal: 9 }));
        assert_eq!(exited(0).cause(), Some(ExitCause::Exited));
        let off = Symptoms {
            shutdown: Some("guest-shutdown"),
            ..exited(0)
        };
        assert_eq!(off.cause(), Some(ExitCause::PoweredOff));
        let refused = Symptoms {
            stderr: "\nqemu: could not load kernel '/k': No such file\n",
            ..exited(1 << 8)
        };
        let text = refused.cause().unwrap().to_string();
        assert!(text.contains("could not load kernel '/k'"), "{text}");
    }

    #[test]
    fn the_message_ends_with_the_console_s_last_lines() {
        let exit = Exit {
            cause: ExitCause::KvmInternalError,
            console: vec!["one".into(), "two".into()],
        };
        let text = exit.to_string();
        assert!(text.contains("--accel tcg"), "{text}");
        assert!(text.ends_with("lines:\n  | one\n  | two"), "{text}");
    }
}
