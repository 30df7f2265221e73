//! The faults that an experiment can do: what each is, needs and asks for, in one place; what each is
//! called stands in `name.rs`.

use std::time::Duration;

use super::family::Family;
use super::host::HostChange;
use noonmark_contract::testport;
use noonmark_contract::units::{Nanos, Ppb, Utc};

/// A disturbance by name. Its [`Display`](std::fmt::Display) is a name that parses to the same
/// fault.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fault {
    /// `date:2023-03-01T12:30`: the guest's clock is set to this instant of UTC, as
    /// `date 030112302023` does in a guest, whose time zone is UTC.
    Date(Utc),
    /// `step:-1h`: the guest's clock is set to what it says plus this.
    Step(Nanos),
    /// `skew:+500ppm`: the guest's frequency is set to this; -500..=500, not 0.
    Frequency {
        /// Parts per million.
        ppm: i32,
    },
    /// `skew:tick+10%`: the guest's tick is made longer by this; -10..=10, not 0.
    Tick {
        /// Of the usual 10 ms.
        percent: i32,
    },
    /// `pause:5s`: the host stops the machine for this long; with `+kick` it tells PID 1 of it.
    Pause {
        /// How long; a millisecond to an hour.
        span: Duration,
        /// Whether PID 1 is told.
        kick: bool,
    },
    /// `restore:10s`: the machine's state is saved to a file, and restored in a new QEMU this much
    /// later; with `+devices` the machine has a VM generation ID and a VMClock.
    Restore {
        /// From one QEMU's end to the other's start; up to an hour.
        away: Duration,
        /// Whether it has the devices that tell a guest of it.
        devices: bool,
        /// Whether PID 1 is told by the host.
        kick: bool,
        /// `restore:host-step:+3s`: what becomes of the host's clock in the meantime.
        between: Option<HostChange>,
    },
    /// `migrate`: the machine moves to another QEMU while it runs.
    Migrate {
        /// `migrate:host-step:+3s`: what sets the next host's clock apart.
        between: Option<HostChange>,
    },
    /// `source-loss:channel`: the host closes its time channel, which the guest follows, and opens
    /// it again later.
    ChannelLoss,
    /// `source-loss:phc`: the NIC whose PHC the guest follows is unplugged, and plugged in again
    /// later.
    PhcLoss,
    /// `liar:hour`: the host's time server, which the guest follows, is a falseticker of this kind.
    Falseticker(Misbehaviour),
    /// `storm:1000`: this many scrambles at random moments of a guest under load.
    Storm {
        /// How many; 1..=1,000,000.
        scrambles: u32,
    },
    /// `combined`: each sample is a step, a skew or a pause, drawn from the seed.
    Combined,
    /// `host-step:+3s`, `host-rate:+50ppm` and so on: something becomes of the host's clock.
    Host(HostChange),
}

/// How the host's time server misbehaves.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Misbehaviour {
    /// It is ahead by an hour, at once.
    Hour,
    /// It drifts away by 1000 ppm.
    Drift,
    /// It sends what is no answer.
    Garbage,
    /// It answers after 300 ms.
    Late,
    /// It does not answer.
    Silent,
}

/// The machine that a fault needs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum MachineVariant {
    /// Any.
    Plain,
    /// One whose guest follows the host's time channel.
    HostSource,
    /// One with a VM generation ID and a VMClock.
    Devices,
    /// One whose guest follows the PHC of a NIC that can be unplugged.
    Nic,
}

impl MachineVariant {
    /// All of them, in the order in which an experiment enters them.
    pub(crate) const ALL: [Self; 4] = [Self::Plain, Self::HostSource, Self::Devices, Self::Nic];
}

/// Who does a fault, and how.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) enum Action {
    /// The fault program in the guest does it.
    Guest(testport::Fault),
    /// It does a random step, and the guest is under load.
    Storm,
    /// QEMU stops the machine or moves it.
    Machine(Interruption),
    /// The source that the guest follows is changed.
    Source(SourceFault),
    /// One of the other faults, drawn from the seed.
    Drawn,
    /// The host, which is an emulated one, has this become of it.
    Host(HostChange),
}

