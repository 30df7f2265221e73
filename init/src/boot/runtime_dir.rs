//! `/run/noonmark`, the runtime directory: what PID 1 tells the guest's programs. It is a mount of its
//! own, which a second, read-only mount lies over; PID 1 writes through the folder that it opened before.

use std::ffi::CStr;
use std::io;
use std::path::Path;

use noonmark_contract::config::BootConfig;
use noonmark_contract::config::network::{
    NET_SERVICE, NETWORK_FILE, NTP_FILE, Network, NtpTask, RESOLV_CONF,
};
use rustix::fd::{AsFd, OwnedFd};
use rustix::fs::{CWD, Gid, Mode, OFlags, Uid, chownat, mkdirat, open, openat, renameat};
use rustix::io::Errno;
use rustix::mount::{MountFlags, mount, mount_bind, mount_remount};
use serde_json::to_vec;
use thiserror::Error;

use super::mounts::HARDENED;

/// The folder. `/run` must be mounted.
pub const FOLDER: &str = "/run/noonmark";

/// The `/dev` of services that need no device, which [`crate::services::devices`] makes.
pub const PRIVATE_DEV: &CStr = c"/run/noonmark/dev";

/// Room for two status records of hundreds of services, for the programs' tasks, and for each service's
/// socket.
const OPTIONS: &CStr = c"mode=0755,size=4m,nr_inodes=1k";

/// What can't be made or written there.
#[derive(Debug, Error)]
pub enum RuntimeDirError {
    /// There is no such folder.
    #[error("{FOLDER}: {what}: {errno}; programs are told nothing")]
    Folder {
        /// What was tried.
        what: &'static str,
        /// What the kernel says.
        errno: Errno,
    },
    /// A file is missing.
    #[error("{path}: {source}; the program that needs it will not work")]
    File {
        /// Which.
        path: &'static str,
        /// Why.
        source: io::Error,
    },
}

/// The folder, writable for PID 1 alone.
#[derive(Debug)]
pub struct RuntimeDir {
    folder: OwnedFd,
    /// The folder of [`RESOLV_CONF`], for the program that writes that.
    network: Option<OwnedFd>,
}

impl RuntimeDir {
    /// Makes the folder, and seals it.
    ///
    /// # Errors
    /// [`RuntimeDirError::Folder`].
    pub fn open() -> Result<Self, RuntimeDirError> {
        let failed = |what| move |errno| RuntimeDirError::Folder { what, errno };
        match mkdirat(CWD, FOLDER, Mode::from_raw_mode(0o755)) {
            Ok(()) | Err(Errno::EXIST) => {}
            Err(errno) => return Err(failed("making it")(errno)),
        }
        mount("tmpfs", FOLDER, "tmpfs", HARDENED, OPTIONS).map_err(failed("mounting"))?;
        let folder = Self::at(Path::new(FOLDER)).map_err(failed("opening"))?;
        mkdirat(CWD, PRIVATE_DEV, Mode::from_raw_mode(0o755)).map_err(failed("making dev"))?;
        mount_bind(FOLDER, FOLDER)
            .and_then(|()| {
                let flags = MountFlags::BIND | MountFlags::RDONLY | HARDENED;
                mount_remount(FOLDER, flags, "")
            })
            .map_err(failed("making it read-only"))?;
        Ok(folder)
    }

    fn at(path: &Path) -> Result<Self, Errno> {
        let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        let folder = open(path, flags, Mode::empty())?;
        Ok(Self {
            folder,
            network: None,
        })
    }

    /// Writes what the programs of this configuration need; a file that can't be written is
    /// reported, and the rest is written all the same.
    #[must_use]
    pub fn write(&mut self, config: &BootConfig) -> Vec<RuntimeDirError> {
        let mut outcomes = Vec::new();
        if !config.network.interface.is_empty() {
            let network = Network {
                hostname: config.hostname.clone(),
                interface: config.network.interface.clone(),
            };
            outcomes.push(self.write_json(NETWORK_FILE, to_vec(&network)));
            let mut services = config.services.iter();
            if let Some(service) = services.find(|service| service.name == NET_SERVICE) {
                let path = RESOLV_CONF;
                match self.make_folder_of(path, service.user_id(), service.group_id()) {
                    Ok(folder) => self.network = Some(folder),
                    Err(errno) => outcomes.push(Err(RuntimeDirError::File {
                        path,
                        source: errno.into(),
                    })),
                }
            }
        }
        if !config.ntp.servers.is_empty() {
            let task = NtpTask {
                built: config.built,
                config: config.ntp.clone(),
            };
            outcomes.push(self.write_json(NTP_FILE, to_vec(&task)));
        }
        outcomes.into_iter().filter_map(Result::err).collect()
    }

