//! Another user for one build alone, who finds the toolchain and the crates' sources at other
//! places: those are usually below a home that nobody else may enter.

use std::fs::{self, Permissions};
use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;

use anyhow::{Context as _, Result};
use noonmark_builder::exec;
use noonmark_builder::workspace::Workspace;
use xshell::{Shell, cmd};

use super::tools::{CARGO_HOME, SYSROOT, Tools};

/// The user and group that nobody's files belong to, on every Linux distribution.
const NOBODY: &str = "65534";

/// Mounts the toolchain and the crates' sources where nobody else may enter, read-only and for
/// this process and its children alone, then becomes the other user. A mount is no copy: the
/// toolchain has more than a gigabyte, and here it needs no room and nothing to clean up.
const SCRIPT: &str = r#"set -e
mount -o bind,ro "$1" "$2"
mount -o bind,ro "$3" "$4"
shift 4
exec setpriv --reuid "$NOBODY" --regid "$NOBODY" --clear-groups "$@"
"#;

/// What the mount point of the crates' sources is called.
const CRATES: &str = "crates";

/// The other user's way to the tools. Root runs programs on that way, so nothing that is run or mounted
/// there lies in a folder of the other user's.
#[derive(Debug)]
pub struct Nobody {
    /// What goes before a command so that it runs as nobody.
    pub prefix: Vec<String>,
    /// Where nobody finds the tools.
    pub tools: Tools,
}

impl Nobody {
    /// Lays the mount points out in `folder`, which stays root's, and tries the compiler as the other user.
    ///
    /// # Errors
    ///
    /// Why a build can't be somebody else's here.
    pub fn new(workspace: &Workspace, folder: &Path, own: &Tools) -> Result<Self> {
        anyhow::ensure!(
            rustix::process::geteuid().is_root(),
            "only root can build as somebody else"
        );
        let tools = Tools {
            sysroot: folder.join(SYSROOT),
            cargo_home: folder.join(CARGO_HOME),
        };
        let crates = folder.join(CRATES);
        for mount in [&tools.sysroot, &crates] {
            fs::create_dir_all(mount)
                .with_context(|| format!("cannot create {}", mount.display()))?;
        }
        own.write_hostile_settings(workspace, &tools)?;
        tools.link_registry(&crates)?;
        // Others may go through it, and no further than they may in what is there.
        fs::set_permissions(folder, Permissions::from_mode(0o711))
            .with_context(|| format!("cannot open {} to others", folder.display()))?;
        let mut prefix = ["unshare", "--mount", "env"].map(str::to_owned).to_vec();
        prefix.push(format!("NOBODY={NOBODY}"));
        prefix.extend(["sh", "-c", SCRIPT, "sh"].map(str::to_owned));
        let mounts = [&own.sysroot, &tools.sysroot, &own.registry(), &crates]
            .map(|path| path.display().to_string());
        prefix.extend(mounts);
        let nobody = Self { prefix, tools };
        nobody.take(&nobody.tools.cargo_home)?;
        let (prefix, rustc) = (&nobody.prefix, nobody.tools.program("rustc"));
        let shell = Shell::new().context("cannot tell the current folder")?;
        exec::read(cmd!(shell, "env {prefix...} {rustc} --version"))
            .context("nobody else can run the compiler here")?;
        Ok(nobody)
    }

    /// Lets the other user read and run a program, and enter its folder, whatever this user's umask.
    ///
    /// # Errors
    ///
    /// The system refuses it.
    pub fn let_run(&self, program: &Path) -> Result<()> {
        for path in [Some(program), program.parent()].into_iter().flatten() {
            fs::set_permissions(path, Permissions::from_mode(0o755))
                .with_context(|| format!("cannot open {} to others", path.display()))?;
        }
        Ok(())
    }

    /// Makes the other user the owner of a folder and all that is in it.
    ///
    /// # Errors
    ///
    /// The system refuses it.
    pub fn take(&self, folder: &Path) -> Result<()> {
        let shell = Shell::new().context("cannot tell the current folder")?;
        exec::read(cmd!(
            shell,
            "chown -R --no-dereference {NOBODY}:{NOBODY} {folder}"
        ))?;
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::MetadataExt as _;

    use super::*;

    #[test]
    fn what_root_runs_or_mounts_lies_in_root_s_folders_alone() {
        let folder = tempfile::tempdir().unwrap();
        let workspace = Workspace::find().unwrap();
        let own = Tools::own(&workspace).unwrap();
        let made = Nobody::new(&workspace, folder.path(), &own);
        let Ok(nobody) = made else {
            let told = format!("{:#}", made.unwrap_err());
            assert!(!rustix::process::geteuid().is_root(), "{told}");
            assert!(told.contains("only root"), "{told}");
            return;
        };
        let owner = |path: &Path| fs::symlink_metadata(path).unwrap().uid();
        assert_eq!(owner(folder.path()), 0);
        for entry in fs::read_dir(folder.path()).unwrap() {
            let path = entry.unwrap().path();
            let own = path != nobody.tools.cargo_home;
            assert_eq!(owner(&path) == 0, own, "{}", path.display());
        }
    }
}