/// What keeps a machine from running for a while.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Interruption {
    /// It is stopped.
    Pause { span: Duration, kick: bool },
    /// Its state is saved, and restored in a new QEMU.
    Restore {
        away: Duration,
        kick: bool,
        between: Option<HostChange>,
    },
    /// It moves to another QEMU while it runs.
    Migrate { between: Option<HostChange> },
}

/// What becomes of the source that a guest follows.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum SourceFault {
    /// The host closes the time channel.
    ChannelClosed,
    /// The NIC with the PHC is unplugged.
    NicUnplugged,
    /// The host's time server misbehaves.
    Falseticker(Misbehaviour),
}

/// What an experiment must know of a fault to do it.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) struct Profile {
    /// The family that it belongs to, which says what is accepted of it.
    pub(crate) family: Family,
    /// The machine that it needs.
    pub(crate) machine: MachineVariant,
    /// How it is done.
    pub(crate) action: Action,
}

/// The error that a skewed clock must never exceed: 20 ms, a watch tick, at 10 %, and half as much
/// again for the wake.
pub const SKEW_ERROR_MAX: Nanos = Nanos::from_millis(3);

/// How long a restored machine was away where its fault says nothing else.
pub(super) const AWAY: Duration = Duration::from_secs(10);

/// 2023-03-01T12:30:00Z, what `date 030112302023` sets.
const MARCH_2023: Utc = Utc(1_677_673_800_000_000_000);

/// Dates at which clocks are known to break: the first day that the kernel lets a clock be set to
/// (not before it was booted), a day after the end of 32-bit time, and the end of its unsigned kin.
const DATES: [Utc; 3] = [
    Utc(86_400_000_000_000),
    Utc((i32::MAX as i64 + 86_400) * 1_000_000_000),
    Utc((u32::MAX as i64 + 1) * 1_000_000_000),
];

impl Fault {
    /// The faults of `recover` where none is named.
    #[must_use]
    pub fn defaults() -> Vec<Self> {
        vec![
            Self::Date(MARCH_2023),
            Self::Step(Nanos::from_secs(-3600)),
            Self::Step(Nanos::from_secs(3600)),
            Self::Step(Nanos::from_millis(500)),
            Self::Step(Nanos::from_millis(-50)),
        ]
    }

    /// Every fault that there is, in its usual sizes, family by family.
    #[must_use]
    pub fn matrix() -> Vec<Self> {
        let mut all = vec![Self::Date(MARCH_2023)];
        all.extend(DATES.map(Self::Date));
        for step in [3_600_000, 500, 50, 2].map(Nanos::from_millis) {
            all.extend([Self::Step(step), Self::Step(-step)]);
        }
        all.extend([500, -500].map(|ppm| Self::Frequency { ppm }));
        all.extend([10, -10].map(|percent| Self::Tick { percent }));
        for span in [100, 5_000, 30_000].map(Duration::from_millis) {
            all.extend([false, true].map(|kick| Self::Pause { span, kick }));
        }
        all.extend([false, true].map(|devices| Self::Restore {
            away: AWAY,
            devices,
            kick: false,
            between: None,
        }));
        all.push(Self::Migrate { between: None });
        for change in HostChange::between() {
            let between = Some(change);
            all.push(Self::Migrate { between });
            all.push(Self::Restore {
                away: AWAY,
                devices: false,
                kick: false,
                between,
            });
        }
        all.extend([Self::ChannelLoss, Self::PhcLoss]);
        all.extend(Misbehaviour::ALL.map(Self::Falseticker));
        all.extend([Self::Storm { scrambles: 1_000 }, Self::Combined]);
        all.extend(HostChange::usual().into_iter().map(Self::Host));
        all
    }

    /// The members of a family that the matrix has.
    #[must_use]
    pub fn of_family(family: Family) -> Vec<Self> {
        let mut members = Self::matrix();
        members.retain(|fault| fault.family() == family);
        members
    }

    /// The family that it belongs to.
    #[must_use]
    pub fn family(self) -> Family {
        self.profile().family
    }

