//! What the guest is: its name, its system, its processors.

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;

use serde::Serialize;

/// Where a system says what it is (os-release(5)), in this order.
const OS_RELEASE: [&str; 2] = ["/etc/os-release", "/usr/lib/os-release"];

/// Where the kernel shows its processors (Documentation/ABI/testing/sysfs-devices-system-cpu).
const PROCESSORS: &str = "/sys/devices/system/cpu";

/// The most processors that a list may name: Linux can have 8192.
const PROCESSORS_MAX: usize = 8192;

/// `GuestOSInfo`
#[derive(Debug, Serialize)]
#[serde(rename_all = "kebab-case")]
pub struct OsInfo {
    kernel_release: String,
    kernel_version: String,
    machine: String,
    #[serde(flatten)]
    release: BTreeMap<&'static str, String>,
}

/// `GuestLogicalProcessor`
#[derive(Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub struct LogicalProcessor {
    logical_id: usize,
    online: bool,
    /// Nobody can do that by way of this agent.
    can_offline: bool,
}

/// The kernel's host name.
pub fn host_name() -> String {
    let uname = rustix::system::uname();
    uname.nodename().to_string_lossy().into_owned()
}

/// The kernel, and what an image with a whole system in it says of that; else noonmark.
pub fn os_info() -> OsInfo {
    let uname = rustix::system::uname();
    let text = |text: &std::ffi::CStr| text.to_string_lossy().into_owned();
    let mut files = OS_RELEASE.iter();
    let file = files.find_map(|path| fs::read_to_string(path).ok());
    OsInfo {
        kernel_release: text(uname.release()),
        kernel_version: text(uname.version()),
        machine: text(uname.machine()),
        release: file.map_or_else(own_release, |text| release(&text)),
    }
}

fn own_release() -> BTreeMap<&'static str, String> {
    let version = env!("CARGO_PKG_VERSION");
    BTreeMap::from([
        ("id", "noonmark".to_owned()),
        ("name", "noonmark".to_owned()),
        ("pretty-name", format!("noonmark {version}")),
        ("version", version.to_owned()),
        ("version-id", version.to_owned()),
    ])
}

/// The schema's members of an os-release file. A shell would read it; what it may have in it of a shell's
/// quoting is at most a backslash before a few characters.
fn release(text: &str) -> BTreeMap<&'static str, String> {
    let names = [
        ("ID", "id"),
        ("NAME", "name"),
        ("PRETTY_NAME", "pretty-name"),
        ("VERSION", "version"),
        ("VERSION_ID", "version-id"),
        ("VARIANT", "variant"),
        ("VARIANT_ID", "variant-id"),
    ];
    let lines = text.lines().filter_map(|line| line.split_once('='));
    lines
        .filter_map(|(name, value)| {
            let (_, member) = names.into_iter().find(|(known, _)| *known == name.trim())?;
            Some((member, unquoted(value.trim())))
        })
        .collect()
}

fn unquoted(value: &str) -> String {
    let inner = ['"', '\'']
        .iter()
        .find_map(|&quote| value.strip_prefix(quote)?.strip_suffix(quote));
    let mut text = String::new();
    let mut escaped = false;
    for character in inner.unwrap_or(value).chars() {
        if character == '\\' && !escaped {
            escaped = true;
        } else {
            text.push(character);
            escaped = false;
        }
    }
    text
}

/// All processors that there are.
pub fn vcpus() -> Vec<LogicalProcessor> {
    let list = |file: &str| {
        let text = fs::read_to_string(Path::new(PROCESSORS).join(file));
        numbers(text.unwrap_or_default().trim())
    };
    let online = list("online");
    list("present")
        .into_iter()
        .map(|logical_id| LogicalProcessor {
            logical_id,
            online: online.contains(&logical_id),
            can_offline: false,
        })
        .collect()
}

/// Numbers as the kernel lists them: `0-3,8`.
fn numbers(text: &str) -> Vec<usize> {
    let ranges = text.split(',').filter_map(|range| {
        let (first, last) = range.split_once('-').unwrap_or((range, range));
        Some(first.parse().ok()?..=last.parse().ok()?)
    });
    ranges.flatten().take(PROCESSORS_MAX).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_systems_own_word_is_taken_without_its_quotes() {
        let text = "PRETTY_NAME=\"Debian GNU/Linux 12 (bookworm)\"\nID=debian\n# ID=other\n\
                    VERSION_ID='12'\nNAME=\"a \\\"b\\\" \\\\c\"\nHOME_URL=\"x\"\nbroken\n";
        let expected = BTreeMap::from([
            ("id", "debian".to_owned()),
            ("name", "a \"b\" \\c".to_owned()),
            ("pretty-name", "Debian GNU/Linux 12 (bookworm)".to_owned()),
            ("version-id", "12".to_owned()),
        ]);
        assert_eq!(release(text), expected);
    }

    #[test]
    fn processors_are_read_from_the_kernels_lists() {
        assert_eq!(numbers("0"), [0]);
        assert_eq!(numbers("0-2,5"), [0, 1, 2, 5]);
        assert!(numbers("").is_empty() && numbers("x-y").is_empty());
        assert_eq!(numbers("0-99999999").len(), PROCESSORS_MAX);
        let first = &vcpus()[0];
        assert_eq!((first.logical_id, first.online), (0, true));
    }
}
