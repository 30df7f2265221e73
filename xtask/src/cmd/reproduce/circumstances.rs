//! What a build should not depend on, varied: path, user, toolchain's place, time zone, locale,
//! umask, date, jobs.

use std::env;
use std::fs;
use std::path::{Path, PathBuf};
use std::thread;
use std::time::{Duration, UNIX_EPOCH};

use anyhow::{Context as _, Result};
use noonmark_builder::exec;
use noonmark_builder::workspace::Workspace;
use xshell::{Shell, cmd};

use super::tools::{HOSTILE_VARIABLES, Tools};
use super::user::Nobody;
use super::{checkout, date};

/// The folder of the programs that are made for the builds, in the scratch folder.
const PROGRAMS: &str = "programs";

/// Under what a build runs.
#[derive(Debug)]
pub struct Circumstances {
    /// Below the scratch folder.
    path: &'static str,
    time_zone: &'static str,
    locale: &'static str,
    umask: &'static str,
    jobs: usize,
    /// The files' own date, in days since 1970; none is today.
    files_from_day: Option<u64>,
    /// The library that tells another date; none is the system's own.
    date: Option<PathBuf>,
    /// Somebody else; none is this user.
    user: Option<Nobody>,
    tools: Tools,
    /// Whether cargo's settings and variables would make other programs; the tools' home has the settings.
    hostile: bool,
}

/// Two builds' circumstances, and what could not be varied, with the reasons. What they need is
/// laid out in `scratch`.
///
/// # Errors
///
/// The tools can't be found, or `scratch` can't be written.
pub fn pair(
    workspace: &Workspace,
    scratch: &Path,
) -> Result<(Circumstances, Circumstances, Vec<String>)> {
    let processors = thread::available_parallelism().map_or(1, usize::from);
    let own = Tools::own(workspace)?;
    let mut same = Vec::new();
    let mut varied = |what: &str, reason: anyhow::Error| same.push(format!("{what}: {reason:#}"));
    let programs = scratch.join(PROGRAMS);
    fs::create_dir(&programs).with_context(|| format!("cannot create {}", programs.display()))?;
    let date = date::library(&programs)
        .map_err(|reason| varied("the date", reason))
        .ok();
    let user = Nobody::new(workspace, scratch, &own)
        .map_err(|reason| varied("the user", reason))
        .ok();
    let tools = match &user {
        Some(nobody) => nobody.tools.clone(),
        None => own.with_another_home(workspace, scratch)?,
    };
    let first = Circumstances {
        path: "a",
        time_zone: "UTC",
        locale: "C",
        umask: "022",
        jobs: 1,
        files_from_day: None,
        date: None,
        user: None,
        tools: own,
        hostile: false,
    };
    let second = Circumstances {
        path: "another place/with a blank in it",
        time_zone: "Pacific/Kiritimati",
        locale: "tr_TR.UTF-8",
        umask: "077",
        jobs: processors.max(2),
        // 2001-09-09
        files_from_day: Some(11_574),
        date,
        user,
        tools,
        hostile: true,
    };
    Ok((first, second, same))
}

impl Circumstances {
    /// All of it in a line.
    pub fn describe(&self) -> String {
        let files = match self.files_from_day {
            None => "today".to_owned(),
            Some(day) => format!("day {day} since 1970"),
        };
        let date = match self.date {
            None => "today".to_owned(),
            Some(_) => format!("in {} years", date::YEARS),
        };
        let user = match self.user {
            None => "this user",
            Some(_) => "user nobody with the toolchain at another place",
        };
        let settings = if self.hostile { "hostile" } else { "own" };
        format!(
            "path \"{}\", {user}, {settings} settings of cargo, {date}, files of {files}, time zone {}, locale {}, umask {}, {} \
             job(s)",
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
        let mut this = env::current_exe().context("cannot tell where this program is")?;
        let mut prefix: &[String] = &[];
        if let Some(nobody) = &self.user {
            // The other user may have no right to enter the folder in which it was built.
            let copy = scratch.join(PROGRAMS).join("xtask");
            fs::copy(&this, &copy).with_context(|| format!("cannot copy {}", this.display()))?;
            this = copy;
            for program in [Some(&this), self.date.as_ref()].into_iter().flatten() {
                nobody.let_run(program)?;
            }
            let top = Path::new(self.path).iter().next().unwrap_or_default();
            nobody.take(&scratch.join(top))?;
            prefix = &nobody.prefix;
        }
        let shell = Shell::new().context("cannot tell the current folder")?;
        shell.change_dir(&checkout);
        // The umask applies to what cargo and rustc write, too.
        let script = format!("umask {}; exec \"$@\"", self.umask);
        let mut build = cmd!(
            shell,
            "env {prefix...} sh -c {script} sh {this} image --out {folder} {options...}"
        )
        .env("CARGO_MANIFEST_DIR", checkout.join("xtask"))
        .env("HOME", &home)
        .env("TMPDIR", &home)
        .env("PATH", self.tools.search_path()?)
        .env("CARGO", self.tools.program("cargo"))
        .env("CARGO_HOME", &self.tools.cargo_home)
        // Cargo deletes crates from its home that were not used for long, and the date is changed
        // here.
        .env("CARGO_CACHE_AUTO_CLEAN_FREQUENCY", "never")
        .env("CARGO_NET_OFFLINE", "true")
        .env("TZ", self.time_zone)
        .env("LC_ALL", self.locale)
        .env("CARGO_BUILD_JOBS", self.jobs.to_string())
        .env_remove("CARGO_TARGET_DIR");
        if self.hostile {
            build = build.envs(HOSTILE_VARIABLES);
        }
        if let Some(library) = &self.date {
            build = build.env("LD_PRELOAD", library);
        }
        exec::read(build).with_context(|| format!("the build under {} failed", self.describe()))?;
        Ok(folder)
    }
}
