//! The file that says where names are looked up (resolv.conf(5)).

use std::fs::File;
use std::io::{self, Write as _};
use std::net::IpAddr;
use std::os::fd::AsFd;
use std::path::Path;

use noonmark_contract::config::network::RESOLV_CONF;
use rustix::fs::{Mode, OFlags, openat, renameat};
use rustix::io::Errno;

/// More than this no resolver asks (`MAXNS` of musl and glibc).
const SERVERS_MAX: usize = 3;

/// What the file is called until it is whole.
const UNFINISHED: &str = ".resolv.conf";

/// Writes the file of this folder whole, so that nobody reads half of it.
///
/// # Errors
/// As for writing and renaming a file.
pub fn write(folder: impl AsFd, servers: &[IpAddr]) -> io::Result<()> {
    let name = Path::new(RESOLV_CONF).file_name().ok_or(Errno::INVAL)?;
    let flags = OFlags::WRONLY | OFlags::CREATE | OFlags::TRUNC | OFlags::CLOEXEC;
    let unfinished = openat(&folder, UNFINISHED, flags, Mode::from_raw_mode(0o644))?;
    File::from(unfinished).write_all(text(servers).as_bytes())?;
    Ok(renameat(&folder, UNFINISHED, &folder, name)?)
}

fn text(servers: &[IpAddr]) -> String {
    let mut told: Vec<&IpAddr> = Vec::new();
    for server in servers {
        if !told.contains(&server) && told.len() < SERVERS_MAX {
            told.push(server);
        }
    }
    let line = |server: &IpAddr| format!("nameserver {server}\n");
    told.into_iter().map(line).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_file_is_written_in_the_folder_that_was_handed_over() {
        let folder = tempfile::tempdir().unwrap();
        let handed = File::open(folder.path()).unwrap();
        for servers in [&["192.0.2.1", "192.0.2.2"][..], &["192.0.2.3"]] {
            let servers: Vec<IpAddr> = servers.iter().map(|text| text.parse().unwrap()).collect();
            write(&handed, &servers).unwrap();
        }
        let written = std::fs::read_to_string(folder.path().join("resolv.conf")).unwrap();
        assert_eq!(written, "nameserver 192.0.2.3\n");
        assert_eq!(std::fs::read_dir(folder.path()).unwrap().count(), 1);
    }

    #[test]
    fn each_server_has_its_line_and_there_are_at_most_three() {
        let servers: Vec<IpAddr> = [
            "10.0.2.3",
            "10.0.2.3",
            "2001:db8::1",
            "10.0.2.4",
            "10.0.2.5",
        ]
        .map(|text| text.parse().unwrap())
        .into();
        assert_eq!(
            text(&servers),
            "nameserver 10.0.2.3\nnameserver 2001:db8::1\nnameserver 10.0.2.4\n"
        );
    }
}
