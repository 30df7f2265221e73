//! virtio-serial ports: found by name, opened without blocking, with the host's presence told from
//! what the driver says.
//!
//! While no host is connected, `poll` on a port reports POLLHUP *and* POLLIN all the time
//! (drivers/char/virtio_console.c, `port_fops_poll`), so a port must be waited on edge-triggered:
//! the driver wakes its waiters when the host connects, goes, writes, or has read.

use std::fs::{self, File, OpenOptions};
use std::io;
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};

use rustix::io::Errno;
use thiserror::Error;

/// Where the kernel lists the ports.
pub const CLASS: &str = "/sys/class/virtio-ports";

/// A port that is there but can't be used.
#[derive(Debug, Error)]
#[error("port {name}: {node}: {source}")]
pub struct PortError {
    name: String,
    node: String,
    source: io::Error,
}

/// An open port.
#[derive(Debug)]
pub struct Port {
    device: File,
    node: PathBuf,
}

/// What a read or write came to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Transfer {
    /// So many bytes, at least one.
    Bytes(usize),
    /// Nothing to read, or no room to write, at present.
    Wait,
    /// No host is connected.
    Disconnected,
    /// The port was unplugged.
    Gone,
}

/// The device file of the port with this name; none where there is no such port (yet).
#[must_use]
pub fn find(class: &Path, dev: &Path, name: &str) -> Option<PathBuf> {
    let entries = fs::read_dir(class).ok()?;
    for entry in entries.flatten() {
        let told = fs::read_to_string(entry.path().join("name")).unwrap_or_default();
        if told.trim_end() == name {
            return Some(dev.join(entry.file_name()));
        }
    }
    None
}

impl Port {
    /// Opens the port with this name; none where there is no such port (yet).
    ///
    /// # Errors
    /// [`PortError`], for example EBUSY where another program holds it.
    pub fn open(name: &str) -> Result<Option<Self>, PortError> {
        let Some(node) = find(Path::new(CLASS), Path::new("/dev"), name) else {
            return Ok(None);
        };
        let opened = OpenOptions::new()
            .read(true)
            .write(true)
            .custom_flags(libc::O_NONBLOCK)
            .open(&node);
        match opened {
            Ok(device) => Ok(Some(Self { device, node })),
            // Named in sysfs, but its device file not there yet: as good as not there.
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
            Err(source) => Err(PortError {
                name: name.into(),
                node: node.display().to_string(),
                source,
            }),
        }
    }

    /// One that another program has opened so and handed over.
    #[must_use]
    pub fn of(device: File) -> Self {
        Self {
            device,
            node: PathBuf::new(),
        }
    }

    /// The descriptor to wait on, edge-triggered.
    #[must_use]
    pub fn descriptor(&self) -> &File {
        &self.device
    }

    /// Its device file.
    #[must_use]
    pub fn node(&self) -> &Path {
        &self.node
    }

    /// Whether its device file still exists.
    #[must_use]
    pub fn exists(&self) -> bool {
        self.node.exists()
    }

    /// Reads what is there.
    pub fn read(&self, buffer: &mut [u8]) -> Transfer {
        match rustix::io::read(&self.device, buffer) {
            // The driver reads end-of-file where no host is connected.
            Ok(0) => Transfer::Disconnected,
            Ok(count) => Transfer::Bytes(count),
            Err(errno) => failed(errno),
        }
    }

    /// Writes as much as the driver takes. Where no host is connected it takes nothing.
    pub fn write(&self, bytes: &[u8]) -> Transfer {
        match rustix::io::write(&self.device, bytes) {
            Ok(0) => Transfer::Wait,
            Ok(count) => Transfer::Bytes(count),
            Err(errno) => failed(errno),
        }
    }
}

fn failed(errno: Errno) -> Transfer {
    match errno {
        Errno::AGAIN | Errno::INTR => Transfer::Wait,
        Errno::PIPE => Transfer::Disconnected,
        _ => Transfer::Gone,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_port_is_found_by_its_name_whatever_its_number() {
        let class = std::env::temp_dir().join(format!("noonmark-ports-{}", std::process::id()));
        for (entry, name) in [("vport0p1", "org.other"), ("vport2p7", "noonmark.status")] {
            fs::create_dir_all(class.join(entry)).unwrap();
            fs::write(class.join(entry).join("name"), format!("{name}\n")).unwrap();
        }
        let found = find(&class, Path::new("/dev"), "noonmark.status");
        let missing = find(&class, Path::new("/dev"), "noonmark");
        fs::remove_dir_all(&class).unwrap();
        assert_eq!(found, Some(PathBuf::from("/dev/vport2p7")));
        assert_eq!(missing, None);
    }
}
