//! The reference clocks that a guest may follow, and everything by which one differs from another.
//!
//! A further PHC driver is a variant, a row of [`Source::traits`] and a place in [`ALL`]; whoever
//! loads modules, looks for devices or reads a configuration asks here.

use alloc::format;
use alloc::string::String;
use alloc::vec::Vec;
use core::fmt;
use core::str::FromStr;

use serde::{Deserialize, Serialize};

/// A reference clock, in the words of `[clock] sources`.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub enum Source {
    /// `kvm`: KVM's own PHC.
    Kvm,
    /// `vmclock`: the PHC of the hypervisor's vmclock device.
    Vmclock,
    /// `virtio-rtc`: the PHC of a virtio RTC.
    VirtioRtc,
    /// `hyperv`: Hyper-V's PHC.
    Hyperv,
    /// `vmware`: VMware's PHC.
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

/// All of them, in the order of the default ladder: best first.
const ALL: [Source; 9] = [
    Source::Kvm,
    Source::Vmclock,
    Source::VirtioRtc,
    Source::Hyperv,
    Source::Vmware,
    Source::Phc(String::new()),
    Source::Host,
    Source::Ntp,
    Source::Rtc,
];

/// What `phc:NAME` begins with.
const PHC_PREFIX: &str = "phc:";

/// One row of [`Source::traits`].
struct Traits {
    name: &'static str,
    /// Whether a guest tries it that was told nothing else.
    by_default: bool,
    driver: Option<Driver>,
}

/// The driver of a PHC by which a hypervisor hands out its own time.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Driver {
    /// Its kernel module, with underscores.
    pub module: &'static str,
    /// Whether a kernel without it is an error; else the source is one that the machine lacks.
    pub is_required: bool,
    clock_name: ClockName,
}

/// What a driver calls its PHC, in `/sys/class/ptp/ptp*/clock_name`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum ClockName {
    Is(&'static str),
    StartsWith(&'static str),
}

/// A source's name that is not in the list.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct UnknownSource(pub String);

impl Source {
    /// Everything that distinguishes a source.
    fn traits(&self) -> Traits {
        use ClockName::{Is, StartsWith};
        match self {
            Self::Kvm => Traits::driven("kvm", "ptp_kvm", true, Is("KVM virtual PTP")),
            Self::Vmclock => Traits::driven("vmclock", "ptp_vmclock", false, StartsWith("vmclock")),
            // Type 0 is UTC; the others (TAI, monotonic) are no time of day.
            Self::VirtioRtc => Traits::driven(
                "virtio-rtc",
                "virtio_rtc",
                false,
                StartsWith("Virtio PTP type 0"),
            ),
            Self::Hyperv => Traits::driven("hyperv", "hv_utils", false, Is("hyperv")),
            Self::Vmware => Traits::driven("vmware", "ptp_vmw", false, Is("ptp_vmw")),
            Self::Phc(_) => Traits::other("phc:NAME", false),
            Self::Host => Traits::other("host", true),
            Self::Ntp => Traits::other("ntp", false),
            Self::Rtc => Traits::other("rtc", true),
        }
    }

    /// The ladder of a guest that was told nothing else.
    #[must_use]
    pub fn default_ladder() -> Vec<Self> {
        let by_default = |source: &Self| source.traits().by_default;
        ALL.into_iter().filter(by_default).collect()
    }

    /// The driver that it needs, if the hypervisor serves it by one.
    #[must_use]
    pub fn driver(&self) -> Option<Driver> {
        self.traits().driver
    }

    /// The source that is lost without this kernel module.
    #[must_use]
    pub fn served_by(module: &str) -> Option<Self> {
        let serves = |source: &Self| {
            source
                .driver()
                .is_some_and(|driver| driver.module == module)
        };
        ALL.into_iter().find(serves)
    }

    /// Whether it gives the host's own time, by whatever way.
    #[must_use]
    pub fn is_host_clock(&self) -> bool {
        matches!(self, Self::Host) || self.driver().is_some()
    }

    /// Whether a PHC with this `clock_name` is what the source stands for.
    #[must_use]
    pub fn is_phc(&self, clock_name: &str) -> bool {
        match (self, self.driver().map(|driver| driver.clock_name)) {
            (Self::Phc(name), _) => clock_name == name,
            (_, Some(ClockName::Is(name))) => clock_name == name,
            (_, Some(ClockName::StartsWith(prefix))) => clock_name.starts_with(prefix),
            (_, None) => false,
        }
    }

    /// Whether the hypervisor itself answers for it. Such a source is taken at its word: it is the
    /// host's clock, right or wrong. What any other says may be anybody's word, and is checked.
    #[must_use]
    pub fn is_hypervisors(&self) -> bool {
        self.driver().is_some()
    }

    /// Whether a reading comes at once, within some microseconds, so that it can be taken at every
    /// watch tick.
    #[must_use]
    pub fn is_immediate(&self) -> bool {
        self.is_hypervisors() || matches!(self, Self::Phc(_))
    }
}

impl Traits {
    const fn driven(
        name: &'static str,
        module: &'static str,
        is_required: bool,
        clock_name: ClockName,
    ) -> Self {
        Self {
            name,
            by_default: true,
            driver: Some(Driver {
                module,
                is_required,
                clock_name,
            }),
        }
    }

    const fn other(name: &'static str, by_default: bool) -> Self {
        Self {
            name,
            by_default,
            driver: None,
        }
    }
}

impl fmt::Display for UnknownSource {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let names = ALL.map(|source| source.traits().name).join(", ");
        let Self(wrong) = self;
        write!(f, "unknown clock source `{wrong}`; expected one of {names}")
    }
}

impl core::error::Error for UnknownSource {}

impl FromStr for Source {
    type Err = UnknownSource;

    fn from_str(text: &str) -> Result<Self, UnknownSource> {
        let named = match text.strip_prefix(PHC_PREFIX) {
            Some(name) => (!name.is_empty()).then(|| Self::Phc(name.into())),
            None => ALL.into_iter().find(|source| source.traits().name == text),
        };
        named.ok_or_else(|| UnknownSource(text.into()))
    }
}

impl fmt::Display for Source {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Phc(name) => write!(f, "{PHC_PREFIX}{name}"),
            _ => f.write_str(self.traits().name),
        }
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
        format!("{source}")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_device_is_recognised_by_the_name_its_driver_gives() {
        for (source, name, expected) in [
            (Source::Kvm, "KVM virtual PTP", true),
            (Source::Kvm, "52:54:00:12:34:56", false),
            (Source::Vmclock, "vmclock3", true),
            (Source::VirtioRtc, "Virtio PTP type 0/variant 0", true),
            (Source::VirtioRtc, "Virtio PTP type 1/variant 0", false),
            (Source::Hyperv, "hyperv", true),
            (Source::Vmware, "ptp_vmw", true),
            (
                Source::Phc("52:54:00:12:34:56".into()),
                "52:54:00:12:34:56",
                true,
            ),
            (Source::Phc("52:54".into()), "52:54:00:12:34:56", false),
            (Source::Rtc, "rtc_cmos", false),
        ] {
            assert_eq!(source.is_phc(name), expected, "{source} against `{name}`");
        }
    }

    #[test]
    fn a_module_serves_the_source_whose_driver_it_is() {
        for source in ALL {
            let served = source
                .driver()
                .and_then(|driver| Source::served_by(driver.module));
            assert_eq!(served.is_some(), source.is_hypervisors());
            assert!(served.is_none_or(|served| served == source));
        }
        assert_eq!(Source::served_by("virtio_console"), None);
    }
}
