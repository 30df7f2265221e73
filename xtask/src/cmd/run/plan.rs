//! What is run in the guest, where, and what of this machine's it takes there.

use std::collections::BTreeMap;
use std::env;
use std::fs;
use std::path::{Component, Path, PathBuf};

use anyhow::{Context as _, Result, bail};
use noonmark_builder::run::Supplement;
use noonmark_contract::run::Program;
use noonmark_image::spec::Spec;
use noonmark_qemu::{Device, find_in_path, kvm_host};
use serde::{Deserialize, Serialize};

use crate::nested;

use super::options::CommandOptions;
use super::share::{Share, text};

/// All that is settled on the machine on which the command was called.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Plan {
    /// As the guest is told.
    pub program: Program,
    /// The folders of this machine's behind its shares.
    pub folders: Vec<PathBuf>,
    /// Files for the guest beside its image, as an archive.
    pub archive: PathBuf,
}

impl Plan {
    /// Settles it, and writes the archive.
    ///
    /// # Errors
    ///
    /// A folder or program is missing, or the guest can't be told of it.
    pub fn new(options: &CommandOptions, spec: &Spec, archive: PathBuf) -> Result<Self> {
        let shares = options.share.iter().enumerate();
        let shares: Vec<Share> = shares
            .map(|(nth, share)| share.find(nth))
            .collect::<Result<_>>()?;
        let here = env::current_dir().context("cannot tell the current folder")?;
        let here = fs::canonicalize(&here).unwrap_or(here);
        // The innermost share shows.
        let in_share = |path: &Path| {
            let mut found: Vec<&Share> = shares.iter().collect();
            found.sort_by_key(|share| share.folder.as_os_str().len());
            found.iter().rev().find_map(|share| share.guest_path(path))
        };
        let cwd = match &options.cwd {
            Some(cwd) => cwd.clone(),
            None => in_share(&here).unwrap_or_else(|| "/".to_owned()),
        };
        let mut supplement = Supplement::default();
        for share in &shares {
            supplement.add_folder(&share.told.path);
        }
        let mut words = options.command.clone();
        let Some(name) = words.first_mut() else {
            bail!("there is no command to run");
        };
        let has = |path: &str| spec.files.iter().any(|file| file.path == path);
        *name = bring(name, &cwd, &shares, has, &mut supplement)?;
        let bytes = supplement.archive()?;
        fs::write(&archive, bytes)
            .with_context(|| format!("cannot write {}", archive.display()))?;
        let (user, group) = options.user.unwrap_or((0, 0));
        let program = Program {
            words,
            env: variables(&options.env)?,
            cwd,
            user,
            group,
            shares: shares.iter().map(|share| share.told.clone()).collect(),
        };
        program.check()?;
        Ok(Self {
            program,
            folders: shares.into_iter().map(|share| share.folder).collect(),
            archive,
        })
    }

    /// The shares as devices.
    pub fn devices(&self) -> impl Iterator<Item = Device> {
        let folders = self.program.shares.iter().zip(&self.folders);
        folders.map(|(share, folder)| Device::Share {
            folder: match kvm_host::inside() {
                Some(_) => Path::new(nested::SHARES).join(&share.tag),
                None => folder.clone(),
            },
            tag: share.tag.clone(),
            read_only: share.read_only,
        })
    }
}

