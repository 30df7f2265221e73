//! Installs packages of the distribution, adding only: nothing is removed or downgraded.

use std::io::IsTerminal as _;

use anyhow::{Context as _, Result, bail};
use xshell::{Shell, cmd};

use crate::apt::Apt;
use crate::distribution::Distribution;
use crate::exec;
use crate::progress;
use crate::workspace::Workspace;

/// Installs packages from the machine's own release, or from its backports where `suits` turns the
/// release's own down or what is already installed rules them out.
///
/// # Errors
///
/// APT finds no way without removing something, the rights are missing (the error has the line to
/// run), or the installation fails.
pub fn install(
    workspace: &Workspace,
    packages: &[&str],
    why: &str,
    suits: fn(&Apt) -> Result<(), String>,
) -> Result<()> {
    let shell = Shell::new().context("cannot tell the current folder")?;
    let apt = installable_from(&shell, workspace, packages, suits)?;
    let arguments = apt.install_arguments(packages);
    let Some(privilege) = privilege(&shell) else {
        bail!(
            "{} must be installed ({why}), and that takes root's rights; run this, then try again: \
             sudo apt-get {}",
            packages.join(", "),
            arguments.join(" ")
        );
    };
    let names = packages.join(", ");
    progress::note(format!("installing {names} from {}: {why}", apt.what()));
    let step = progress::step(format!("apt-get install {names}"));
    let options = ["-y", "-q", "-o", "DPkg::Lock::Timeout=300"];
    exec::read(
        cmd!(shell, "env {privilege...}")
            .arg("DEBIAN_FRONTEND=noninteractive")
            .arg("apt-get")
            .args(options)
            .args(arguments),
    )
    .with_context(|| format!("{names} can't be installed"))?;
    step.done(format!("installed {names}"));
    Ok(())
}

/// The sources from which the packages can be installed beside all that is there now.
fn installable_from(
    shell: &Shell,
    workspace: &Workspace,
    packages: &[&str],
    suits: fn(&Apt) -> Result<(), String>,
) -> Result<Apt> {
    let release = Apt::open(workspace, None)?;
    release.refresh()?;
    let simulate = |apt: &Apt| {
        let arguments = apt.install_arguments(packages);
        exec::outcome(cmd!(shell, "apt-get -s -q {arguments...}"))
    };
    let refused = simulate(&release)?;
    let installable = refused.status.success();
    let why = match suits(&release) {
        Ok(()) if installable => return Ok(release),
        Ok(()) => "they conflict with what is installed here".to_owned(),
        Err(why) => why,
    };
    let names = packages.join(", ");
    let distribution = Distribution::of_machine()?;
    let suite = format!("{}-backports", distribution.codename);
    let backports = Apt::open(workspace, Some(&suite))?;
    if backports.refresh().is_ok() && simulate(&backports)?.status.success() {
        progress::note(format!(
            "{names}: taking {suite}, not {}: {why}",
            release.what()
        ));
        return Ok(backports);
    }
    if installable {
        return Ok(release);
    }
    bail!(
        "{names} can't be installed from {} or {suite} without removing something{}",
        release.what(),
        exec::said(&refused)
    )
}

/// What runs a command as root, to be put after `env` and before a setting: nothing for root itself,
/// sudo where it needs no password or there is a person to ask; none where there is no way.
fn privilege(shell: &Shell) -> Option<Vec<&'static str>> {
    if rustix::process::geteuid().is_root() {
        return Some(vec![]);
    }
    let silent =
        exec::outcome(cmd!(shell, "sudo -n true")).is_ok_and(|output| output.status.success());
    if silent {
        return Some(vec!["sudo", "-n", "env"]);
    }
    let sudo = exec::outcome(cmd!(shell, "sudo --version")).is_ok();
    let person = std::io::stdin().is_terminal() && std::io::stderr().is_terminal();
    (sudo && person).then(|| vec!["sudo", "env"])
}
