//! Finds the data disks and mounts them, on a thread of its own: a disk that does not answer keeps
//! whoever reads or mounts it in the kernel, and that must not be the loop that keeps the clock.

use std::ffi::CStr;
use std::fs::{self, File};
use std::path::Path;
use std::sync::Mutex;
use std::thread;
use std::time::Duration;

use noonmark_contract::config::system::{DataDisk, FileSystem};
use noonmark_contract::record::{DiskState, DiskStatus};
use noonmark_contract::units::Raw;
use noonmark_linux::clocks;
use rustix::io::Errno;
use rustix::mount::{MountFlags, mount};

use super::block;
use super::superblock::{self, Volume};

/// How soon disks are looked for again while one may still appear.
const LOOK_AGAIN: Duration = Duration::from_millis(50);

/// What came of disks, by their places in the configuration, until it is taken.
pub type Outcomes = Mutex<Vec<(usize, DiskStatus)>>;

/// Finds and mounts them one after the other, in the configuration's order, because one may lie
/// within another; adds the outcome of each.
pub fn run(disks: &[DataDisk], began: Raw, outcomes: &Outcomes) {
    for (place, disk) in disks.iter().enumerate() {
        let outcome = (place, one(disk, began));
        if let Ok(mut outcomes) = outcomes.lock() {
            outcomes.push(outcome);
        }
    }
}

/// What is known of a disk before anything has come of it.
#[must_use]
pub fn status(disk: &DataDisk, state: DiskState) -> DiskStatus {
    DiskStatus {
        label: disk.label.as_str().into(),
        path: disk.path.as_str().into(),
        state,
        device: None,
        problem: None,
    }
}

fn one(disk: &DataDisk, began: Raw) -> DiskStatus {
    loop {
        let found = find(disk, &block::list(Path::new(block::BLOCK)));
        let may_appear = block::more_may_appear(Path::new(block::SYS));
        if found.is_empty() && may_appear && clocks::raw() < began + disk.wait {
            thread::sleep(LOOK_AGAIN);
            continue;
        }
        return mount_found(disk, found);
    }
}

/// The disks of this label.
fn find(disk: &DataDisk, devices: &[String]) -> Vec<(String, Volume)> {
    let volume = |device: &String| {
        let mut file = File::open(format!("/dev/{device}")).ok()?;
        // One that can't be read has no file system.
        let volume = superblock::identify(&mut file).ok()??;
        volume.matches_label(disk).then(|| (device.clone(), volume))
    };
    devices.iter().filter_map(volume).collect()
}

/// Mounts the one disk that was found, or says why there is none to mount.
fn mount_found(disk: &DataDisk, mut found: Vec<(String, Volume)>) -> DiskStatus {
    let label = &disk.label;
    let failed = |problem: String| DiskStatus {
        problem: Some(problem),
        ..status(disk, DiskState::Failed)
    };
    if found.len() > 1 {
        let names: Vec<&str> = found.iter().map(|(device, _)| device.as_str()).collect();
        return failed(format!(
            "the disks {} are all labelled `{label}`; attach one",
            names.join(", ")
        ));
    }
    let Some((device, volume)) = found.pop() else {
        let kind = disk.kind.name();
        return DiskStatus {
            problem: Some(format!(
                "no disk is labelled `{label}`; attach one with {kind} and this label"
            )),
            ..status(disk, DiskState::Absent)
        };
    };
    let outcome = if volume.kind == disk.kind {
        attach(disk, &device)
    } else {
        Err(format!(
            "it has {}, and its `type` says {}",
            volume.kind.name(),
            disk.kind.name()
        ))
    };
    match outcome {
        Ok(()) => DiskStatus {
            device: Some(device),
            problem: volume
                .has_errors
                .then(|| "it was mounted with errors on it; check it with e2fsck".to_owned()),
            ..status(disk, DiskState::Mounted)
        },
        Err(problem) => DiskStatus {
            device: Some(device),
            ..failed(problem)
        },
    }
}

