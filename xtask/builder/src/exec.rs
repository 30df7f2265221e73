//! Runs other programs, and makes an error of a failure that says which and what it said.

use std::process::Output;

use anyhow::{Context as _, Result, bail};
use xshell::Cmd;

/// How much of a failed program's words an error repeats.
const TAIL_LINES: usize = 12;

/// Runs a program to its end and returns its standard output.
///
/// # Errors
///
/// It could not be started, or failed; the error ends in the last lines that it said.
pub fn read(command: Cmd<'_>) -> Result<String> {
    let name = command.to_string();
    let output = outcome(command)?;
    if !output.status.success() {
        bail!("`{name}` failed ({}){}", output.status, said(&output));
    }
    Ok(String::from_utf8_lossy(&output.stdout).into_owned())
}

/// Runs a program to its end, whatever its exit status.
///
/// # Errors
///
/// It could not be started.
pub(crate) fn outcome(command: Cmd<'_>) -> Result<Output> {
    let name = command.to_string();
    command
        .quiet()
        .ignore_status()
        .output()
        .with_context(|| format!("cannot run `{name}`"))
}

/// The last lines that a program said, on both its streams, ready to follow a sentence.
pub(crate) fn said(output: &Output) -> String {
    let text = [&output.stdout, &output.stderr]
        .map(|stream| String::from_utf8_lossy(stream))
        .join("\n");
    let lines: Vec<&str> = text
        .lines()
        .filter(|line| !line.trim().is_empty())
        .collect();
    let tail = &lines[lines.len().saturating_sub(TAIL_LINES)..];
    let mut said = String::new();
    for line in tail {
        said.push_str(if said.is_empty() { ":\n  " } else { "\n  " });
        said.push_str(line.trim_end());
    }
    said
}
