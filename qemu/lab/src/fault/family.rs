//! Families of faults: what reports and limits group them by.

use std::fmt;

use noonmark_contract::units::Nanos;
use serde::{Deserialize, Serialize};

/// How soon a guest must have let go of a source that is lost or a falseticker.
pub(crate) const LEAVE_MAX: Nanos = Nanos::from_secs(1);

/// What kind of disturbance a fault is: the part of its name before the colon.
#[derive(
    Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize,
)]
#[serde(rename_all = "kebab-case")]
pub enum Family {
    /// The guest's clock is set, by a span or to a date.
    #[default]
    Step,
    /// The guest's frequency or tick is changed.
    Skew,
    /// The host stops the machine for a while.
    Pause,
    /// The machine's state is saved, and restored in a new QEMU.
    Restore,
    /// The machine moves to another QEMU while it runs.
    Migrate,
    /// The source that the guest follows goes away.
    SourceLoss,
    /// The source that the guest follows is a falseticker.
    #[serde(rename = "liar")]
    Falseticker,
    /// The clock is set again and again while the guest is under load.
    Storm,
    /// A mixture of the others.
    Combined,
    /// The host's clock is set.
    HostStep,
    /// The host's clock runs at another rate.
    HostRate,
    /// The host's clock is slewed.
    HostSlew,
    /// The host stands still for a while.
    HostSuspend,
    /// A program keeps the host's clock.
    HostDaemon,
}

impl Family {
    /// All of them, in the order of the matrix.
    pub const ALL: [Self; 14] = [
        Self::Step,
        Self::Skew,
        Self::Pause,
        Self::Restore,
        Self::Migrate,
        Self::SourceLoss,
        Self::Falseticker,
        Self::Storm,
        Self::Combined,
        Self::HostStep,
        Self::HostRate,
        Self::HostSlew,
        Self::HostSuspend,
        Self::HostDaemon,
    ];

    /// The longest time to recover that passes for this family where `asked` passes for faults in
    /// general. A source's silence takes longer to notice than a clock that is wrong.
    #[must_use]
    pub fn max_recovery(self, asked: Nanos) -> Nanos {
        match self {
            Self::SourceLoss | Self::Falseticker => asked.max(LEAVE_MAX),
            // What is asked of them is their errors at all times, not a time to recover.
            Self::HostRate | Self::HostSlew | Self::HostSuspend | Self::HostDaemon => Nanos::MAX,
            _ => asked,
        }
    }
}

impl fmt::Display for Family {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Step => "step",
            Self::Skew => "skew",
            Self::Pause => "pause",
            Self::Restore => "restore",
            Self::Migrate => "migrate",
            Self::SourceLoss => "source-loss",
            Self::Falseticker => "liar",
            Self::Storm => "storm",
            Self::Combined => "combined",
            Self::HostStep => "host-step",
            Self::HostRate => "host-rate",
            Self::HostSlew => "host-slew",
            Self::HostSuspend => "host-suspend",
            Self::HostDaemon => "host-daemon",
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_family_has_one_name_in_reports_and_on_the_command_line() {
        for family in Family::ALL {
            let name = serde_json::to_value(family).unwrap();
            assert_eq!(name, family.to_string());
        }
    }

    #[test]
    fn only_a_source_s_loss_may_take_longer_than_what_is_asked_for() {
        let asked = Nanos::from_millis(50);
        assert_eq!(Family::Step.max_recovery(asked), asked);
        assert_eq!(Family::Falseticker.max_recovery(asked), LEAVE_MAX);
        let more = Nanos::from_secs(2);
        assert_eq!(Family::SourceLoss.max_recovery(more), more);
    }
}
