//! What this program and its other self in the emulated host say to each other: frames of a head in
//! JSON and bytes, on one virtio-serial port.

use std::collections::BTreeMap;
use std::io::{self, Read, Write};
use std::os::unix::net::UnixStream;
use std::path::PathBuf;
use std::sync::{Mutex, PoisonError};

use noonmark_qemu::kvm_host::KvmHost;
use serde::{Deserialize, Serialize, de::DeserializeOwned};

/// The longest head, and the longest body: more than any image.
const HEAD_MAX: u32 = 1 << 20;
const BODY_MAX: u32 = 1 << 30;

/// Where the emulated host has the folders of the outside's, by their tags.
pub const SHARES: &str = "/noonmark-shares";

/// To the emulated host.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Order {
    /// Write the body to this file, and make its folder.
    File { path: PathBuf },
    /// Run the command.
    Run(Box<Command>),
    /// Ctrl-C was pressed.
    Interrupt,
    /// The body is standard input, which ends with an empty one.
    Input,
    /// The host stood still, as it had asked for; or it could not be had, and why.
    Suspended(Result<(), String>),
}

/// A command line with its surroundings.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Command {
    /// Without the program.
    pub arguments: Vec<String>,
    /// Beside what the agent has.
    pub environment: BTreeMap<String, String>,
    /// The folder in which it is run.
    pub folder: PathBuf,
    /// The files that it writes for its user.
    pub outputs: Vec<PathBuf>,
    /// Folders of the outside's that it uses.
    pub shares: Vec<SharedFolder>,
    /// Whether it reads standard input.
    pub stdin: bool,
    /// Rows and columns of the terminal on which its standard error is shown, where it is one.
    pub terminal: Option<(u16, u16)>,
    /// What the host is.
    pub host: KvmHost,
}

/// A folder of the outside's, which the emulated host has as a 9p device.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct SharedFolder {
    /// The device's mount tag.
    pub tag: String,
    /// Whether nothing there can be written.
    pub read_only: bool,
}

/// From the emulated host.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Report {
    /// It takes orders; or it has no KVM, and why.
    Ready(Result<(), String>),
    /// The body is standard output.
    Output,
    /// The body is standard error.
    Error,
    /// The command has taken the body of an [`Order::Input`].
    Taken,
    /// The body is what this file has now.
    File { path: PathBuf },
    /// It asks to stand still for so many milliseconds.
    Suspend(u64),
    /// The command has ended with this status, or could not be run.
    Ended(Result<u8, String>),
}

/// Writes a frame.
///
/// # Errors
/// Where `to` can't be written.
pub fn write(to: &mut impl Write, head: &impl Serialize, body: &[u8]) -> io::Result<()> {
    let head = serde_json::to_vec(head)?;
    let length = |bytes: &[u8]| {
        u32::try_from(bytes.len()).map_err(|_| io::Error::from(io::ErrorKind::FileTooLarge))
    };
    let mut frame = Vec::with_capacity(8 + head.len() + body.len());
    frame.extend(length(&head)?.to_le_bytes());
    frame.extend(length(body)?.to_le_bytes());
    frame.extend(head);
    frame.extend(body);
    to.write_all(&frame)?;
    to.flush()
}

/// Writes an order where several threads do.
///
/// # Errors
/// As [`write()`].
pub fn send(orders: &Mutex<UnixStream>, order: &Order, body: &[u8]) -> io::Result<()> {
    let mut stream = orders.lock().unwrap_or_else(PoisonError::into_inner);
    write(&mut *stream, order, body)
}

/// Reads a frame.
///
/// # Errors
/// Where `from` ends or can't be read, or what comes is no frame.
pub fn read<T: DeserializeOwned>(from: &mut impl Read) -> io::Result<(T, Vec<u8>)> {
    let mut lengths = [[0; 4]; 2];
    for length in &mut lengths {
        from.read_exact(length)?;
    }
    let [head, body] = lengths.map(u32::from_le_bytes);
    if head > HEAD_MAX || body > BODY_MAX {
        return Err(io::Error::new(
            io::ErrorKind::InvalidData,
            "what came over the port is no frame",
        ));
    }
    let mut take = |length: u32| {
        let mut bytes = vec![0; length as usize];
        from.read_exact(&mut bytes).map(|()| bytes)
    };
    let head = serde_json::from_slice(&take(head)?)?;
    Ok((head, take(body)?))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_written_is_read_and_anything_else_is_an_error() {
        let mut port = Vec::new();
        write(&mut port, &Report::Output, b"a line\n").unwrap();
        write(&mut port, &Report::Ended(Ok(1)), &[]).unwrap();
        let mut from = port.as_slice();
        let (head, body) = read::<Report>(&mut from).unwrap();
        assert_eq!((head, body.as_slice()), (Report::Output, &b"a line\n"[..]));
        assert_eq!(read::<Report>(&mut from).unwrap().0, Report::Ended(Ok(1)));
        assert_eq!(
            read::<Report>(&mut from).unwrap_err().kind(),
            io::ErrorKind::UnexpectedEof
        );
        let noise = b"Kernel panic - not syncing";
        assert!(read::<Report>(&mut noise.as_slice()).is_err());
    }
}
