//! The options of `run` that have a meaning with a command alone.

use std::path::PathBuf;

use clap::Args;
use noonmark_contract::units::Nanos;

use crate::options::span;

use super::share::ShareOption;

/// Options that have a meaning with a command alone.
#[derive(Debug, Args)]
pub struct CommandOptions {
    /// A command to run in the guest once its clock is right, in place of watching the clock: its
    /// standard streams are this program's, and so is its exit status (128 and the signal's number where
    /// one ended it). It is a path in a shared folder, a program of the image, or one of this machine,
    /// which is brought along with its libraries. It runs as root. Ctrl-C sends it SIGINT, the second
    /// one ends the machine.
    #[arg(last = true, value_name = "COMMAND")]
    pub command: Vec<String>,
    /// A folder of this machine for the guest, at PATH [default: where it is here]; may be repeated.
    #[arg(long, value_name = "DIR[:PATH][,ro]", requires = "command")]
    pub share: Vec<ShareOption>,
    /// A variable of the command's environment; without a value, this program's; may be repeated.
    #[arg(long, value_name = "NAME[=VALUE]", requires = "command")]
    pub env: Vec<String>,
    /// The folder in the guest in which the command starts [default: the current one where it is
    /// shared, else /].
    #[arg(
        long,
        visible_alias = "chdir",
        value_name = "DIR",
        requires = "command"
    )]
    pub cwd: Option<String>,
    /// The user, and the group, that the command runs as, in numbers [default: 0:0].
    #[arg(long, value_name = "UID[:GID]", requires = "command", value_parser = user)]
    pub user: Option<(u32, u32)>,
    /// How long the command may take; then it gets SIGTERM, and the exit status is 124.
    #[arg(long, value_name = "SPAN", requires = "command", value_parser = span)]
    pub timeout: Option<Nanos>,
    /// Write how the command ended and how long what took, as JSON.
    #[arg(long, value_name = "FILE", requires = "command")]
    pub json: Option<PathBuf>,
    /// Say what is done, and how long the first byte of output took.
    #[arg(long, short, requires = "command")]
    pub verbose: bool,
    /// What the machine on which the command was called has settled.
    #[arg(long, hide = true, value_name = "FILE", requires = "command")]
    pub plan: Option<PathBuf>,
}

/// `UID[:GID]`; the group is as the user where it is left out.
fn user(text: &str) -> Result<(u32, u32), String> {
    let (user, group) = text.split_once(':').unwrap_or((text, text));
    let number = |text: &str| text.parse().ok().filter(|number| *number < u32::MAX);
    number(user)
        .zip(number(group))
        .ok_or_else(|| "expected UID or UID:GID in numbers, e.g. 1000:1000".to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_user_is_a_number_and_its_group_too() {
        assert_eq!(user("1000"), Ok((1000, 1000)));
        assert_eq!(user("0:5"), Ok((0, 5)));
        for wrong in ["", "root", "1:", "-1", "4294967295"] {
            assert!(user(wrong).is_err(), "{wrong}");
        }
    }
}
