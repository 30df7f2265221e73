//! A folder of this machine's in the guest, as one writes it on the command line.

use std::fs;
use std::path::{Path, PathBuf};
use std::str::FromStr;

use anyhow::{Context as _, Result, bail};
use noonmark_contract::run;

/// `DIR[:PATH][,ro]`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ShareOption {
    folder: PathBuf,
    path: Option<String>,
    read_only: bool,
}

/// A folder that is there, and where it goes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Share {
    /// Without symbolic links.
    pub folder: PathBuf,
    /// As the guest is told.
    pub told: run::Share,
}

impl FromStr for ShareOption {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let (rest, read_only) = match text.rsplit_once(',') {
            Some((rest, "ro")) => (rest, true),
            Some((rest, "rw")) => (rest, false),
            _ => (text, false),
        };
        let (folder, path) = match rest.rsplit_once(":/") {
            Some((folder, path)) => (folder, Some(format!("/{path}"))),
            None => (rest, None),
        };
        if folder.is_empty() {
            return Err("expected DIR[:PATH][,ro], PATH absolute, e.g. .:/src,ro".to_owned());
        }
        Ok(Self {
            folder: folder.into(),
            path,
            read_only,
        })
    }
}

impl ShareOption {
    /// Finds the folder.
    ///
    /// # Errors
    ///
    /// There is none, or it can't be in the guest where it is to be.
    pub fn find(&self, nth: usize) -> Result<Share> {
        let named = || format!("--share {}", self.folder.display());
        let folder = fs::canonicalize(&self.folder).with_context(named)?;
        if !folder.is_dir() {
            bail!("{}: this is no folder", named());
        }
        let path = match &self.path {
            Some(path) => path.clone(),
            None => text(&folder)?,
        };
        let path = path.trim_end_matches('/').to_owned();
        if ["", "/dev", "/proc", "/sys", "/run", "/tmp"].contains(&path.as_str()) {
            bail!(
                "{}: it can't take the place of the guest's own `/{}`; name another with \
                 --share {}:/PATH",
                named(),
                path.trim_start_matches('/'),
                self.folder.display()
            );
        }
        Ok(Share {
            folder,
            told: run::Share {
                tag: format!("share{nth}"),
                path,
                read_only: self.read_only,
            },
        })
    }
}

impl Share {
    /// Where the guest has this path of this machine's; none where it isn't in the folder.
    pub fn guest_path(&self, path: &Path) -> Option<String> {
        let rest = path.strip_prefix(&self.folder).ok()?;
        text(&Path::new(&self.told.path).join(rest))
            .ok()
            .map(|path| path.trim_end_matches('/').to_owned())
    }

    /// Where this machine has this path of the guest's.
    pub fn host_path(&self, path: &Path) -> Option<PathBuf> {
        let rest = path.strip_prefix(&self.told.path).ok()?;
        Some(self.folder.join(rest))
    }
}

/// A path as the guest can be told.
pub fn text(path: &Path) -> Result<String> {
    let text = path.to_str();
    text.map(str::to_owned)
        .with_context(|| format!("{} is no text in UTF-8", path.display()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_share_is_written_as_with_container_runtimes() {
        let parsed = |text: &str| text.parse::<ShareOption>();
        let share = |folder: &str, path: Option<&str>, read_only| ShareOption {
            folder: folder.into(),
            path: path.map(str::to_owned),
            read_only,
        };
        assert_eq!(parsed("."), Ok(share(".", None, false)));
        assert_eq!(parsed(".,ro"), Ok(share(".", None, true)));
        assert_eq!(parsed("a:b:/c"), Ok(share("a:b", Some("/c"), false)));
        assert_eq!(parsed("/a,b:/c,ro"), Ok(share("/a,b", Some("/c"), true)));
        assert!(parsed("").is_err() && parsed(":/c").is_err());
    }

    #[test]
    fn a_folder_is_where_it_is_here_or_where_it_is_wanted_but_not_over_the_guest_s_own() {
        let folder = tempfile::tempdir().unwrap();
        let option = |text: String| text.parse::<ShareOption>().unwrap().find(0);
        let here = folder.path().canonicalize().unwrap();
        let share = option(format!("{}/.", here.display())).unwrap();
        assert_eq!(share.told.path, here.to_str().unwrap());
        let share = option(format!("{}:/src/", here.display())).unwrap();
        assert_eq!(share.told.path, "/src");
        assert_eq!(share.guest_path(&here.join("a/b")).unwrap(), "/src/a/b");
        assert_eq!(share.guest_path(&here).unwrap(), "/src");
        assert_eq!(share.guest_path(Path::new("/elsewhere")), None);
        assert_eq!(share.host_path(Path::new("/src/a")), Some(here.join("a")));
        for path in ["/", "/tmp", "/proc/"] {
            let error = option(format!("{}:{path}", here.display())).unwrap_err();
            assert!(error.to_string().contains("--share"), "{error}");
        }
        let error = option(format!("{}/none", here.display())).unwrap_err();
        assert!(format!("{error:#}").contains("none"), "{error:#}");
    }
}
