//! The folders of a service's own, and those that it finds its programs in.

use alloc::format;
use alloc::string::String;

use super::service::{Service, ServiceError};
use super::system::{DataDisk, FileSystem};

/// Where `runtime_directory` is; in memory.
pub const RUNTIME: &str = "/run";

/// Where `state_directory` is.
pub const STATE: &str = "/var/lib";

/// Where a service's programs are looked for, where its own environment has no `PATH`.
pub const SEARCH_PATH: &str = "/bin:/sbin:/usr/bin:/usr/sbin";

impl Service {
    /// Whether its folders are no other service's, which would lose them to it.
    ///
    /// # Errors
    /// If one of them is.
    pub fn check_directories<'a>(
        &self,
        others: impl IntoIterator<Item = &'a Service>,
    ) -> Result<(), ServiceError> {
        let same = |own: &Option<String>, theirs| own.is_some() && own == theirs;
        for other in others {
            let key = if same(&self.runtime_directory, &other.runtime_directory) {
                "runtime_directory"
            } else if same(&self.state_directory, &other.state_directory) {
                "state_directory"
            } else {
                continue;
            };
            let problem = format!("the service `{}` has that folder", other.name);
            return Err(ServiceError { key, problem });
        }
        Ok(())
    }

    /// Whether its `state_directory` is where it can be written to and is kept.
    ///
    /// # Errors
    /// If none of these disks is mounted there, or not to be written to by this service.
    pub fn check_state(&self, disks: &[DataDisk]) -> Result<(), ServiceError> {
        let Some(name) = &self.state_directory else {
            return Ok(());
        };
        let path = format!("{STATE}/{name}");
        let fits = |disk: &DataDisk| {
            let at = disk.path.as_str();
            (at == STATE || at == path) && !disk.read_only && disk.kind == FileSystem::Ext4
        };
        if disks.iter().any(fits) {
            return Ok(());
        }
        let problem = format!(
            "{path} would be lost: expected a [[mount]] of type ext4, not read-only, on {STATE} or \
             {path}"
        );
        let key = "state_directory";
        Err(ServiceError { key, problem })
    }
}

#[cfg(test)]
mod tests {
    use alloc::vec;

    use super::*;

    #[test]
    fn a_folder_is_one_services_and_its_state_is_on_a_disk() {
        let service = Service {
            runtime_directory: Some("a".into()),
            state_directory: Some("a".into()),
            ..Service::new("a", vec!["/a".into()])
        };
        let error = service.check_directories([&service]).unwrap_err();
        assert_eq!(error.key, "runtime_directory");
        let disk = |path: &str, kind, read_only| DataDisk {
            label: "data".parse().unwrap(),
            path: path.parse().unwrap(),
            kind,
            read_only,
            exec: false,
            required: false,
            wait: DataDisk::WAIT,
        };
        for (path, kind, read_only, fits) in [
            ("/var/lib", FileSystem::Ext4, false, true),
            ("/var/lib/a", FileSystem::Ext4, false, true),
            ("/var", FileSystem::Ext4, false, false),
            ("/var/lib/b", FileSystem::Ext4, false, false),
            ("/var/li", FileSystem::Ext4, false, false),
            ("/var/lib", FileSystem::Ext4, true, false),
            ("/var/lib", FileSystem::Vfat, false, false),
        ] {
            let checked = service.check_state(&[disk(path, kind, read_only)]);
            assert_eq!(checked.is_ok(), fits, "{path}: {checked:?}");
        }
    }
}
