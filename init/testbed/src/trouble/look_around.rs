//! A service that looks at what it was given, and what it was not.

use std::fs;
use std::net::{TcpListener, TcpStream};

use noonmark_contract::config::OWN_USERS;
use noonmark_linux::sys::attempt::Attempt;
use rustix::fs::{Mode, OFlags, StatVfsMountFlags, open as open_file, statvfs};
use rustix::io::{Errno, read, write};
use rustix::process::{Pid, getgid, getpid, getuid, test_kill_process};
use rustix::pty::{OpenptFlags, openpt, ptsname, unlockpt};
use rustix::thread::no_new_privs;

use super::outcome::{open_to_write, tell};

/// More processes than such a guest has started by then.
const PIDS_MAX: i32 = 4096;

/// Looks at what a guest with data disks and sizes for its file systems in memory is to have, and
/// tells what is not so. Gives how much of it is.
pub fn look_around() -> u8 {
    let mut right = 0;
    let mut told = |what: &str, is: std::io::Result<bool>| match is {
        Ok(true) => right += 1,
        other => tell(&format!("{what}: {other:?}")),
    };
    let has_kib = |path: &str, kib: u64| {
        let about = statvfs(path)?;
        Ok(about.f_blocks * about.f_frsize == kib * 1024)
    };
    told("/run has 8192 KiB", has_kib("/run", 8192));
    told("/tmp has 4096 KiB", has_kib("/tmp", 4096));
    told("the loopback answers", loopback_answers());
    let limits = StatVfsMountFlags::NOSUID | StatVfsMountFlags::NODEV | StatVfsMountFlags::NOEXEC;
    let limited = |path: &str| Ok(statvfs(path)?.f_flag.contains(limits));
    told("/var/lib is limited", limited("/var/lib"));
    for (variable, expected) in [
        ("STATE_DIRECTORY", "/var/lib/look-around"),
        ("RUNTIME_DIRECTORY", "/run/look-around"),
    ] {
        let given = std::env::var(variable).unwrap_or_default();
        let written = fs::write(format!("{given}/kept"), "kept");
        told(variable, written.map(|()| given == expected));
    }
    let film = fs::read("/media/films/film");
    told("the film is there", film.map(|film| film == b"a film"));
    let refused = open_to_write("/media/films/film") == Err(Errno::ROFS);
    told("the film is safe", Ok(refused));
    let user = getuid().as_raw();
    let own = OWN_USERS.contains(&user) && getgid().as_raw() == user;
    told("it is a user of its own", Ok(own));
    told("it reaches nobody", Ok(reached() == [getpid()]));
    for path in ["/run/other", "/var/lib/other"] {
        told(path, Ok(open_to_write(path) == Err(Errno::ACCESS)));
    }
    told("it gains no rights", no_new_privs().map_err(Into::into));
    let locked = fs::read_to_string("/proc/sys/kernel/modules_disabled");
    told("modules are locked", locked.map(|text| text == "1\n"));
    let mounts = fs::read_to_string("/proc/self/mounts");
    let delegates = |line: &str| line.contains(" cgroup2 ") && line.contains("nsdelegate");
    told(
        "groups are delegated",
        mounts.map(|text| text.lines().any(delegates)),
    );
    let namespace = Attempt::UserNamespace.make();
    told("it has no namespaces", Ok(namespace == Err(Errno::PERM)));
    told("it opens a pseudo-terminal", opens_a_terminal());
    right
}

/// Gives how much is open of what the image alone can open: namespaces, and gaining rights.
pub fn open() -> u8 {
    let gains = no_new_privs() == Ok(false);
    u8::from(gains) + u8::from(Attempt::UserNamespace.make().is_ok())
}

/// The processes that it may signal, the kernel's among those that it tries.
fn reached() -> Vec<Pid> {
    let pids = (1..=PIDS_MAX).filter_map(Pid::from_raw);
    pids.filter(|&pid| test_kill_process(pid).is_ok()).collect()
}

/// A pair of ends, the second by the name that the first one has.
fn opens_a_terminal() -> std::io::Result<bool> {
    let first = openpt(OpenptFlags::RDWR | OpenptFlags::NOCTTY)?;
    unlockpt(&first)?;
    let name = ptsname(&first, Vec::new())?;
    let second = open_file(name, OFlags::RDWR | OFlags::NOCTTY, Mode::empty())?;
    write(&second, b"x")?;
    let mut said = [0; 4];
    let count = read(&first, &mut said)?;
    Ok(said[..count] == *b"x")
}

fn loopback_answers() -> std::io::Result<bool> {
    let listener = TcpListener::bind("127.0.0.1:0")?;
    let client = TcpStream::connect(listener.local_addr()?)?;
    let (_, address) = listener.accept()?;
    Ok(client.local_addr()? == address)
}
