//! The file that says where names are looked up (resolv.conf(5)).

use std::fs;
use std::io;
use std::net::IpAddr;
use std::path::Path;

/// More than this no resolver asks (`MAXNS` of musl and glibc).
const SERVERS_MAX: usize = 3;

/// Writes the file whole, so that nobody reads half of it.
///
/// # Errors
/// As for writing and renaming a file.
pub fn write(path: &Path, servers: &[IpAddr]) -> io::Result<()> {
    let unfinished = path.with_extension("new");
    fs::write(&unfinished, text(servers))?;
    fs::rename(&unfinished, path)
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
