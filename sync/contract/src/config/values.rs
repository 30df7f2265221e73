//! Values of a configuration that can't be wrong once they exist: numbers in their range, host
//! names, paths of the guest, names of kernel settings.
//!
//! `image` takes its checks from here too, so that `guest.toml`, a seed and the kernel command line
//! accept the same.

use alloc::format;
use alloc::string::String;
use core::fmt;
use core::ops::RangeInclusive;
use core::str::FromStr;

use serde::{Deserialize, Serialize};

/// A value that is not what its key takes; says what was expected.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Unfit(String);

impl Unfit {
    /// In these words.
    #[must_use]
    pub fn new(expected: impl Into<String>) -> Self {
        Self(expected.into())
    }
}

impl fmt::Display for Unfit {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl core::error::Error for Unfit {}

/// A whole number from `MIN` to `MAX`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(try_from = "i64", into = "u32")]
pub struct Ranged<const MIN: u32, const MAX: u32>(u32);

/// `clock.step_us`: from this offset on the clock is stepped; microseconds.
pub type StepUs = Ranged<1, 1_000_000_000>;
/// `clock.watch_ms`: time between two looks at the clock; milliseconds.
pub type WatchMs = Ranged<1, 1_000>;
/// `clock.makestep_ms`: from this offset forward on a clock that nobody has moved is stepped;
/// milliseconds.
pub type MakestepMs = Ranged<1, 86_400_000>;
/// `clock.max_slew_ppm`: the fastest slew; parts per million. The kernel's tick allows for ten percent
/// (kernel/time/ntp.c).
pub type MaxSlewPpm = Ranged<100, 100_000>;
/// `clock.panic_s`: a source that moves by more than this is not followed; seconds, 0 for no limit.
pub type PanicS = Ranged<0, 1_000_000_000>;
/// `clock.rtc_grace_ms`: how long the RTC is not enough; milliseconds.
pub type RtcGraceMs = Ranged<0, 600_000>;
/// `status.interval_ms`: time between two status records; milliseconds.
pub type IntervalMs = Ranged<10, 3_600_000>;
/// `seed.wait_ms`: how long a disk that may still appear is waited for; milliseconds.
pub type WaitMs = Ranged<0, 60_000>;
/// `mount.wait_ms`: how long a data disk that may still appear is waited for; milliseconds.
pub type MountWaitMs = Ranged<0, 600_000>;
/// The size of a file system in memory; KiB.
pub type SizeKib = Ranged<64, { 1 << 30 }>;
/// A file's permission bits.
pub type Mode = Ranged<0, 0o7777>;

impl<const MIN: u32, const MAX: u32> Ranged<MIN, MAX> {
    /// What it may be.
    pub const RANGE: RangeInclusive<u32> = MIN..=MAX;