    /// Everything that the experiment must know of it, in one place.
    pub(crate) fn profile(self) -> Profile {
        use MachineVariant::{Devices, HostSource, Nic, Plain};
        let guest = Action::Guest;
        let (family, machine, action) = match self {
            Self::Date(to) => (Family::Step, Plain, guest(testport::Fault::Set(to))),
            Self::Step(by) => (Family::Step, Plain, guest(testport::Fault::Shift(by))),
            Self::Frequency { ppm } => {
                let ppb = Ppb(f64::from(ppm) * 1e3);
                (Family::Skew, Plain, guest(testport::Fault::Frequency(ppb)))
            }
            Self::Tick { percent } => {
                // Of 10,000 microseconds, a hundredth is 100.
                let tick_us = 10_000 + i64::from(percent) * 100;
                (Family::Skew, Plain, guest(testport::Fault::Tick(tick_us)))
            }
            Self::Pause { span, kick } => {
                let pause = Interruption::Pause { span, kick };
                (Family::Pause, Plain, Action::Machine(pause))
            }
            Self::Restore {
                away,
                devices,
                kick,
                between,
            } => {
                let machine = if devices { Devices } else { Plain };
                let restore = Interruption::Restore {
                    away,
                    kick,
                    between,
                };
                (Family::Restore, machine, Action::Machine(restore))
            }
            Self::Migrate { between } => {
                let migrate = Interruption::Migrate { between };
                (Family::Migrate, Plain, Action::Machine(migrate))
            }
            Self::ChannelLoss => {
                let closed = SourceFault::ChannelClosed;
                (Family::SourceLoss, HostSource, Action::Source(closed))
            }
            Self::PhcLoss => {
                let unplugged = SourceFault::NicUnplugged;
                (Family::SourceLoss, Nic, Action::Source(unplugged))
            }
            Self::Falseticker(how) => {
                let wrong = SourceFault::Falseticker(how);
                (Family::Falseticker, HostSource, Action::Source(wrong))
            }
            Self::Storm { .. } => (Family::Storm, Plain, Action::Storm),
            Self::Combined => (Family::Combined, Plain, Action::Drawn),
            Self::Host(change) => {
                let family = match change {
                    HostChange::Step(_) => Family::HostStep,
                    HostChange::Rate { .. } => Family::HostRate,
                    HostChange::Slew { .. } => Family::HostSlew,
                    HostChange::Suspend(_) => Family::HostSuspend,
                    HostChange::Daemon(_) => Family::HostDaemon,
                };
                (family, Plain, Action::Host(change))
            }
        };
        Profile {
            family,
            machine,
            action,
        }
    }

    /// Whether it needs the guest that follows a NIC's PHC.
    #[must_use]
    pub fn needs_nic(self) -> bool {
        self.machine() == MachineVariant::Nic
    }

    /// How many samples are taken of it where `count` are asked for of each fault: a storm says
    /// itself how many.
    #[must_use]
    pub fn samples(self, count: u32) -> u32 {
        match self {
            Self::Storm { scrambles } => scrambles,
            Self::Host(change) => change.samples(count),
            _ => count,
        }
    }

    /// The machine that it needs.
    pub(crate) fn machine(self) -> MachineVariant {
        self.profile().machine
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_matrix_has_every_family_and_no_fault_twice() {
        for family in Family::ALL {
            assert!(!Fault::of_family(family).is_empty(), "{family:?}");
        }
        let mut names: Vec<String> = Fault::matrix().iter().map(Fault::to_string).collect();
        let all = names.len();
        names.sort();
        names.dedup();
        assert_eq!(names.len(), all);
    }

    #[test]
    fn a_skew_is_asked_for_in_the_kernel_s_own_units() {
        let tick = Fault::Tick { percent: -10 }.profile().action;
        assert_eq!(tick, Action::Guest(testport::Fault::Tick(9_000)));
        let frequency = Fault::Frequency { ppm: 500 }.profile().action;
        let asked = testport::Fault::Frequency(Ppb(500_000.0));
        assert_eq!(frequency, Action::Guest(asked));
        let migrate = Fault::Migrate { between: None }.profile().action;
        let moved = Interruption::Migrate { between: None };
        assert_eq!(migrate, Action::Machine(moved));
    }

    #[test]
    fn a_storm_says_itself_how_many_samples_it_has() {
        assert_eq!(Fault::Storm { scrambles: 7 }.samples(10), 7);
        assert_eq!(Fault::Migrate { between: None }.samples(10), 10);
    }
}
