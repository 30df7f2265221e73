//! A terminal in the emulated host for a command whose output is shown on one outside, so that it
//! shows its progress there as it would here.

use std::fs::{self, File, OpenOptions};
use std::io;

use anyhow::{Context as _, Result};
use rustix::mount::{MountFlags, mount};
use rustix::pty::{OpenptFlags, grantpt, openpt, ptsname, unlockpt};
use rustix::termios::{Winsize, tcgetattr, tcgetwinsize, tcsetattr, tcsetwinsize};

/// Where the kernel shows pseudo-terminals (Documentation/filesystems/devpts.rst).
const PTS: &str = "/dev/pts";

/// The size of the terminal that standard error is on, in rows and columns; none where it is none.
pub fn size() -> Option<(u16, u16)> {
    let size = tcgetwinsize(io::stderr()).ok()?;
    (size.ws_row > 0 && size.ws_col > 0).then_some((size.ws_row, size.ws_col))
}

/// A new one of that size: the end that shows, and the end that is written to.
///
/// # Errors
///
/// The kernel has none.
pub fn open((rows, columns): (u16, u16)) -> Result<(File, File)> {
    let named = "no terminal in the emulated host";
    if !fs::exists("/dev/pts/ptmx").unwrap_or(false) {
        fs::create_dir_all(PTS).context(named)?;
        mount(
            "devpts",
            PTS,
            "devpts",
            MountFlags::empty(),
            Some(c"ptmxmode=0666"),
        )
        .context(named)?;
    }
    let shown = openpt(OpenptFlags::RDWR | OpenptFlags::NOCTTY).context(named)?;
    grantpt(&shown).context(named)?;
    unlockpt(&shown).context(named)?;
    let name = ptsname(&shown, Vec::new()).context(named)?;
    let written = OpenOptions::new()
        .read(true)
        .write(true)
        .open(name.to_str().context(named)?)
        .context(named)?;
    let size = Winsize {
        ws_row: rows,
        ws_col: columns,
        ws_xpixel: 0,
        ws_ypixel: 0,
    };
    tcsetwinsize(&written, size).context(named)?;
    // What is shown goes to another terminal, which does such things itself.
    let mut attributes = tcgetattr(&written).context(named)?;
    attributes.make_raw();
    tcsetattr(&written, rustix::termios::OptionalActions::Now, &attributes).context(named)?;
    Ok((File::from(shown), written))
}
