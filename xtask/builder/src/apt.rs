//! APT with a state of its own: package lists, cache and sources live under the project's cache, so
//! that the machine's own sources and lists stay as they are, and nothing here but an installation
//! needs root.

mod sources;

use std::fs;
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime};

use anyhow::{Context as _, Result, anyhow, bail};
use xshell::{Shell, cmd};

use crate::distribution::Distribution;
use crate::exec;
use crate::progress;
use crate::workspace::Workspace;

/// Package lists younger than this are taken as they are, until they turn out to be wrong.
const FRESH: Duration = Duration::from_secs(24 * 3600);

/// APT as seen through one set of sources.
#[derive(Debug)]
pub struct Apt {
    shell: Shell,
    dir: PathBuf,
    what: String,
    release: Option<String>,
}

/// A package as the archive has it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Package {
    /// Its name.
    pub name: String,
    /// Its version, with epoch and revision.
    pub version: String,
    /// `amd64`, `all`, ...
    pub architecture: String,
    /// The names of the first alternative of each dependency.
    pub depends: Vec<String>,
}

impl Apt {
    /// The machine's own release, or another suite derived from its entries.
    ///
    /// # Errors
    ///
    /// The machine has no entry of its distribution's own, or the state can't be written.
    pub fn open(workspace: &Workspace, suite: Option<&str>) -> Result<Self> {
        let distribution = Distribution::of_machine()?;
        let machine = sources::of_machine(Path::new("/etc/apt"))?;
        let entries = match suite {
            None => sources::own(&machine, &distribution.codename),
            Some(suite) => sources::for_suite(&machine, &distribution.codename, suite),
        };
        if entries.is_empty() {
            bail!(
                "neither /etc/apt/sources.list nor /etc/apt/sources.list.d has an entry for {} {}, \
                 so there is no archive to fetch packages from",
                distribution.id,
                distribution.codename
            );
        }
        let apt = Self {
            shell: Shell::new().context("cannot tell the current folder")?,
            dir: workspace
                .cache()
                .join("apt")
                .join(suite.unwrap_or("machine").replace('/', "_")),
            what: suite.map_or_else(
                || format!("{} {}", distribution.id, distribution.codename),
                |suite| format!("suite {suite}"),
            ),
            release: suite.filter(|suite| suite.contains('-')).map(str::to_owned),
        };
        apt.write(&sources::render(&entries))?;
        Ok(apt)
    }

    /// What the sources are, in words: `debian bookworm`, `suite bookworm-backports`.
    pub fn what(&self) -> &str {
        &self.what
    }

    /// The configuration that makes APT use this state: `apt-get -c FILE`.
    pub fn config(&self) -> PathBuf {
        self.dir.join("apt.conf")
    }

    /// Fetches the package lists where they are missing or old.
    ///
    /// # Errors
    ///
    /// As [`Apt::update`].
    pub fn refresh(&self) -> Result<()> {
        let fresh = fs::metadata(self.stamp())
            .and_then(|metadata| metadata.modified())
            .is_ok_and(|at| {
                SystemTime::now()
                    .duration_since(at)
                    .is_ok_and(|age| age < FRESH)
            });
        if fresh { Ok(()) } else { self.update() }
    }

    /// Fetches the package lists.
    ///
    /// # Errors
    ///
    /// An archive can't be reached or says what APT doesn't trust.
    pub fn update(&self) -> Result<()> {
        let step = progress::step(format!("fetching the package lists of {}", self.what));
        let config = self.config();
        // Without this option an archive that can't be reached is only a warning.
        exec::read(cmd!(
            self.shell,
            "apt-get -c {config} -o APT::Update::Error-Mode=any update"
        ))
        .with_context(|| {
            format!(
                "the package lists of {} can't be fetched; is there a network, and do the entries \
                 in /etc/apt still exist?",
                self.what
            )
        })?;
        fs::write(self.stamp(), "")
            .with_context(|| format!("cannot write {}", self.stamp().display()))?;
        step.vanish();
        Ok(())
    }