    /// The folder of [`RESOLV_CONF`], once it is made; whoever is given it can write there.
    pub fn take_network(&mut self) -> Option<OwnedFd> {
        self.network.take()
    }

    /// The folder itself, for sockets.
    ///
    /// # Errors
    /// As `fcntl(F_DUPFD_CLOEXEC)`.
    pub fn share(&self) -> Result<OwnedFd, Errno> {
        rustix::io::fcntl_dupfd_cloexec(&self.folder, 0)
    }

    /// Puts a file in the place of the one before, whole, so that nobody reads half of it.
    ///
    /// # Errors
    /// As for writing and renaming a file.
    pub fn replace(&self, name: &str, mut bytes: &[u8]) -> io::Result<()> {
        let unfinished = format!(".{name}");
        let flags = OFlags::WRONLY | OFlags::CREATE | OFlags::TRUNC | OFlags::NOFOLLOW;
        let flags = flags | OFlags::CLOEXEC;
        let mode = Mode::from_raw_mode(0o644);
        let file = openat(&self.folder, unfinished.as_str(), flags, mode)?;
        while !bytes.is_empty() {
            match rustix::io::write(&file, bytes)? {
                0 => return Err(Errno::NOSPC.into()),
                count => bytes = &bytes[count..],
            }
        }
        Ok(renameat(
            &self.folder,
            unfinished.as_str(),
            &self.folder,
            name,
        )?)
    }

    fn write_json(
        &self,
        path: &'static str,
        json: serde_json::Result<Vec<u8>>,
    ) -> Result<(), RuntimeDirError> {
        json.map_err(io::Error::other)
            .and_then(|json| self.replace(name(path), &json))
            .map_err(|source| RuntimeDirError::File { path, source })
    }

    /// Makes the folder that the file `path` is in, of one level, for this user.
    fn make_folder_of(&self, path: &str, user: u32, group: u32) -> Result<OwnedFd, Errno> {
        let name = Path::new(path)
            .parent()
            .and_then(Path::file_name)
            .ok_or(Errno::INVAL)?;
        mkdirat(&self.folder, name, Mode::from_raw_mode(0o755))?;
        let (user, group) = (Uid::from_raw(user), Gid::from_raw(group));
        let flags = rustix::fs::AtFlags::SYMLINK_NOFOLLOW;
        chownat(&self.folder, name, Some(user), Some(group), flags)?;
        let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        openat(self.folder.as_fd(), name, flags, Mode::empty())
    }
}

/// A file's name within [`FOLDER`].
fn name(path: &str) -> &str {
    path.rsplit('/').next().unwrap_or(path)
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;

    #[test]
    fn a_file_is_replaced_and_nothing_else_is_left() {
        let folder = tempfile::tempdir().unwrap();
        let ours = RuntimeDir::at(folder.path()).unwrap();
        for content in [&b"first, and longer"[..], b"second"] {
            ours.replace("status.json", content).unwrap();
        }
        let read = fs::read(folder.path().join("status.json")).unwrap();
        assert_eq!(read, b"second");
        assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 1);
    }

    #[test]
    fn the_folder_stays_the_one_that_was_opened_whatever_its_name_leads_to_later() {
        let folder = tempfile::tempdir().unwrap();
        let (before, after) = (folder.path().join("a"), folder.path().join("b"));
        fs::create_dir(&before).unwrap();
        let ours = RuntimeDir::at(&before).unwrap();
        fs::rename(&before, &after).unwrap();
        fs::create_dir(&before).unwrap();
        ours.replace("status.json", b"x").unwrap();
        assert!(after.join("status.json").exists());
        assert!(!before.join("status.json").exists());
    }

    #[test]
    fn the_folder_of_the_name_servers_is_its_users() {
        let folder = tempfile::tempdir().unwrap();
        let ours = RuntimeDir::at(folder.path()).unwrap();
        let (user, group) = (rustix::process::getuid(), rustix::process::getgid());
        let made = ours.make_folder_of(RESOLV_CONF, user.as_raw(), group.as_raw());
        assert!(made.is_ok(), "{made:?}");
        assert!(folder.path().join("net").is_dir());
    }
}
