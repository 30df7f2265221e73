//! Messages on port `noonmark.run`, which only images for running commands have: the host asks for a
//! program, and is told of its end. JSON Lines both ways.
//!
//! The program's streams have a port each, and these carry its bytes and nothing else. Where a stream
//! ends stands here, as the number of its bytes: so nothing has to be read into a connection that
//! closes, and nothing of what is written gets lost in one.

use alloc::collections::BTreeMap;
use alloc::string::{String, ToString};
use alloc::vec::Vec;

use serde::{Deserialize, Serialize};
use thiserror::Error;

/// The port of these messages.
pub const PORT: &str = "noonmark.run";

/// The ports of standard input, output and error output.
pub const STREAM_PORTS: [&str; 3] = ["noonmark.stdin", "noonmark.stdout", "noonmark.stderr"];

/// The longest line: arguments and environment together may have somewhat less.
pub const LINE_BYTES_MAX: usize = 1 << 20;

/// The longest mount tag (hw/9pfs/9p.h, `MAX_TAG_LEN`).
const TAG_BYTES_MAX: usize = 31;

/// The highest number of a signal.
const SIGNAL_MAX: i32 = 64;

/// The highest number of a user or group; the one above means none.
const ID_MAX: u32 = u32::MAX - 1;

/// One line from the host. One program runs at a time.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Order {
    /// Run this.
    Run(Program),
    /// Its standard input ends after so many bytes. Comes once for each program, also where that has
    /// ended: from there on the port carries the next one's.
    InputEnds(u64),
    /// Send its process group a signal, 1..=64.
    Signal(i32),
}

/// A program and how it is run.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Program {
    /// Its path, or a name that is looked for in `PATH`; then its arguments.
    pub words: Vec<String>,
    /// Its environment, beside `PATH` and `HOME`.
    #[serde(default)]
    pub env: BTreeMap<String, String>,
    /// The folder that it starts in, absolute.
    pub cwd: String,
    /// The user that it runs as.
    #[serde(default)]
    pub user: u32,
    /// The group that it runs as; it has no other.
    #[serde(default)]
    pub group: u32,
    /// Folders of the host, mounted before it starts.
    #[serde(default)]
    pub shares: Vec<Share>,
}

/// A folder of the host, over 9p.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Share {
    /// The device's mount tag.
    pub tag: String,
    /// Where it is mounted, absolute.
    pub path: String,
    /// Whether nothing there can be written.
    pub read_only: bool,
}

/// One line from the guest.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Report {
    /// The program runs.
    Started,
    /// It could not be run.
    Failed {
        /// What a shell would exit with: 127 where there is no such program, 126 where it can't be
        /// executed.
        status: u8,
        /// Why.
        why: String,
    },
    /// It has ended, having written so many bytes to its standard output and error output.
    Ended {
        /// How.
        end: End,
        /// To standard output.
        stdout: u64,
        /// To standard error.
        stderr: u64,
    },
}

/// How a program ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum End {
    /// With this status.
    Exited(u8),
    /// By this signal.
    Killed(u8),
}

/// A line that is no order, or one that can't be carried out.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
#[error("{0}")]
pub struct BadOrder(String);

impl Order {
    /// Reads a line, without its end.
    ///
    /// # Errors
    /// What is wrong with it.
    pub fn parse(line: &[u8]) -> Result<Self, BadOrder> {
        let order = serde_json::from_slice(line).map_err(|error| BadOrder(error.to_string()))?;
        match &order {
            Self::Run(program) => program.check()?,
            Self::Signal(number) if !(1..=SIGNAL_MAX).contains(number) => {
                return Err(BadOrder("a signal has a number from 1 to 64".into()));
            }
            Self::Signal(_) | Self::InputEnds(_) => {}
        }
        Ok(order)
    }
}

