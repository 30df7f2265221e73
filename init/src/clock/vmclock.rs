//! `/dev/vmclock0`: tells, by a memory read that costs nothing, whether the machine was restored or
//! migrated; and on which scale the PHC of the same device counts.
//!
//! A wake compares the disruption marker with the one seen last. Where the device notifies of its
//! changes and the kernel can poll for them (Linux 7.0, `vmclock_miscdev_poll`), the change itself
//! wakes the loop.

mod page;

use std::fs::{self, File, Permissions};
use std::io;
use std::os::fd::{AsFd, BorrowedFd};
use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;

use noonmark_contract::host_clock::HostClock;
use noonmark_contract::units::{Nanos, Utc};
use rustix::io::Errno;

pub use page::ScaleError;
use page::{Page, disruption_marker};

use noonmark_linux::sys::{self, MappedPage};

/// Where ClockBound's clients look for it.
const READERS_NODE: &str = "/dev/vmclock0";

/// The device, open and mapped.
#[derive(Debug)]
pub struct VmClock {
    device: File,
    node: String,
    page: MappedPage,
    seen: u64,
    notifies: bool,
    shared: bool,
}

impl VmClock {
    /// Opens the first `vmclock` in `dev`; none where there is none.
    ///
    /// # Errors
    /// What is wrong with it, as a text for the report, where it is there but is of no use.
    pub fn find(dev: &Path) -> Result<Option<Self>, String> {
        let mut names: Vec<_> = fs::read_dir(dev)
            .map(|entries| entries.flatten().map(|entry| entry.file_name()).collect())
            .unwrap_or_default();
        names.retain(|name| name.as_encoded_bytes().starts_with(b"vmclock"));
        names.sort();
        let Some(name) = names.first() else {
            return Ok(None);
        };
        let node = dev.join(name).display().to_string();
        Self::open(&node)
            .map(Some)
            .map_err(|why| format!("{node}: {why}"))
    }

    fn open(node: &str) -> Result<Self, String> {
        let device = File::open(node).map_err(|error| error.to_string())?;
        let page = MappedPage::of(&device).map_err(|errno| format!("mmap: {errno}"))?;
        let read = Page::read(&page).ok_or("no VMClock page of version 1")?;
        Ok(Self {
            device,
            node: node.into(),
            page,
            seen: read.disruption_marker,
            notifies: read.notifies(),
            shared: false,
        })
    }

    /// Its device file.
    #[must_use]
    pub fn node(&self) -> &str {
        &self.node
    }

    /// Lets every program read the device, which nobody can write to.
    ///
    /// # Errors
    /// As `chmod`.
    pub fn share(&mut self) -> io::Result<()> {
        fs::set_permissions(&self.node, Permissions::from_mode(0o444))?;
        self.shared = self.node == READERS_NODE;
        Ok(())
    }

    /// The marker that was seen last, where programs of the guest can compare it with the device's.
    #[must_use]
    pub fn shared_marker(&self) -> Option<u64> {
        self.shared.then_some(self.seen)
    }

    /// The descriptor to wait on; none where waiting would tell nothing, because the device does
    /// not notify: the kernel then reports a hang-up at once and for ever.
    #[must_use]
    pub fn descriptor(&self) -> Option<BorrowedFd<'_>> {
        self.notifies.then_some(self.device.as_fd())
    }

    /// Whether the machine was disrupted since the last call.
    pub fn take_disruption(&mut self) -> bool {
        let marker = disruption_marker(&self.page);
        std::mem::replace(&mut self.seen, marker) != marker
    }

    /// Tells the kernel that its notification has been seen: a read is what ends it.
    ///
    /// # Errors
    /// As `pread`; the descriptor would then stay ready, and must not be waited on any more.
    pub fn acknowledge(&self) -> Result<(), Errno> {
        let mut start = [0; 16];
        rustix::io::pread(&self.device, &mut start, 0).map(drop)
    }

    /// What it says of the host's clock; none where it says nothing.
    #[must_use]
    pub fn host_clock(&self) -> Option<HostClock> {
        Page::read(&self.page)?.host_clock()
    }

    /// UTC of what this device's PHC has just given.
    ///
    /// # Errors
    /// [`ScaleError`], also where the page can't be read at present.
    pub fn utc(&self, phc: Nanos) -> Result<Utc, ScaleError> {
        let page = Page::read(&self.page).ok_or(ScaleError::Busy)?;
        page.utc(phc, sys::counter())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_disruption_is_told_once() {
        let folder = std::env::temp_dir().join(format!("noonmark-vmclock-{}", std::process::id()));
        fs::create_dir_all(&folder).unwrap();
        let node = folder.join("vmclock0");
        let mut bytes = page::tests::bytes(0, 37, 0);
        fs::write(&node, &bytes).unwrap();
        let mut clock = VmClock::find(&folder).unwrap().unwrap();
        assert!(!clock.take_disruption());
        assert!(clock.descriptor().is_none());
        bytes[16] ^= 1;
        // Into the same file, as the hypervisor writes into the same page.
        let file = fs::OpenOptions::new().write(true).open(&node).unwrap();
        rustix::io::pwrite(&file, &bytes, 0).unwrap();
        assert!(clock.take_disruption());
        assert!(!clock.take_disruption());
        fs::remove_dir_all(&folder).unwrap();
    }

    #[test]
    fn a_machine_without_the_device_is_not_worth_a_word_and_a_broken_one_is() {
        let folder =
            std::env::temp_dir().join(format!("noonmark-novmclock-{}", std::process::id()));
        fs::create_dir_all(&folder).unwrap();
        assert!(VmClock::find(&folder).unwrap().is_none());
        fs::write(folder.join("vmclock1"), vec![0; 4096]).unwrap();
        let why = VmClock::find(&folder).unwrap_err();
        fs::remove_dir_all(&folder).unwrap();
        assert!(
            why.ends_with("vmclock1: no VMClock page of version 1"),
            "{why}"
        );
    }
}
