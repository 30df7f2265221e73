//! Who a service is that names no user.

use core::ops::RangeInclusive;

use super::service::Service;

/// The users of services that name none: those that systemd gives to services by itself
/// (`DynamicUser=`; systemd's doc/UIDS-GIDS.md).
pub const OWN_USERS: RangeInclusive<u32> = 61_184..=65_519;

/// Gives each service that names no user one of [`OWN_USERS`] that no other has. It comes of the
/// service's name, so that what is on a data disk stays its own when other services come and go; of two
/// whose names come to the same, the later has the next.
pub fn assign_users(services: &mut [Service]) {
    let (first, last) = (*OWN_USERS.start(), *OWN_USERS.end());
    for place in 0..services.len() {
        if services[place].user.is_none() {
            let is_free = |&user: &u32| services.iter().all(|other| other.user != Some(user));
            let wanted = first + hash(&services[place].name) % (last - first + 1);
            services[place].user = (wanted..=last).chain(first..wanted).find(is_free);
        }
    }
}

/// FNV-1a of 32 bits (RFC 9923), which stays what it is from one version to the next.
fn hash(text: &str) -> u32 {
    text.bytes().fold(0x811c_9dc5, |hash, byte| {
        (hash ^ u32::from(byte)).wrapping_mul(0x0100_0193)
    })
}

#[cfg(test)]
mod tests {
    use alloc::collections::BTreeSet;
    use alloc::format;
    use alloc::vec;
    use alloc::vec::Vec;

    use super::*;

    /// The user of a service `web`.
    const WEB: u32 = 62_129;

    #[test]
    fn a_service_without_a_user_gets_one_of_its_own_that_stays_when_others_come() {
        let service = |name: &str, user| Service {
            user,
            ..Service::new(name, vec!["/a".into()])
        };
        let users = |mut services: Vec<Service>| {
            assign_users(&mut services);
            services.iter().map(Service::user_id).collect::<Vec<_>>()
        };
        // Written down: who has files on a disk must find them again.
        assert_eq!(users(vec![service("web", None)]), [WEB]);
        let more = vec![
            service("root", Some(0)),
            service("db", None),
            service("web", None),
        ];
        assert_eq!(users(more)[2], WEB);
        // One that an image gives by its number is nobody else's.
        let taken = vec![service("web", None), service("b", Some(WEB))];
        assert_eq!(users(taken), [WEB + 1, WEB]);
        let many = (0..400).map(|n| service(&format!("s{n}"), None)).collect();
        let many = users(many);
        assert!(many.iter().all(|user| OWN_USERS.contains(user)));
        let distinct: BTreeSet<_> = many.iter().collect();
        assert_eq!(distinct.len(), many.len());
    }
}
