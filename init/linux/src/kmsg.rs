//! The log: lines to `/dev/kmsg`, with the kernel's levels.

use std::fmt::{self, Write as _};
use std::fs::{File, OpenOptions};
use std::io::Write as _;
use std::os::unix::fs::OpenOptionsExt;
use std::sync::OnceLock;

/// Where the kernel takes lines.
const DEVICE: &str = "/dev/kmsg";

/// One line's longest length: the kernel refuses a record of more than its `LOG_LINE_MAX` of 1024
/// bytes less its own prefix (kernel/printk/printk.c).
const LINE_MAX: usize = 960;

static DESCRIPTOR: OnceLock<File> = OnceLock::new();

/// The kernel's log levels that are used here (include/linux/kern_levels.h).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Level {
    /// The machine goes down because of this.
    Critical = 2,
    /// Something does not work.
    Error = 3,
    /// Something works less well than it could.
    Warning = 4,
    /// What an operator wants to know.
    Notice = 5,
    /// Everything else.
    Info = 6,
}

/// Opens the log; until then, and where that fails, lines are lost. `/dev` must be mounted.
///
/// # Errors
/// As for opening a file.
pub fn open() -> std::io::Result<()> {
    let file = OpenOptions::new()
        .write(true)
        .custom_flags(libc::O_NONBLOCK)
        .open(DEVICE)?;
    // A second call keeps the first descriptor, which is as good.
    let _ = DESCRIPTOR.set(file);
    Ok(())
}

/// Writes one line; a log that can't be written has nobody to be reported to.
pub fn write(level: Level, text: fmt::Arguments<'_>) {
    if let Some(mut file) = DESCRIPTOR.get() {
        let mut line = Line::new();
        line.compose(level, text);
        let _ = file.write_all(line.as_bytes());
    }
}

/// Logs at a [`Level`] by its name: `log!(Warning, "no {x}")`.
#[macro_export]
macro_rules! log {
    ($level:ident, $($text:tt)*) => {
        $crate::kmsg::write($crate::kmsg::Level::$level, format_args!($($text)*))
    };
}

/// A line on the stack, so that logging works in a panic and allocates nothing.
struct Line {
    bytes: [u8; LINE_MAX],
    used: usize,
}

impl Line {
    fn new() -> Self {
        Self {
            bytes: [0; LINE_MAX],
            used: 0,
        }
    }

    fn compose(&mut self, level: Level, text: fmt::Arguments<'_>) {
        // An error only says that the line is full, and then it is cut.
        let _ = write!(self, "<{}>noonmark: ", level as u8);
        let start = self.used;
        let _ = self.write_fmt(text);
        for byte in &mut self.bytes[start..self.used] {
            if byte.is_ascii_control() {
                *byte = b' ';
            }
        }
    }

    fn as_bytes(&self) -> &[u8] {
        &self.bytes[..self.used]
    }
}

impl fmt::Write for Line {
    fn write_str(&mut self, text: &str) -> fmt::Result {
        let room = LINE_MAX - self.used;
        let mut taken = text.len().min(room);
        while !text.is_char_boundary(taken) {
            taken -= 1;
        }
        self.bytes[self.used..self.used + taken].copy_from_slice(&text.as_bytes()[..taken]);
        self.used += taken;
        if taken == text.len() {
            Ok(())
        } else {
            Err(fmt::Error)
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn composed(level: Level, text: &str) -> String {
        let mut line = Line::new();
        line.compose(level, format_args!("{text}"));
        String::from_utf8(line.as_bytes().to_vec()).unwrap()
    }

    #[test]
    fn a_line_carries_its_level_and_the_name() {
        assert_eq!(composed(Level::Info, "up"), "<6>noonmark: up");
        assert_eq!(composed(Level::Critical, "down"), "<2>noonmark: down");
    }

    #[test]
    fn control_characters_cannot_start_a_line_of_their_own() {
        assert_eq!(
            composed(Level::Error, "a\n<0>b\u{1b}[2J"),
            "<3>noonmark: a <0>b [2J"
        );
    }

    #[test]
    fn a_long_line_is_cut_at_a_character() {
        let line = composed(Level::Info, &"é".repeat(2_000));
        assert!(line.len() <= LINE_MAX && line.len() >= LINE_MAX - 1);
        assert!(line.ends_with('é'));
    }
}
