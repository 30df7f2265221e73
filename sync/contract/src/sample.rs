//! One reading of a reference clock beside the guest's own clocks.

use alloc::string::String;
use core::fmt;
use core::str::FromStr;

use serde::{Deserialize, Serialize};

use crate::units::{Nanos, Raw, Utc};

/// A reference clock that the guest may follow, in the words of `[clock] sources`.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub enum Source {
    /// `kvm`: `ptp_kvm`'s PHC, `KVM virtual PTP`.
    Kvm,
    /// `vmclock`: `ptp_vmclock`'s PHC, `vmclock*`.
    Vmclock,
    /// `virtio-rtc`: `virtio_rtc`'s PHC, `Virtio PTP type 0/…`.
    VirtioRtc,
    /// `hyperv`: `hv_utils`' PHC.
    Hyperv,
    /// `vmware`: `ptp_vmw`'s PHC.
    Vmware,
    /// `phc:NAME`: any PHC by its exact `clock_name`.
    Phc(String),
    /// `host`: the host's time channel, port `noonmark.time`.
    Host,
    /// `ntp`: a server on the network, handed in by a helper.
    Ntp,
    /// `rtc`: the battery-backed clock; whole seconds, the last rung.
    Rtc,
}

impl Source {
    /// Whether the hypervisor itself answers for it. Such a source is taken at its word: it is the
    /// host's clock, right or wrong. What any other says may be anybody's word, and is checked.
    #[must_use]
    pub fn is_hypervisors(&self) -> bool {
        match self {
            Self::Kvm | Self::Vmclock | Self::VirtioRtc | Self::Hyperv | Self::Vmware => true,
            Self::Phc(_) | Self::Host | Self::Ntp | Self::Rtc => false,
        }
    }

    /// Whether a reading comes at once, within some microseconds, so that it can be taken at every
    /// watch tick.
    #[must_use]
    pub fn is_immediate(&self) -> bool {
        self.is_hypervisors() || matches!(self, Self::Phc(_))
    }
}

/// How a reading was taken; they differ in what bounds their error.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Method {
    /// `PTP_SYS_OFFSET_PRECISE`: the device pairs its time with the clocksource itself.
    Precise,
    /// `PTP_SYS_OFFSET_EXTENDED`: system time just before and just after the device's.
    Extended,
    /// `PTP_SYS_OFFSET`: system and device time in turn.
    Offset,
    /// Four timestamps over the host's time channel, where the bound is half the shortest round
    /// trip; or with servers on a network, where it is what those that agree say.
    RoundTrip,
    /// Whole seconds of `/dev/rtc0`, timed at the second's edge where the driver can.
    Rtc,
}

/// A reference reading paired with both guest clocks at one instant.
///
/// Deliberately neither `Copy` nor `Clone`: a reading is used once.
#[derive(Debug, PartialEq, Eq)]
pub struct Reading {
    /// Where it came from.
    pub source: Source,
    /// How it was taken.
    pub method: Method,
    /// The reference's time.
    pub reference: Utc,
    /// `CLOCK_REALTIME` at that instant.
    pub realtime: Utc,
    /// `CLOCK_MONOTONIC_RAW` at that instant.
    pub raw: Raw,
    /// The largest error that the pairing itself can have; not the source's own error.
    pub bound: Nanos,
}

impl Reading {
    /// Reference minus clock: what would have to be added to `CLOCK_REALTIME`.
    #[must_use]
    pub fn offset(&self) -> Nanos {
        self.reference - self.realtime
    }
}

/// Both guest clocks at one instant, with no reference.
///
/// Taken as `CLOCK_MONOTONIC_RAW`, `CLOCK_REALTIME`, `CLOCK_MONOTONIC_RAW`: `raw` is the middle of
/// the outer two and `bound` half of what lies between them.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Local {
    /// `CLOCK_REALTIME`.
    pub realtime: Utc,
    /// `CLOCK_MONOTONIC_RAW` at that instant.
    pub raw: Raw,
    /// The largest error of the pairing.
    pub bound: Nanos,
}

/// Why a source gave no reading.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum ReadFailure {
    /// There is no such device, port or helper on this machine (now).
    Absent,
    /// The device refused: the errno of its ioctl.
    Refused(i32),
    /// Nothing came back within the deadline.
    Timeout,
    /// What came back was no answer: broken framing, a wrong sequence, an impossible time.
    Garbage,
}

impl fmt::Display for ReadFailure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Absent => f.write_str("not there"),
            Self::Refused(errno) => write!(f, "refused with errno {errno}"),
            Self::Timeout => f.write_str("no answer in time"),
            Self::Garbage => f.write_str("an answer that can't be true"),
        }
    }
}

/// A source's name that is not in the list.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct UnknownSource(pub String);

impl fmt::Display for UnknownSource {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "unknown clock source `{}`; expected one of kvm, vmclock, virtio-rtc, hyperv, vmware, \
             phc:NAME, host, ntp, rtc",
            self.0
        )
    }
}

impl core::error::Error for UnknownSource {}

impl FromStr for Source {
    type Err = UnknownSource;

    fn from_str(text: &str) -> Result<Self, UnknownSource> {
        Ok(match text {
            "kvm" => Self::Kvm,
            "vmclock" => Self::Vmclock,
            "virtio-rtc" => Self::VirtioRtc,
            "hyperv" => Self::Hyperv,
            "vmware" => Self::Vmware,
            "host" => Self::Host,
            "ntp" => Self::Ntp,
            "rtc" => Self::Rtc,
            _ => match text.strip_prefix("phc:") {
                Some(name) if !name.is_empty() => Self::Phc(name.into()),
                _ => return Err(UnknownSource(text.into())),
            },
        })
    }
}

impl fmt::Display for Source {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Kvm => "kvm",
            Self::Vmclock => "vmclock",
            Self::VirtioRtc => "virtio-rtc",
            Self::Hyperv => "hyperv",
            Self::Vmware => "vmware",
            Self::Phc(name) => return write!(f, "phc:{name}"),
            Self::Host => "host",
            Self::Ntp => "ntp",
            Self::Rtc => "rtc",
        })
    }
}

impl TryFrom<String> for Source {
    type Error = UnknownSource;
    fn try_from(text: String) -> Result<Self, UnknownSource> {
        text.parse()
    }
}

impl From<Source> for String {
    fn from(source: Source) -> Self {
        alloc::format!("{source}")
    }
}
