//! Which capabilities a service keeps.

use noonmark_contract::config::{Capability, Service};
use rustix::thread::CapabilitySet;

/// What a service of user 0 has without asking, as with container runtimes, but for `CAP_MKNOD`.
/// None of them sets the clock, loads a module, ends the machine, makes a device file, mounts, or
/// reaches into other processes.
const USUAL: CapabilitySet = CapabilitySet::CHOWN
    .union(CapabilitySet::DAC_OVERRIDE)
    .union(CapabilitySet::FOWNER)
    .union(CapabilitySet::FSETID)
    .union(CapabilitySet::KILL)
    .union(CapabilitySet::SETGID)
    .union(CapabilitySet::SETUID)
    .union(CapabilitySet::SETPCAP)
    .union(CapabilitySet::NET_BIND_SERVICE)
    .union(CapabilitySet::NET_RAW)
    .union(CapabilitySet::SYS_CHROOT)
    .union(CapabilitySet::AUDIT_WRITE)
    .union(CapabilitySet::SETFCAP);

/// What the service keeps: the usual ones and those that it lists where it runs as user 0, those
/// that it lists alone where it runs as another.
#[must_use]
pub fn kept(service: &Service) -> CapabilitySet {
    let listed = service
        .capabilities
        .iter()
        .map(|&capability| bit(capability))
        .fold(CapabilitySet::empty(), CapabilitySet::union);
    if service.user_id() == 0 {
        USUAL.union(listed)
    } else {
        listed
    }
}

fn bit(capability: Capability) -> CapabilitySet {
    CapabilitySet::from_bits_retain(1 << capability.number())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn service(user: u32, capabilities: &[Capability]) -> Service {
        Service {
            user: Some(user),
            capabilities: capabilities.to_vec(),
            ..Service::new("a", vec!["/a".into()])
        }
    }

    #[test]
    fn nothing_that_touches_clock_modules_or_machine_is_kept_unasked() {
        let kept = kept(&service(0, &[]));
        for dangerous in [
            CapabilitySet::SYS_TIME,
            CapabilitySet::SYS_MODULE,
            CapabilitySet::SYS_BOOT,
            CapabilitySet::SYS_ADMIN,
            CapabilitySet::SYS_RAWIO,
            CapabilitySet::SYS_PTRACE,
            CapabilitySet::SYS_NICE,
            CapabilitySet::SYS_RESOURCE,
            CapabilitySet::MKNOD,
            CapabilitySet::NET_ADMIN,
            CapabilitySet::BPF,
        ] {
            assert!(!kept.intersects(dangerous), "{dangerous:?}");
        }
    }

    #[test]
    fn what_is_listed_is_kept_and_for_another_user_nothing_else() {
        let listed = [Capability::SYS_TIME];
        assert!(kept(&service(0, &listed)).contains(CapabilitySet::SYS_TIME | USUAL));
        assert_eq!(kept(&service(7, &listed)), CapabilitySet::SYS_TIME);
        assert_eq!(kept(&service(7, &[])), CapabilitySet::empty());
    }

    #[test]
    fn names_and_bits_are_the_same_capabilities() {
        for (name, expected) in [
            ("CAP_CHOWN", CapabilitySet::CHOWN),
            ("CAP_SYS_BOOT", CapabilitySet::SYS_BOOT),
            ("CAP_CHECKPOINT_RESTORE", CapabilitySet::CHECKPOINT_RESTORE),
        ] {
            assert_eq!(Capability::named(name).map(bit), Ok(expected));
        }
    }
}
