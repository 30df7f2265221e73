//! PHCs that have come and must not be read yet: some drivers register a NIC's PHC before they have
//! set up what a reading needs, and a reading in between is a NULL pointer in the kernel, which kills
//! who reads. So a PHC of a device is left alone until the kernel says that the driver is done
//! (uevent `bind`, drivers/base/dd.c), or until a while has passed for a driver that had been done
//! before it registered the PHC.

use noonmark_contract::units::{Nanos, Raw};

/// How long a driver is waited for. Probing takes well under a second, under emulation too.
const PROBE_TIMEOUT: Nanos = Nanos::from_secs(2);

/// So many at once are remembered; what is beyond has to do without.
const PROBING_MAX: usize = 64;

/// The PHCs whose devices' drivers are at work.
#[derive(Debug, Default)]
pub struct Probing(Vec<Entry>);

#[derive(Debug)]
struct Entry {
    device: String,
    name: String,
    until: Raw,
}

impl Probing {
    /// A PHC has come.
    pub fn add(&mut self, device: String, name: String, now: Raw) {
        self.0.retain(|entry| entry.name != name);
        if self.0.len() < PROBING_MAX {
            let until = now + PROBE_TIMEOUT;
            self.0.push(Entry {
                device,
                name,
                until,
            });
        }
    }

    /// A device's driver is done; whether that makes a PHC readable.
    pub fn bound(&mut self, device: &str) -> bool {
        let before = self.0.len();
        self.0.retain(|entry| entry.device != device);
        self.0.len() < before
    }

    /// Whether a PHC is readable now that was waited for long enough.
    pub fn expire(&mut self, now: Raw) -> bool {
        let before = self.0.len();
        self.0.retain(|entry| entry.until > now);
        self.0.len() < before
    }

    /// When [`Probing::expire`] will have something to do.
    #[must_use]
    pub fn deadline(&self) -> Option<Raw> {
        self.0.iter().map(|entry| entry.until).min()
    }

    /// Whether this PHC, by its name in `/sys/class/ptp`, is not to be read yet.
    #[must_use]
    pub fn has(&self, name: &str) -> bool {
        self.0.iter().any(|entry| entry.name == name)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn probing() -> Probing {
        let mut probing = Probing::default();
        probing.add("/devices/nic".into(), "ptp1".into(), Raw(0));
        probing
    }

    #[test]
    fn a_phc_is_left_alone_until_its_device_s_driver_is_done() {
        let mut probing = probing();
        assert!(probing.has("ptp1") && !probing.has("ptp0"));
        assert!(!probing.bound("/devices/other") && probing.has("ptp1"));
        assert!(probing.bound("/devices/nic"));
        assert!(!probing.has("ptp1") && probing.deadline().is_none());
    }

    #[test]
    fn a_driver_that_tells_nothing_more_is_not_waited_for_for_ever() {
        let mut probing = probing();
        assert_eq!(probing.deadline(), Some(Raw(PROBE_TIMEOUT.0)));
        assert!(!probing.expire(Raw(PROBE_TIMEOUT.0 - 1)) && probing.has("ptp1"));
        assert!(probing.expire(Raw(PROBE_TIMEOUT.0)) && !probing.has("ptp1"));
        assert!(!probing.expire(Raw(i64::MAX)));
    }

    #[test]
    fn devices_without_end_take_no_memory_without_end() {
        let mut probing = Probing::default();
        for number in 0..10_000 {
            probing.add("/devices/nic".into(), format!("ptp{number}"), Raw(0));
        }
        assert_eq!(probing.0.len(), PROBING_MAX);
    }
}