/// Brings a command into the guest where it isn't there already; gives what it is called there.
///
/// A path is the guest's: one in a shared folder, or of the image. What is neither is taken from this
/// machine, as a name is that no program of the image has.
fn bring(
    name: &str,
    cwd: &str,
    shares: &[Share],
    has: impl Fn(&str) -> bool,
    supplement: &mut Supplement,
) -> Result<String> {
    let folders = [
        "/usr/local/bin",
        "/usr/local/sbin",
        "/usr/bin",
        "/usr/sbin",
        "/bin",
        "/sbin",
    ];
    if !name.contains('/') {
        if folders
            .iter()
            .any(|folder| has(&format!("{folder}/{name}")))
        {
            return Ok(name.to_owned());
        }
        return match find_in_path(name) {
            Some(found) => supplement.add_program(&std::path::absolute(found)?),
            None => bail!("{name}: neither the image nor this machine has a program of this name"),
        };
    }
    let path = normalized(&Path::new(cwd).join(name));
    let mut in_shares: Vec<&Share> = shares.iter().collect();
    in_shares.sort_by_key(|share| share.told.path.len());
    if let Some(file) = in_shares
        .iter()
        .rev()
        .find_map(|share| share.host_path(&path))
    {
        supplement
            .add_needs(&file)
            .with_context(|| format!("{name} can't be run in the guest"))?;
        return text(&path);
    }
    let guest_path = text(&path)?;
    if has(&guest_path) {
        return Ok(guest_path);
    }
    let file = std::path::absolute(name)?;
    supplement
        .add_program(&file)
        .with_context(|| format!("{name} is neither in the image nor in a shared folder"))
}

/// Without `.` and `..`, as far as that can be told from the path alone.
fn normalized(path: &Path) -> PathBuf {
    let mut normal = PathBuf::new();
    for part in path.components() {
        match part {
            Component::CurDir => {}
            Component::ParentDir => drop(normal.pop()),
            other => normal.push(other),
        }
    }
    normal
}

/// `NAME=VALUE`, or `NAME` for what this program has.
fn variables(words: &[String]) -> Result<BTreeMap<String, String>> {
    words
        .iter()
        .filter_map(|word| match word.split_once('=') {
            Some((name, value)) => Some(Ok((name.to_owned(), value.to_owned()))),
            None => match env::var(word) {
                Ok(value) => Some(Ok((word.clone(), value))),
                Err(env::VarError::NotPresent) => None,
                Err(error) => Some(Err(error).with_context(|| format!("--env {word}"))),
            },
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_command_of_the_image_stays_and_another_is_brought_along() {
        let image = |path: &str| path == "/usr/bin/hello";
        let bring = |name: &str| bring(name, "/", &[], image, &mut Supplement::default());
        assert_eq!(bring("hello").unwrap(), "hello");
        assert_eq!(bring("/usr/bin/hello").unwrap(), "/usr/bin/hello");
        assert!(bring("sh").unwrap().ends_with("/sh"));
        assert_eq!(bring("/bin/sh").unwrap(), "/bin/sh");
        let own = env::current_exe().unwrap();
        assert!(
            bring(own.to_str().unwrap())
                .unwrap()
                .ends_with(own.to_str().unwrap())
        );
        for missing in ["no-such-program", "./no-such-program"] {
            let error = format!("{:#}", bring(missing).unwrap_err());
            assert!(error.contains("no-such-program"), "{error}");
        }
    }

    #[test]
    fn a_program_of_a_share_stays_where_it_is() {
        let folder = tempfile::tempdir().unwrap();
        let here = folder.path().canonicalize().unwrap();
        fs::copy("/bin/sh", here.join("shell")).unwrap();
        let option: super::super::share::ShareOption =
            format!("{}:/src", here.display()).parse().unwrap();
        let shares = [option.find(0).unwrap()];
        let bring = |name: &str| {
            bring(
                name,
                "/src/a",
                &shares,
                |_| false,
                &mut Supplement::default(),
            )
        };
        assert_eq!(bring("../shell").unwrap(), "/src/shell");
        let error = format!("{:#}", bring("./none").unwrap_err());
        assert!(error.contains("none"), "{error}");
    }

    #[test]
    fn a_variable_without_a_value_has_the_one_of_this_program_if_that_has_one() {
        let words = ["A=b=c", "PATH", "NOONMARK_NO_SUCH_VARIABLE"].map(str::to_owned);
        let found = variables(&words).unwrap();
        assert_eq!(found["A"], "b=c");
        assert_eq!(found.len(), 2);
    }
}
