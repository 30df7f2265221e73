//! Another user for one build alone, who finds the toolchain and the crates' sources at other
//! places: those are usually below a home that nobody else may enter.

use std::fs;
use std::path::Path;

use anyhow::{Context as _, Result};
use noonmark_builder::exec;
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

/// The other user's way to the tools.
#[derive(Debug)]
pub struct Nobody {
    /// What goes before a command so that it runs as nobody.
    pub prefix: Vec<String>,
    /// Where nobody finds the tools.
    pub tools: Tools,
}

impl Nobody {
    /// Lays the mount points out in `folder` and tries the compiler as the other user.
    ///
    /// # Errors
    ///
    /// Why a build can't be somebody else's here.
    pub fn new(folder: &Path, own: &Tools) -> Result<Self> {
        anyhow::ensure!(
            rustix::process::geteuid().is_root(),
            "only root can build as somebody else"
        );
        let tools = Tools {
            sysroot: folder.join(SYSROOT),
            cargo_home: folder.join(CARGO_HOME),
        };
        let registry = tools.registry();
        for mount in [&tools.sysroot, &registry] {
            fs::create_dir_all(mount)
                .with_context(|| format!("cannot create {}", mount.display()))?;
        }
        own.copy_settings(&tools)?;
        let mut prefix = ["unshare", "--mount", "env"].map(str::to_owned).to_vec();
        prefix.push(format!("NOBODY={NOBODY}"));
        prefix.extend(["sh", "-c", SCRIPT, "sh"].map(str::to_owned));
        let mounts = [&own.sysroot, &tools.sysroot, &own.registry(), &registry]
            .map(|path| path.display().to_string());
        prefix.extend(mounts);
        let nobody = Self { prefix, tools };
        nobody.take(folder)?;
        let (prefix, rustc) = (&nobody.prefix, nobody.tools.program("rustc"));
        let shell = Shell::new().context("cannot tell the current folder")?;
        exec::read(cmd!(shell, "env {prefix...} {rustc} --version"))
            .context("nobody else can run the compiler here")?;
        Ok(nobody)
    }

    /// Makes the other user the owner of a folder and all that is in it.
    ///
    /// # Errors
    ///
    /// The system refuses it.
    pub fn take(&self, folder: &Path) -> Result<()> {
        let shell = Shell::new().context("cannot tell the current folder")?;
        exec::read(cmd!(shell, "chown -R {NOBODY}:{NOBODY} {folder}"))?;
        Ok(())
    }
}
