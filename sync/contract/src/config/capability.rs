//! The kernel's capabilities by name (include/uapi/linux/capability.h).

use alloc::string::String;
use alloc::vec::Vec;
use core::fmt;

use serde::{Deserialize, Serialize};

/// One capability, written as in capabilities(7): `CAP_NET_BIND_SERVICE`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct Capability(u8);

/// A name that the kernel has no capability for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct UnknownCapability(String);

/// In the kernel's order, so that the place is the number.
const NAMES: [&str; 41] = [
    "CAP_CHOWN",
    "CAP_DAC_OVERRIDE",
    "CAP_DAC_READ_SEARCH",
    "CAP_FOWNER",
    "CAP_FSETID",
    "CAP_KILL",
    "CAP_SETGID",
    "CAP_SETUID",
    "CAP_SETPCAP",
    "CAP_LINUX_IMMUTABLE",
    "CAP_NET_BIND_SERVICE",
    "CAP_NET_BROADCAST",
    "CAP_NET_ADMIN",
    "CAP_NET_RAW",
    "CAP_IPC_LOCK",
    "CAP_IPC_OWNER",
    "CAP_SYS_MODULE",
    "CAP_SYS_RAWIO",
    "CAP_SYS_CHROOT",
    "CAP_SYS_PTRACE",
    "CAP_SYS_PACCT",
    "CAP_SYS_ADMIN",
    "CAP_SYS_BOOT",
    "CAP_SYS_NICE",
    "CAP_SYS_RESOURCE",
    "CAP_SYS_TIME",
    "CAP_SYS_TTY_CONFIG",
    "CAP_MKNOD",
    "CAP_LEASE",
    "CAP_AUDIT_WRITE",
    "CAP_AUDIT_CONTROL",
    "CAP_SETFCAP",
    "CAP_MAC_OVERRIDE",
    "CAP_MAC_ADMIN",
    "CAP_SYSLOG",
    "CAP_WAKE_ALARM",
    "CAP_BLOCK_SUSPEND",
    "CAP_AUDIT_READ",
    "CAP_PERFMON",
    "CAP_BPF",
    "CAP_CHECKPOINT_RESTORE",
];

impl Capability {
    /// `CAP_DAC_OVERRIDE`: reading, writing and executing whatever its permissions say.
    pub const DAC_OVERRIDE: Self = Self(1);
    /// `CAP_NET_ADMIN`: configuring interfaces, addresses and routes.
    pub const NET_ADMIN: Self = Self(12);
    /// `CAP_NET_RAW`: packet sockets.
    pub const NET_RAW: Self = Self(13);
    /// `CAP_IPC_LOCK`: keeping memory from being paged out.
    pub const IPC_LOCK: Self = Self(14);
    /// `CAP_SYS_MODULE`: loading kernel modules.
    pub const SYS_MODULE: Self = Self(16);
    /// `CAP_SYS_BOOT`: ending the machine.
    pub const SYS_BOOT: Self = Self(22);
    /// `CAP_SYS_PTRACE`: looking into other processes.
    pub const SYS_PTRACE: Self = Self(19);
    /// `CAP_SYS_NICE`: scheduling ahead of others.
    pub const SYS_NICE: Self = Self(23);
    /// `CAP_SYS_TIME`: setting the clock.
    pub const SYS_TIME: Self = Self(25);

    /// All that there are.
    #[must_use]
    pub fn all() -> Vec<Self> {
        (0..).take(NAMES.len()).map(Self).collect()
    }

    /// The capability of this name.
    ///
    /// # Errors
    /// [`UnknownCapability`].
    pub fn named(name: &str) -> Result<Self, UnknownCapability> {
        NAMES
            .iter()
            .zip(0..)
            .find(|(known, _)| **known == name)
            .map(|(_, number)| Self(number))
            .ok_or_else(|| UnknownCapability(name.into()))
    }

    /// Its number in the kernel, 0 to 40.
    #[must_use]
    pub fn number(self) -> u8 {
        self.0
    }

    /// Its name.
    #[must_use]
    pub fn name(self) -> &'static str {
        NAMES[usize::from(self.0)]
    }
}

impl TryFrom<String> for Capability {
    type Error = UnknownCapability;

    fn try_from(name: String) -> Result<Self, UnknownCapability> {
        Self::named(&name)
    }
}

impl From<Capability> for String {
    fn from(capability: Capability) -> Self {
        capability.name().into()
    }
}

impl fmt::Display for UnknownCapability {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self(name) = self;
        write!(
            f,
            "unknown capability `{name}`; expected a name of capabilities(7), like \
             `CAP_NET_BIND_SERVICE`"
        )
    }
}

impl core::error::Error for UnknownCapability {}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_are_the_kernels() {
        for (name, number) in [
            ("CAP_CHOWN", 0),
            ("CAP_IPC_LOCK", 14),
            ("CAP_SYS_MODULE", 16),
            ("CAP_SYS_ADMIN", 21),
            ("CAP_SYS_BOOT", 22),
            ("CAP_SYS_TIME", 25),
            ("CAP_MKNOD", 27),
            ("CAP_CHECKPOINT_RESTORE", 40),
        ] {
            assert_eq!(Capability::named(name).map(Capability::number), Ok(number));
        }
    }

    #[test]
    fn a_capability_that_does_not_exist_is_named() {
        use alloc::string::ToString;

        let error = Capability::named("CAP_TIME").unwrap_err();
        assert!(error.to_string().contains("`CAP_TIME`"));
    }
}
