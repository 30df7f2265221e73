//! Each service's control group (cgroup v2): its limits, freezing and killing all of it, and what
//! it uses. Nothing here waits: the kernel answers each write at once.

use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use noonmark_contract::config::Service;
use rustix::fs::{Mode, OFlags, mkdirat, openat};
use rustix::io::Errno;
use rustix::mount::OpenTreeFlags;
use rustix::process::{Pid, Signal, kill_process};
use thiserror::Error;

/// Where the hierarchy is mounted.
const MOUNT: &str = "/sys/fs/cgroup";

/// What limits need.
const CONTROLLERS: [&str; 3] = ["+memory", "+cpu", "+pids"];

/// How many bytes of a list of processes are read: some 2,000 of them.
const LIST_BYTES: usize = 16 * 1024;

/// Something that the kernel refused.
#[derive(Debug, Error)]
#[error("cgroup {place}: {errno}")]
pub struct CgroupError {
    place: String,
    errno: Errno,
}

/// The hierarchy, by a way of PID 1's own: services see it read-only.
#[derive(Debug)]
pub struct Hierarchy {
    root: OwnedFd,
}

/// One service's group.
#[derive(Debug)]
pub struct Group {
    folder: OwnedFd,
    name: String,
}

impl Hierarchy {
    /// Takes hold of the hierarchy and switches on the controllers; those that this kernel lacks
    /// come back as problems.
    ///
    /// # Errors
    /// Where there is no hierarchy to write to.
    pub fn open() -> Result<(Self, Vec<CgroupError>), CgroupError> {
        // A mount that no path leads to, so that it stays writable when the one in sight is not.
        let flags = OpenTreeFlags::OPEN_TREE_CLONE | OpenTreeFlags::OPEN_TREE_CLOEXEC;
        let root = rustix::mount::open_tree(rustix::fs::CWD, MOUNT, flags)
            .map_err(|errno| error(MOUNT, errno))?;
        let problems = CONTROLLERS
            .iter()
            .filter_map(|controller| {
                write(
                    root.as_fd(),
                    "cgroup.subtree_control",
                    controller.as_bytes(),
                )
                .err()
                .map(|errno| error(controller, errno))
            })
            .collect();
        Ok((Self { root }, problems))
    }

    /// Makes a service's group with its limits; those that can't be set come back as problems.
    ///
    /// # Errors
    /// Where there can be no such group.
    pub fn group(&self, service: &Service) -> Result<(Group, Vec<CgroupError>), CgroupError> {
        let name = format!("{}.service", service.name);
        match mkdirat(&self.root, &name, Mode::from_raw_mode(0o755)) {
            Ok(()) | Err(Errno::EXIST) => {}
            Err(errno) => return Err(error(&name, errno)),
        }
        let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
        let folder =
            openat(&self.root, &name, flags, Mode::empty()).map_err(|errno| error(&name, errno))?;
        let group = Group { folder, name };
        let problems = limits(service)
            .into_iter()
            .filter_map(|(file, value)| group.set(file, &value).err())
            .collect();
        Ok((group, problems))
    }
}

impl Group {
    /// For starting a process in it.
    #[must_use]
    pub fn descriptor(&self) -> BorrowedFd<'_> {
        self.folder.as_fd()
    }

    /// Lets all its processes stand still, or go on.
    ///
    /// # Errors
    /// What the kernel says.
    pub fn freeze(&self, frozen: bool) -> Result<(), CgroupError> {
        self.set("cgroup.freeze", if frozen { "1" } else { "0" })
    }

    /// Whether all its processes stand still; one that is in the kernel does so later.
    #[must_use]
    pub fn is_frozen(&self) -> bool {
        let mut buffer = [0u8; 64];
        let text = self.read("cgroup.events", &mut buffer);
        text.and_then(|text| count(text, "frozen")) == Some(1)
    }

    /// Kills all its processes.
    ///
    /// # Errors
    /// What the kernel says; before 5.14 there is no such file.
    pub fn kill(&self) -> Result<(), CgroupError> {
        self.set("cgroup.kill", "1")
    }

    /// Sends a signal to its processes, a bounded number of them.
    pub fn signal(&self, signal: Signal) {
        let mut buffer = vec![0u8; LIST_BYTES];
        let text = self.read("cgroup.procs", &mut buffer).unwrap_or("");
        // The last line may be cut off in the middle, and would be another process.
        let whole = text.rfind('\n').map_or("", |end| &text[..end]);
        for pid in whole.lines().filter_map(|line| line.parse().ok()) {
            if let Some(pid) = Pid::from_raw(pid) {
                // It may have ended since.
                let _ = kill_process(pid, signal);
            }
        }
    }

    /// Whether this process is in it; not where it has ended and been waited for.
    #[must_use]
    pub fn has(&self, pid: Pid) -> bool {
        let path = format!("/proc/{}/cgroup", pid.as_raw_nonzero());
        let mut buffer = [0u8; 512];
        let own = read(rustix::fs::CWD, &path, &mut buffer).and_then(path_of_group);
        // What it made below its group is its own too.
        let below = own.and_then(|path| path.strip_prefix('/')?.strip_prefix(self.name.as_str()));
        below.is_some_and(|rest| rest.is_empty() || rest.starts_with('/'))
    }

    /// What its processes use now.
    #[must_use]
    pub fn memory_kib(&self) -> Option<u64> {
        let mut buffer = [0u8; 32];
        let text = self.read("memory.current", &mut buffer)?;
        text.trim_end().parse::<u64>().ok().map(|bytes| bytes >> 10)
    }

    /// How often it was killed because its memory was used up.
    #[must_use]
    pub fn oom_kills(&self) -> u64 {
        let mut buffer = [0u8; 256];
        let Some(text) = self.read("memory.events", &mut buffer) else {
            return 0;
        };
        // The other one counts the first process twice where all of a group is killed; kernels
        // before 5.17 have it alone.
        count(text, "oom_group_kill")
            .or_else(|| count(text, "oom_kill"))
            .unwrap_or(0)
    }

    /// How many processes and threads it was refused because of its limit.
    #[must_use]
    pub fn tasks_refused(&self) -> u64 {
        let mut buffer = [0u8; 64];
        self.read("pids.events", &mut buffer)
            .and_then(|text| count(text, "max"))
            .unwrap_or(0)
    }

    fn set(&self, file: &str, value: &str) -> Result<(), CgroupError> {
        write(self.folder.as_fd(), file, value.as_bytes()).map_err(|errno| {
            let place = format!("{}/{file}", self.name);
            CgroupError { place, errno }
        })
    }

    fn read<'a>(&self, file: &str, buffer: &'a mut [u8]) -> Option<&'a str> {
        read(self.folder.as_fd(), file, buffer)
    }
}