    /// The number.
    #[must_use]
    pub const fn get(self) -> u32 {
        self.0
    }
}

impl<const MIN: u32, const MAX: u32> TryFrom<i64> for Ranged<MIN, MAX> {
    type Error = Unfit;
    fn try_from(number: i64) -> Result<Self, Unfit> {
        u32::try_from(number)
            .ok()
            .filter(|number| Self::RANGE.contains(number))
            .map(Self)
            .ok_or_else(|| Unfit(format!("{number}: expected {MIN} to {MAX}")))
    }
}

impl<const MIN: u32, const MAX: u32> From<Ranged<MIN, MAX>> for u32 {
    fn from(number: Ranged<MIN, MAX>) -> u32 {
        number.0
    }
}

impl<const MIN: u32, const MAX: u32> FromStr for Ranged<MIN, MAX> {
    type Err = Unfit;
    fn from_str(text: &str) -> Result<Self, Unfit> {
        let number: i64 = text.parse().map_err(|_| {
            let text = text.escape_debug();
            Unfit(format!("`{text}`: expected a number, {MIN} to {MAX}"))
        })?;
        Self::try_from(number)
    }
}

/// A text that has passed a test.
macro_rules! checked_text {
    ($(#[$doc:meta])* $name:ident, $test:path) => {
        $(#[$doc])*
        #[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
        #[serde(try_from = "String", into = "String")]
        pub struct $name(String);

        impl $name {
            /// Its text.
            #[must_use]
            pub fn as_str(&self) -> &str {
                &self.0
            }
        }

        impl TryFrom<String> for $name {
            type Error = Unfit;
            fn try_from(text: String) -> Result<Self, Unfit> {
                match $test(&text) {
                    Ok(()) => Ok(Self(text)),
                    Err(expected) => {
                        Err(Unfit(format!("`{}`: {expected}", shown(&text))))
                    }
                }
            }
        }

        impl FromStr for $name {
            type Err = Unfit;
            fn from_str(text: &str) -> Result<Self, Unfit> {
                Self::try_from(String::from(text))
            }
        }

        impl From<$name> for String {
            fn from(name: $name) -> String {
                name.0
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(&self.0)
            }
        }
    };
}

checked_text!(
    /// A host name (RFC 1123), at most 64 bytes: what `sethostname` takes. Underscores are taken too,
    /// as systemd-hostnamed takes them.
    Hostname,
    check_hostname
);
checked_text!(
    /// The absolute path of a file in the guest, without `.`, `..` or empty parts; at most 1024
    /// bytes.
    GuestPath,
    check_guest_path
);
checked_text!(
    /// A kernel setting's name as `sysctl` has it: `net.ipv4.ip_forward`. Dots part it into the
    /// folders of `/proc/sys`; a `/` in it stands for a dot in a folder's name, as in sysctl.d(5).
    SysctlName,
    check_sysctl_name
);
checked_text!(
    /// A kernel setting's value: one line of at most 1024 printable characters.
    SysctlValue,
    check_sysctl_value
);
checked_text!(
    /// A file system's label: 1 to 16 printable ASCII characters, which is as many as an ext4 has
    /// room for.
    Label,
    check_label
);

/// The text as a message shows it: escaped, and not longer than a line.
fn shown(text: &str) -> String {
    let mut shown: String = text.chars().take(80).flat_map(char::escape_debug).collect();
    if text.chars().nth(80).is_some() {
        shown.push_str("...");
    }
    shown
}

/// Whether a guest may have this host name.
///
/// # Errors
/// What was expected.
pub fn check_hostname(name: &str) -> Result<(), &'static str> {
    let label = |label: &str| {
        (1..=63).contains(&label.len())
            && !label.starts_with('-')
            && !label.ends_with('-')
            && label
                .bytes()
                .all(|b| b.is_ascii_alphanumeric() || matches!(b, b'-' | b'_'))
    };
    (name.len() <= 64 && name.split('.').all(label))
        .then_some(())
        .ok_or(
            "expected a host name: letters, digits, `-`, `_` and `.`, at most 64 characters in labels \
             of at most 63",
        )
}

/// Whether this is the absolute path of a file, written in one way only.
///
/// # Errors
/// What was expected.
pub fn check_guest_path(path: &str) -> Result<(), &'static str> {
    let parts = path.strip_prefix('/').map(|rest| rest.split('/'));
    let clean = parts.is_some_and(|mut parts| {
        parts.all(|part| !matches!(part, "" | "." | "..") && part.len() <= 255)
    });
    if !clean || path.len() > 1024 || path.bytes().any(|b| b < b' ' || b == 0x7f) {
        return Err(
            "expected an absolute path of a file, without `.`, `..`, `//` and control characters, \
             at most 1024 bytes",
        );
    }
    Ok(())
}

fn check_sysctl_name(name: &str) -> Result<(), &'static str> {
    let part = |part: &str| {
        !part.is_empty()
            && part.len() <= 255
            && !part.starts_with('/')
            && part
                .bytes()
                .all(|b| b.is_ascii_alphanumeric() || b"_-/:@".contains(&b))
    };
    let parts = name.split('.');
    (name.len() <= 255 && name.contains('.') && parts.clone().all(part))
        .then_some(())
        .ok_or("expected a kernel setting's name like `vm.swappiness`")
}

fn check_sysctl_value(value: &str) -> Result<(), &'static str> {
    let printable = |b: u8| (b' '..=b'~').contains(&b) || b == b'\t';
    ((1..=1024).contains(&value.len()) && value.bytes().all(printable))
        .then_some(())
        .ok_or("expected one line of 1 to 1024 printable ASCII characters")
}

fn check_label(label: &str) -> Result<(), &'static str> {
    let printable = label.bytes().all(|b| (b' '..=b'~').contains(&b));
    ((1..=16).contains(&label.len()) && printable && label.trim() == label)
        .then_some(())
        .ok_or("expected a file system's label: 1 to 16 printable ASCII characters")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_number_outside_its_range_is_told_with_the_range() {
        assert_eq!(WatchMs::try_from(20).map(WatchMs::get), Ok(20));
        for (text, expected) in [
            ("0", "0: expected 1 to 1000"),
            ("1001", "1001: expected 1 to 1000"),
            ("-1", "-1: expected 1 to 1000"),
            ("x", "`x`: expected a number, 1 to 1000"),
            ("", "``: expected a number, 1 to 1000"),
        ] {
            let error = text.parse::<WatchMs>().expect_err(text);
            assert_eq!(alloc::string::ToString::to_string(&error), expected);
        }
    }

    #[test]
    fn a_path_is_absolute_and_has_no_way_up() {
        for good in ["/etc/motd", "/a", "/a b/c..d/.e"] {
            assert!(good.parse::<GuestPath>().is_ok(), "{good}");
        }
        for bad in [
            "", "/", "a", "/a/", "//a", "/a/../b", "/./a", "/..", "/a\n", "/a\0",
        ] {
            assert!(bad.parse::<GuestPath>().is_err(), "{bad:?}");
        }
    }

    #[test]
    fn a_kernel_settings_name_leaves_no_way_out_of_its_folder() {
        for good in ["vm.swappiness", "net.ipv4.conf.eth0/1.forwarding"] {
            assert!(good.parse::<SysctlName>().is_ok(), "{good}");
        }
        for bad in ["", "vm", "vm.", ".vm", "vm..x", "vm./x", "a.b\nc", "../x.y"] {
            assert!(bad.parse::<SysctlName>().is_err(), "{bad:?}");
        }
    }

    #[test]
    fn a_host_name_is_one_that_the_network_takes() {
        for good in ["a", "noonmark-2.example.org", "build_box_1"] {
            assert!(good.parse::<Hostname>().is_ok(), "{good}");
        }
        for bad in ["", "-a", "a-", "a..b", "a b", &"a".repeat(65)] {
            assert!(bad.parse::<Hostname>().is_err(), "{bad:?}");
        }
    }
}
