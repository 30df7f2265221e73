//! What an attempt came to, and how it is told.

use std::fs::OpenOptions;
use std::io::Write as _;

use rustix::io::Errno;

/// One write a line, so that two services' lines don't mix.
pub fn tell(what: &str) {
    // Without an output there is nobody to tell.
    let _ = std::io::stdout().write_all(format!("trouble: {what}\n").as_bytes());
}

/// Opens a file as who wants to change it would, making it where it is not there.
pub fn open_to_write(path: &str) -> Result<(), Errno> {
    let opened = OpenOptions::new().append(true).create(true).open(path);
    opened.map(drop).map_err(errno)
}

/// What the kernel said.
pub fn errno(error: std::io::Error) -> Errno {
    Errno::from_io_error(&error).unwrap_or(Errno::IO)
}