impl Program {
    /// Checks what the types alone don't say, as both ends do.
    ///
    /// # Errors
    /// The first thing that is wrong.
    pub fn check(&self) -> Result<(), BadOrder> {
        let bad = |problem: &str| Err(BadOrder(problem.into()));
        if self.words.first().is_none_or(String::is_empty) {
            return bad("there is no program to run");
        }
        let variable = |(name, value): (&String, &String)| {
            !name.is_empty() && !name.contains(['=', '\0']) && !value.contains('\0')
        };
        if self.words.iter().any(|word| word.contains('\0')) || !self.env.iter().all(variable) {
            return bad(
                "arguments and variables have no NUL byte, and a variable's name has no `=`",
            );
        }
        if !is_path(&self.cwd) {
            return bad("a command's folder is an absolute path");
        }
        if self.user > ID_MAX || self.group > ID_MAX {
            return bad("users and groups have numbers from 0 to 4294967294");
        }
        for share in &self.shares {
            if share.tag.is_empty() || share.tag.len() > TAG_BYTES_MAX || share.tag.contains('\0') {
                return bad("a share's tag has 1 to 31 bytes");
            }
            if !is_path(&share.path) || share.path == "/" {
                return bad("a share is mounted at an absolute path that is not `/`");
            }
        }
        Ok(())
    }
}

impl End {
    /// As a shell tells it: the status, or 128 and the signal.
    #[must_use]
    pub fn status(self) -> u8 {
        match self {
            Self::Exited(status) => status,
            Self::Killed(signal) => signal.saturating_add(128),
        }
    }

    /// The signal that ended it; none where it ended by itself.
    #[must_use]
    pub fn signal(self) -> Option<u8> {
        match self {
            Self::Exited(_) => None,
            Self::Killed(signal) => Some(signal),
        }
    }
}

fn is_path(path: &str) -> bool {
    path.starts_with('/') && !path.contains('\0') && path.split('/').all(|part| part != "..")
}

#[cfg(test)]
mod tests {
    use alloc::format;
    use alloc::vec;

    use proptest::prelude::*;

    use super::*;

    fn program(words: &[&str]) -> Program {
        Program {
            words: words.iter().map(|word| (*word).into()).collect(),
            cwd: "/".into(),
            ..Program::default()
        }
    }

    #[test]
    fn what_a_program_cannot_be_is_told() {
        let share = |tag: &str, path: &str| Program {
            shares: vec![Share {
                tag: tag.into(),
                path: path.into(),
                read_only: true,
            }],
            ..program(&["true"])
        };
        let set = |change: fn(&mut Program)| {
            let mut program = program(&["true"]);
            change(&mut program);
            program
        };
        for (wrong, part) in [
            (program(&[]), "no program"),
            (program(&[""]), "no program"),
            (program(&["a", "b\0"]), "NUL"),
            (
                set(|p| drop(p.env.insert("a=b".into(), String::new()))),
                "`=`",
            ),
            (set(|p| p.cwd = "work".into()), "absolute"),
            (set(|p| p.user = u32::MAX), "4294967294"),
            (share("", "/mnt"), "tag"),
            (share(&"t".repeat(32), "/mnt"), "tag"),
            (share("t", "/"), "not `/`"),
            (share("t", "/a/../b"), "absolute"),
        ] {
            let line = serde_json::to_vec(&Order::Run(wrong)).unwrap();
            let told = Order::parse(&line).unwrap_err().to_string();
            assert!(told.contains(part), "no `{part}` in: {told}");
        }
        assert!(Order::parse(b"{\"signal\":0}").is_err());
        assert!(Order::parse(b"{\"signal\":65}").is_err());
    }

    #[test]
    fn an_end_is_a_status_as_a_shell_has_it() {
        assert_eq!(End::Exited(7).status(), 7);
        assert_eq!(End::Killed(9).status(), 137);
    }

    proptest! {
        #[test]
        fn an_order_is_read_as_it_was_written(
            words in proptest::collection::vec("[^\0]{1,20}", 1..5),
            env in proptest::collection::btree_map("[^=\0]{1,9}", "[^\0]{0,20}", 0..4),
            (user, group) in (0..=ID_MAX, 0..=ID_MAX),
            (bytes, signal) in (any::<u64>(), 1..=SIGNAL_MAX),
        ) {
            let program = Program { words, env, user, group, ..program(&[]) };
            for order in [Order::Run(program), Order::InputEnds(bytes), Order::Signal(signal)] {
                let line = serde_json::to_vec(&order).unwrap();
                prop_assert!(!line.contains(&b'\n'));
                prop_assert_eq!(Order::parse(&line), Ok(order));
            }
        }

        #[test]
        fn no_line_upsets_the_reader(line: Vec<u8>, text in "\\PC{0,60}") {
            for line in [line, text.clone().into_bytes(), format!("{{\"run\":{text}}}").into_bytes()] {
                if let Ok(Order::Run(program)) = Order::parse(&line) {
                    prop_assert!(program.check().is_ok());
                }
            }
        }
    }
}
