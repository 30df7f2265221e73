//! Which interface an entry of the configuration means.

use fast_glob::glob_match;
use noonmark_contract::config::network::{Interface, InterfaceName};

use super::rtnetlink::Link;

/// The one that the entry at `at` means: by its hardware address, else by the kernel's name or one of
/// udev's, which `names` tells of a link, or by a pattern of them. One without either, or with a pattern, takes
/// the first that no other entry means or has; `taken` tells the numbers of those that entries have. So does the only entry
/// where there is only one interface, if its name is one that the kernel never gives.
pub fn choose(
    entries: &[&Interface],
    at: usize,
    links: &[Link],
    taken: &[Option<u32>],
    names: impl Fn(&Link) -> Vec<String>,
) -> Option<Link> {
    let is_meant = |entry: &Interface, link: &Link| match (&entry.macaddress, &entry.name) {
        (Some(mac), _) => link.mac == Some(*mac),
        (None, Some(name)) if !is_pattern(name) => {
            name.as_str() == link.name || names(link).iter().any(|other| other == name.as_str())
        }
        (None, _) => false,
    };
    let entry = *entries.get(at)?;
    if let Some(link) = links.iter().find(|link| is_meant(entry, link)) {
        return Some(link.clone());
    }
    let is_free = |link: &&Link| {
        let of_others = entries.iter().any(|other| is_meant(other, link));
        link.mac.is_some() && !of_others && !taken.contains(&Some(link.index))
    };
    let mut free = links.iter().filter(is_free);
    match (&entry.macaddress, &entry.name) {
        (None, None) => free.next().cloned(),
        (None, Some(pattern)) if is_pattern(pattern) => {
            let fits = |name: &str| glob_match(pattern.as_str(), name);
            free.find(|link| fits(&link.name) || names(link).iter().any(|name| fits(name)))
                .cloned()
        }
        (None, Some(name)) if !name.as_str().starts_with("eth") && entries.len() == 1 => {
            let first = free.next();
            first.filter(|_| free.next().is_none()).cloned()
        }
        _ => None,
    }
}

/// Whether a name stands for several: no interface has such a name.
fn is_pattern(name: &InterfaceName) -> bool {
    name.as_str().contains(['*', '?', '['])
}

#[cfg(test)]
mod tests {
    use noonmark_contract::config::network::Mac;

    use super::*;

    fn links() -> Vec<Link> {
        let link = |index: u32| Link {
            index,
            name: format!("eth{index}"),
            mac: Some(Mac([2, 0, 0, 0, 0, index as u8])),
        };
        (0..3).map(link).collect()
    }

    fn entry(name: &str) -> Interface {
        Interface {
            name: (!name.is_empty()).then(|| name.parse().unwrap()),
            ..Interface::default()
        }
    }

    /// Which links entries of these names get, one after the other; udev calls `eth0` `enp0s2`, and so on.
    fn chosen(wanted: &[&str], links: &[Link]) -> Vec<Option<u32>> {
        let entries: Vec<Interface> = wanted.iter().map(|name| entry(name)).collect();
        let entries: Vec<&Interface> = entries.iter().collect();
        let mut got: Vec<Option<Link>> = vec![None; entries.len()];
        for at in 0..entries.len() {
            let taken: Vec<Option<u32>> = got
                .iter()
                .map(|link| link.as_ref().map(|link: &Link| link.index))
                .collect();
            let names = |link: &Link| vec![format!("enp0s{}", link.index + 2)];
            got[at] = choose(&entries, at, links, &taken, names);
        }
        got.into_iter()
            .map(|link| link.map(|link| link.index))
            .collect()
    }

    #[test]
    fn names_of_the_kernels_and_of_udevs_mean_what_has_them() {
        assert_eq!(chosen(&["eth2", "enp0s2"], &links()), [Some(2), Some(0)]);
        assert_eq!(chosen(&["eth7", "enp0s9"], &links()), [None, None]);
    }

    #[test]
    fn a_pattern_means_the_first_that_has_such_a_name_and_is_nobody_elses() {
        let links = links();
        assert_eq!(chosen(&["eth*", "eth0"], &links), [Some(1), Some(0)]);
        assert_eq!(chosen(&["en*", "eth*"], &links), [Some(0), Some(1)]);
        assert_eq!(chosen(&["enp0s[4-9]"], &links), [Some(2)]);
        assert_eq!(
            chosen(&["eth?", "", "e*"], &links),
            [Some(0), Some(1), Some(2)]
        );
        assert_eq!(chosen(&["wl*"], &links), [None]);
    }

    #[test]
    fn a_foreign_name_is_the_only_interfaces_and_no_other() {
        let links = links();
        assert_eq!(chosen(&["ens18"], &links[..1]), [Some(0)]);
        assert_eq!(chosen(&["ens18"], &links), [None]);
        assert_eq!(chosen(&["ens18", "ens19"], &links[..1]), [None, None]);
        assert_eq!(chosen(&["eth5"], &links[..1]), [None]);
    }
}