    /// The package's newest version that the sources prefer; none where they have no such package.
    ///
    /// # Errors
    ///
    /// APT itself fails.
    pub fn candidate(&self, name: &str) -> Result<Option<Package>> {
        let config = self.config();
        let release = self.release_option();
        let output = exec::outcome(cmd!(
            self.shell,
            "apt-cache -c {config} {release...} show --no-all-versions {name}"
        ))?;
        // apt-cache fails for an unknown name, and prints nothing for a virtual package.
        if !output.status.success() {
            return Ok(None);
        }
        let text = String::from_utf8_lossy(&output.stdout);
        Ok(sources::stanzas(&text)
            .first()
            .and_then(|fields| package(fields)))
    }

    /// The package and all that APT would install with it on a machine that has nothing yet, in an order
    /// of APT's. Recommendations are left out. It chooses among alternatives and what provides a name, and
    /// finds circles no trouble.
    ///
    /// # Errors
    ///
    /// It can't be installed: something that it depends on is not there.
    pub fn with_dependencies(&self, name: &str) -> Result<Vec<Package>> {
        let config = self.config();
        let release = self.release_option();
        let nothing = format!("Dir::State::status={}", self.status().display());
        let told = exec::read(cmd!(
            self.shell,
            "apt-get -c {config} {release...} -o {nothing} -o Debug::NoLocking=true -qq --simulate
             --no-install-recommends install {name}"
        ))
        .with_context(|| format!("{name} of {} can't be taken", self.what))?;
        told.lines()
            .filter(|line| line.starts_with("Inst "))
            .map(|line| {
                to_be_installed(line)
                    .with_context(|| format!("apt-get says what is not expected: {line}"))
            })
            .collect()
    }

    /// Downloads one version of a package into `folder` and returns the file.
    ///
    /// # Errors
    ///
    /// The archive doesn't have it (any more), or can't be reached.
    pub fn download(&self, name: &str, version: &str, folder: &Path) -> Result<PathBuf> {
        fs::create_dir_all(folder)
            .with_context(|| format!("cannot create {}", folder.display()))?;
        let config = self.config();
        let name_and_version = format!("{name}={version}");
        // apt-get checks size and hash against the signed package list.
        let _here = self.shell.push_dir(folder);
        exec::read(cmd!(
            self.shell,
            "apt-get -c {config} -q download {name_and_version}"
        ))
        .with_context(|| format!("cannot fetch {name} {version} from {}", self.what))?;
        // The file's name has the version with its epoch's colon escaped.
        let prefix = format!("{name}_{}_", version.replace(':', "%3a"));
        fs::read_dir(folder)
            .with_context(|| format!("cannot list {}", folder.display()))?
            .filter_map(Result::ok)
            .map(|entry| entry.path())
            .find(|path| {
                path.file_name()
                    .is_some_and(|file| file.to_string_lossy().starts_with(&prefix))
            })
            .ok_or_else(|| anyhow!("apt-get left no {prefix}*.deb in {}", folder.display()))
    }

    /// The arguments of the `apt-get` that installs packages from these sources. It never removes
    /// or downgrades anything, and brings no more than is needed.
    pub fn install_arguments(&self, packages: &[&str]) -> Vec<String> {
        let mut arguments = vec!["-c".to_owned(), self.config().display().to_string()];
        arguments.extend(self.release_option());
        arguments.extend(["--no-remove", "--no-install-recommends", "install"].map(str::to_owned));
        arguments.extend(packages.iter().map(|&package| package.to_owned()));
        arguments
    }

    fn release_option(&self) -> Vec<String> {
        self.release
            .iter()
            .flat_map(|release| ["-o".to_owned(), format!("APT::Default-Release={release}")])
            .collect()
    }

    /// What APT takes for the list of installed packages: empty.
    fn status(&self) -> PathBuf {
        self.dir.join("status")
    }

    fn stamp(&self) -> PathBuf {
        self.dir.join("updated")
    }

    /// Lays the state out; package lists of other sources than before are fetched anew.
    fn write(&self, entries: &str) -> Result<()> {
        let folders = ["sources", "lists/partial", "cache/archives/partial"];
        for folder in folders.map(|folder| self.dir.join(folder)) {
            fs::create_dir_all(&folder)
                .with_context(|| format!("cannot create {}", folder.display()))?;
        }
        let sources = self.dir.join("sources/noonmark.sources");
        if fs::read_to_string(&sources).is_ok_and(|before| before != entries) {
            // The stamp may not exist yet.
            let _ = fs::remove_file(self.stamp());
        }
        for (path, text) in [
            (sources, entries.to_owned()),
            (self.config(), self.config_text()),
            (self.status(), String::new()),
        ] {
            fs::write(&path, text).with_context(|| format!("cannot write {}", path.display()))?;
        }
        Ok(())
    }

