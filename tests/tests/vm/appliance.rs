//! The example appliances, by the command that a user would call.

use anyhow::{Context as _, Result, ensure};
use noonmark_tests::xtask;

use crate::platform::{Images, Platform};

/// Its image is within its budget, or it would not be built; its answer is held against the host's
/// clock by the command itself.
pub fn answers_with_the_right_time(platform: &Platform, _: &Images) -> Result<()> {
    check(platform, "clock-server")
}

/// So is that of a daemon of the distribution's packages, which also gives back what it was given.
pub fn of_packages_answers_with_the_right_time(platform: &Platform, _: &Images) -> Result<()> {
    check(platform, "redis")
}

fn check(platform: &Platform, appliance: &str) -> Result<()> {
    let mut command = xtask();
    command.args(["example", appliance, "--check", "--port", "0", "--accel"]);
    command.arg(platform.decision.accelerator.to_string());
    command.arg("--qemu").arg(platform.qemu.path());
    let output = command
        .output()
        .with_context(|| format!("cannot run {command:?}"))?;
    let said = String::from_utf8_lossy(&output.stdout);
    ensure!(
        output.status.success() && said.contains("right: its time is within"),
        "{command:?}:\n{said}{}",
        String::from_utf8_lossy(&output.stderr)
    );
    Ok(())
}
