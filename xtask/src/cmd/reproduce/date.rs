//! Another date for one build alone, by a library that is preloaded into its programs.

use std::fs;
use std::path::{Path, PathBuf};
use std::time::{SystemTime, UNIX_EPOCH};

use anyhow::{Context as _, Result, bail};
use noonmark_builder::exec;
use xshell::{Shell, cmd};

/// The library; what it does and why is told there.
const SOURCE: &str = include_str!("../../../preload/date.rs");

/// By how many years it moves the date, for people.
pub const YEARS: u32 = 20;

/// Compiles the library into `folder`, and makes sure that the date is another one under it.
///
/// # Errors
///
/// It can't be compiled for this machine, or the programs of this machine don't take it.
pub fn library(folder: &Path) -> Result<PathBuf> {
    let (source, library) = (folder.join("date.rs"), folder.join("date.so"));
    fs::write(&source, SOURCE).with_context(|| format!("cannot write {}", source.display()))?;
    let shell = Shell::new().context("cannot tell the current folder")?;
    exec::read(cmd!(
        shell,
        "rustc --edition 2024 --crate-type cdylib -C opt-level=2 -C panic=abort -D warnings
         -o {library} {source}"
    ))?;
    let told = exec::read(cmd!(shell, "date +%s").env("LD_PRELOAD", &library))?;
    let seconds: u64 = told
        .trim()
        .parse()
        .with_context(|| format!("`date +%s` said {}", told.trim()))?;
    let now = SystemTime::now()
        .duration_since(UNIX_EPOCH)
        .context("the system's date is before 1970")?
        .as_secs();
    let later_days = seconds.saturating_sub(now) / (24 * 3600);
    if later_days < u64::from(YEARS) * 365 {
        bail!("programs of this machine do not see the date that a preloaded library tells");
    }
    Ok(library)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn programs_and_the_compiler_itself_run_at_the_other_date() {
        let folder = tempfile::tempdir().unwrap();
        // `library` checks that `date` itself sees the other date.
        let library = library(folder.path()).unwrap();
        let shell = Shell::new().unwrap();
        let program = folder.path().join("year.rs");
        let tells = "fn main() { let now = std::time::SystemTime::now(); \
                     println!(\"{}\", now.duration_since(std::time::UNIX_EPOCH).unwrap().as_secs()) }";
        fs::write(&program, tells).unwrap();
        let compiled = folder.path().join("year");
        exec::read(
            cmd!(shell, "rustc --edition 2024 -o {compiled} {program}").env("LD_PRELOAD", &library),
        )
        .unwrap();
        let seconds = |preload: &str| -> i64 {
            let told = exec::read(cmd!(shell, "{compiled}").env("LD_PRELOAD", preload)).unwrap();
            told.trim().parse().unwrap()
        };
        let library = library.to_str().unwrap();
        let later_s = seconds(library) - seconds("");
        let years_s = i64::from(YEARS) * 365 * 24 * 3600;
        assert!(
            (years_s..years_s + 10 * 24 * 3600).contains(&later_s),
            "{later_s}"
        );
    }
}