    fn config_text(&self) -> String {
        let dir = self.dir.display();
        let sandbox = if rustix::process::geteuid().is_root() {
            // APT's own unprivileged user can't enter a checkout in somebody's home.
            "APT::Sandbox::User \"root\";\n"
        } else {
            ""
        };
        format!(
            "// Written by `cargo xtask`; the machine's own sources and lists are not used.\n\
             Dir::Etc::SourceList \"/dev/null\";\n\
             Dir::Etc::SourceParts \"{dir}/sources\";\n\
             Dir::State::Lists \"{dir}/lists\";\n\
             Dir::Cache \"{dir}/cache\";\n\
             Dir::Cache::pkgcache \"pkgcache.bin\";\n\
             Dir::Cache::srcpkgcache \"srcpkgcache.bin\";\n\
             Acquire::Languages \"none\";\n\
             Acquire::Retries \"3\";\n\
             Acquire::http::Timeout \"30\";\n\
             Acquire::https::Timeout \"30\";\n\
             #clear APT::Update::Post-Invoke;\n\
             #clear APT::Update::Post-Invoke-Success;\n\
             {sandbox}"
        )
    }
}

/// A line of APT's simulation: `Inst NAME (VERSION ARCHIVE... [ARCHITECTURE])`, and brackets behind it.
fn to_be_installed(line: &str) -> Option<Package> {
    let (name, rest) = line.strip_prefix("Inst ")?.split_once(" (")?;
    let (inside, _) = rest.split_once(')')?;
    let (version, rest) = inside.split_once(' ')?;
    let (_, architecture) = rest.rsplit_once('[')?;
    Some(Package {
        name: name.to_owned(),
        version: version.to_owned(),
        architecture: architecture.trim_end_matches(']').to_owned(),
        depends: Vec::new(),
    })
}

fn package(fields: &[(String, String)]) -> Option<Package> {
    let value = |wanted: &str| {
        fields
            .iter()
            .find(|(name, _)| name == wanted)
            .map(|(_, value)| value.clone())
    };
    Some(Package {
        name: value("Package")?,
        version: value("Version")?,
        architecture: value("Architecture")?,
        depends: value("Depends")
            .unwrap_or_default()
            .split(',')
            .filter_map(|dependency| dependency.split(['|', '(', ':']).next())
            .map(|name| name.trim().to_owned())
            .filter(|name| !name.is_empty())
            .collect(),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_would_be_installed_is_read_from_what_apt_get_simulates() {
        let line =
            "Inst libc6 (2.36-9+deb12u14 Debian:12.15/oldstable, Debian-Security:12 [amd64]) []";
        assert_eq!(
            to_be_installed(line),
            Some(Package {
                name: "libc6".into(),
                version: "2.36-9+deb12u14".into(),
                architecture: "amd64".into(),
                depends: Vec::new(),
            })
        );
        assert_eq!(
            to_be_installed("Conf libc6 (2.36-9 Debian:12 [amd64])"),
            None
        );
    }

    #[test]
    fn a_package_is_read_from_what_apt_cache_shows() {
        let text = "\
Package: linux-image-7.2.13+deb14-cloud-amd64
Version: 7.2.13-1
Architecture: amd64
Depends: dracut | initramfs-tools (>= 0.120+deb8u2), linux-base-7.2.13+deb14-cloud-amd64 (= 7.2.13-1)
Description: Linux
 on several lines
";
        let fields = &sources::stanzas(text)[0];
        assert_eq!(
            package(fields),
            Some(Package {
                name: "linux-image-7.2.13+deb14-cloud-amd64".into(),
                version: "7.2.13-1".into(),
                architecture: "amd64".into(),
                depends: vec![
                    "dracut".into(),
                    "linux-base-7.2.13+deb14-cloud-amd64".into()
                ],
            })
        );
    }
}