fn attach(disk: &DataDisk, device: &str) -> Result<(), String> {
    let path = disk.path.as_str();
    fs::create_dir_all(path).map_err(|error| format!("making {path}: {error}"))?;
    let source = format!("/dev/{device}");
    let kind = disk.kind.name();
    mount(source.as_str(), path, kind, flags(disk), options(disk.kind))
        .map_err(|errno| format!("mounting {source} on {path}: {}", explain(kind, errno)))
}

fn flags(disk: &DataDisk) -> MountFlags {
    let mut flags = MountFlags::NOSUID | MountFlags::NODEV | MountFlags::NOATIME;
    flags.set(MountFlags::RDONLY, disk.read_only);
    flags.set(MountFlags::NOEXEC, !disk.exec);
    flags
}

/// Both stop to write to a file system in which they find an error, instead of spoiling more of it.
fn options(kind: FileSystem) -> &'static CStr {
    match kind {
        FileSystem::Ext4 => c"errors=remount-ro",
        FileSystem::Vfat => c"errors=remount-ro,umask=022",
    }
}

/// What an errno of mount(2) tells of a file system that was there a moment ago.
fn explain(kind: &str, errno: Errno) -> String {
    let hint = match errno {
        Errno::ROFS | Errno::ACCESS => "the disk is write-protected: set `read_only = true`",
        Errno::NODEV => "the kernel does not have this file system",
        Errno::INVAL | Errno::UCLEAN | Errno::BADMSG => {
            "the kernel does not take this file system: check it on the host"
        }
        Errno::BUSY => "the disk is mounted or in use already",
        Errno::IO => "the disk can't be read",
        _ => return format!("{kind}: {errno}"),
    };
    format!("{kind}: {errno} ({hint})")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn disk() -> DataDisk {
        DataDisk {
            label: "data".parse().unwrap(),
            path: "/data".parse().unwrap(),
            kind: FileSystem::Ext4,
            read_only: false,
            exec: false,
            required: false,
            wait: DataDisk::WAIT,
        }
    }

    fn volume(kind: FileSystem) -> Volume {
        Volume {
            kind,
            label: "data".into(),
            has_errors: false,
        }
    }

    #[test]
    fn nothing_on_a_data_disk_is_a_device_or_gives_rights_or_runs_unless_asked_for() {
        let mut disk = disk();
        let always = MountFlags::NOSUID | MountFlags::NODEV;
        assert!(flags(&disk).contains(always | MountFlags::NOEXEC));
        assert!(!flags(&disk).contains(MountFlags::RDONLY));
        (disk.exec, disk.read_only) = (true, true);
        assert!(flags(&disk).contains(always | MountFlags::RDONLY));
        assert!(!flags(&disk).contains(MountFlags::NOEXEC));
    }

    #[test]
    fn a_disk_that_is_not_the_one_is_told_with_the_way_out() {
        let found = |kinds: &[FileSystem]| {
            let names = ["vda", "vdb"];
            let pairs = kinds.iter().zip(names);
            pairs
                .map(|(kind, name)| (name.to_owned(), volume(*kind)))
                .collect()
        };
        for (kinds, state, told) in [
            (vec![], DiskState::Absent, "no disk is labelled `data`"),
            (
                vec![FileSystem::Ext4, FileSystem::Ext4],
                DiskState::Failed,
                "vda, vdb are all labelled `data`",
            ),
            (
                vec![FileSystem::Vfat],
                DiskState::Failed,
                "it has vfat, and its `type` says ext4",
            ),
        ] {
            let status = mount_found(&disk(), found(&kinds));
            assert_eq!(status.state, state);
            let problem = status.problem.unwrap();
            assert!(problem.contains(told), "{problem}");
        }
    }

    #[test]
    fn a_fats_label_has_no_case_and_an_ext4s_has() {
        let mut labelled = volume(FileSystem::Vfat);
        labelled.label = "DATA".into();
        assert!(labelled.matches_label(&disk()));
        labelled.kind = FileSystem::Ext4;
        assert!(!labelled.matches_label(&disk()));
    }

    #[test]
    fn a_refusal_of_the_kernel_says_what_it_means() {
        let text = explain("ext4", Errno::ROFS);
        assert!(text.contains("read_only = true"), "{text}");
        assert!(explain("vfat", Errno::NOMEM).starts_with("vfat: "));
    }
}