fn read<'a>(folder: BorrowedFd<'_>, file: &str, buffer: &'a mut [u8]) -> Option<&'a str> {
    let flags = OFlags::RDONLY | OFlags::CLOEXEC;
    let file = openat(folder, file, flags, Mode::empty()).ok()?;
    let count = rustix::io::read(&file, &mut *buffer).ok()?;
    std::str::from_utf8(&buffer[..count]).ok()
}

/// The path in the one hierarchy of cgroup v2, from a process's `cgroup` file (cgroups(7)).
fn path_of_group(text: &str) -> Option<&str> {
    text.lines().find_map(|line| line.strip_prefix("0::"))
}

/// The files of a service's group and what is written to them.
fn limits(service: &Service) -> Vec<(&'static str, String)> {
    let mut list = vec![("pids.max", service.tasks_max.to_string())];
    if let Some(size) = service.memory_max {
        list.push(("memory.max", size.bytes().to_string()));
    }
    if let Some(weight) = service.cpu_weight {
        list.push(("cpu.weight", weight.to_string()));
    }
    // A service of which one process was killed is not the service any more: all of it goes, and
    // `restart` decides what follows.
    list.push(("memory.oom.group", "1".into()));
    list
}

/// The count of this name among lines of a name and a number.
fn count(text: &str, name: &str) -> Option<u64> {
    text.lines()
        .find_map(|line| line.strip_prefix(name)?.strip_prefix(' '))?
        .trim_end()
        .parse()
        .ok()
}

fn write(folder: BorrowedFd<'_>, file: &str, value: &[u8]) -> Result<(), Errno> {
    let flags = OFlags::WRONLY | OFlags::CLOEXEC;
    let file = openat(folder, file, flags, Mode::empty())?;
    rustix::io::write(&file, value).map(|_| ())
}

fn error(place: &str, errno: Errno) -> CgroupError {
    CgroupError {
        place: place.into(),
        errno,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn limits_are_written_in_the_kernels_words() {
        let service = Service {
            memory_max: Some("1M".parse().unwrap()),
            cpu_weight: Some(50),
            tasks_max: 7,
            ..Service::new("a", vec!["/a".into()])
        };
        assert_eq!(
            limits(&service),
            [
                ("pids.max", "7".to_string()),
                ("memory.max", "1048576".to_string()),
                ("cpu.weight", "50".to_string()),
                ("memory.oom.group", "1".to_string()),
            ]
        );
    }

    #[test]
    fn the_group_of_a_process_is_that_of_the_one_hierarchy() {
        let text = "12:cpu:/x\n0::/a.service/b\n";
        assert_eq!(path_of_group(text), Some("/a.service/b"));
        assert_eq!(path_of_group("1:name=systemd:/\n"), None);
    }

    #[test]
    fn a_count_is_told_from_those_with_longer_or_shorter_names() {
        let text = "low 0\nhigh 0\nmax 31\noom 2\noom_kill 3\noom_group_kill 1\n";
        assert_eq!(count(text, "oom_kill"), Some(3));
        assert_eq!(count(text, "oom_group_kill"), Some(1));
        assert_eq!(count(text, "oom_group"), None);
        assert_eq!(count("oom_kill x\n", "oom_kill"), None);
        assert_eq!(count("", "max"), None);
    }
}
