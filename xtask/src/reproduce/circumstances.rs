//! What a build should not depend on, varied: path, user, time zone, locale, umask, date, jobs.

use std::env;
use std::fs;
use std::path::{Path, PathBuf};
use std::thread;
use std::time::{Duration, UNIX_EPOCH};

use anyhow::{Context as _, Result};
use xshell::{Shell, cmd};

use super::checkout;
use crate::exec;
use crate::workspace::Workspace;

/// The user and group that nobody's files belong to, on every Linux distribution.
const NOBODY: &str = "65534";

/// Runs a command as that user, to be put after `env`.
const AS_NOBODY: [&str; 6] = [
    "setpriv",
    "--reuid",
    NOBODY,
    "--regid",
    NOBODY,
    "--clear-groups",
];

/// Under what a build runs.
#[derive(Clone, Debug)]
pub struct Circumstances {
    /// Below the scratch folder.
    path: &'static str,
    time_zone: &'static str,
    locale: &'static str,
    umask: &'static str,
    jobs: usize,
    /// The files' own date, in days since 1970; none is today.
    files_from_day: Option<u64>,
    as_nobody: bool,
}

/// Two builds' circumstances, and what could not be varied, with the reasons.
pub fn pair() -> (Circumstances, Circumstances, Vec<String>) {
    let processors = thread::available_parallelism().map_or(1, usize::from);
    let mut same = vec![
        "the system's date: rustc comes to a standstill under libfaketime; the files' dates were \
         varied in its place"
            .to_owned(),
    ];
    let as_nobody = match nobody_can_build() {
        Ok(()) => true,
        Err(reason) => {
            same.push(format!("the user: {reason}"));
            false
        }
    };
    let first = Circumstances {
        path: "a",
        time_zone: "UTC",
        locale: "C",
        umask: "022",
        jobs: 1,
        files_from_day: None,
        as_nobody: false,
    };
    let second = Circumstances {
        path: "another place/with a blank in it",
        time_zone: "Pacific/Kiritimati",
        locale: "tr_TR.UTF-8",
        umask: "077",
        jobs: processors.max(2),
        // 2001-09-09
        files_from_day: Some(11_574),
        as_nobody,
    };
    (first, second, same)
}

impl Circumstances {
    /// All of it in a line.
    pub fn describe(&self) -> String {
        let date = match self.files_from_day {
            None => "today".to_owned(),
            Some(day) => format!("day {day} since 1970"),
        };
        let user = if self.as_nobody {
            "user nobody"
        } else {
            "this user"
        };
        format!(
            "path \"{}\", {user}, time zone {}, locale {}, umask {}, files of {date}, {} job(s)",
            self.path, self.time_zone, self.locale, self.umask, self.jobs
        )
    }

    /// Copies the checkout below `scratch` and builds the image there, by this very program.
    /// Returns the folder of the artifacts.
    ///
    /// # Errors
    ///
    /// The copy or the build fails.
    pub fn build(
        &self,
        workspace: &Workspace,
        scratch: &Path,
        options: &[String],
    ) -> Result<PathBuf> {
        let checkout = scratch.join(self.path);
        let date = self
            .files_from_day
            .map(|day| UNIX_EPOCH + Duration::from_secs(day * 24 * 3600));
        checkout::copy(workspace, &checkout, date)?;
        let folder = checkout.join("target/image");
        let home = checkout.join("home");
        fs::create_dir_all(&home).with_context(|| format!("cannot create {}", home.display()))?;
        let shell = Shell::new().context("cannot tell the current folder")?;
        shell.change_dir(&checkout);
        let mut prefix = Vec::new();
        if self.as_nobody {
            let owner = format!("{NOBODY}:{NOBODY}");
            exec::read(cmd!(shell, "chown -R {owner} {scratch}"))?;
            prefix.extend(AS_NOBODY);
        }
        let this = env::current_exe().context("cannot tell where this program is")?;
        // Cargo's rustc writes its own files through the umask as well.
        let script = format!("umask {}; exec \"$@\"", self.umask);
        let build = cmd!(
            shell,
            "env {prefix...} sh -c {script} sh {this} image --out {folder} {options...}"
        )
        .env("CARGO_MANIFEST_DIR", checkout.join("xtask"))
        .env("HOME", &home)
        .env("CARGO_HOME", cargo_home()?)
        .env("RUSTUP_HOME", rustup_home()?)
        .env("TZ", self.time_zone)
        .env("LC_ALL", self.locale)
        .env("CARGO_BUILD_JOBS", self.jobs.to_string())
        .env_remove("CARGO_TARGET_DIR");
        exec::read(build).with_context(|| format!("the build under {} failed", self.describe()))?;
        Ok(folder)
    }
}

/// Whether another user could run the toolchain and this program.
fn nobody_can_build() -> Result<(), String> {
    if !rustix::process::geteuid().is_root() {
        return Err("only root can build as somebody else".to_owned());
    }
    let shell = Shell::new().map_err(|error| error.to_string())?;
    let this = env::current_exe().map_err(|error| error.to_string())?;
    let homes = [cargo_home(), rustup_home()].map(|home| home.map_err(|error| error.to_string()));
    let [cargo, rustup] = homes;
    for needed in [cargo?, rustup?, this] {
        let readable = exec::outcome(cmd!(shell, "env {AS_NOBODY...} test -r {needed}"))
            .is_ok_and(|output| output.status.success());
        if !readable {
            return Err(format!("nobody else can read {}", needed.display()));
        }
    }
    Ok(())
}

fn cargo_home() -> Result<PathBuf> {
    tool_home("CARGO_HOME", ".cargo")
}

fn rustup_home() -> Result<PathBuf> {
    tool_home("RUSTUP_HOME", ".rustup")
}

fn tool_home(variable: &str, below_home: &str) -> Result<PathBuf> {
    env::var_os(variable)
        .map(PathBuf::from)
        .or_else(|| env::home_dir().map(|home| home.join(below_home)))
        .with_context(|| format!("neither {variable} nor HOME says where Rust's tools are"))
}
