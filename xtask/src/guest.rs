//! What the commands that boot a guest do alike: what it boots and the hashes of that, waiting until
//! its clock is right, watching it, powering it off.

use std::fs;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result};
use jiff::Timestamp;
use noonmark_builder::image::Image;
use noonmark_builder::progress;
use noonmark_contract::record::{Record, Status};
use noonmark_image::artifact::{CMDLINE, INITRD, KERNEL, MANIFEST};
use noonmark_image::hash::Sha256Hex;
use noonmark_lab::report::evidence::Evidence;
use noonmark_qemu::{Boot, Machine, MachineError, PowerOff, Subscription, signals};

use crate::status::text;

/// How long Ctrl-C may wait to be noticed.
const POLL: Duration = Duration::from_millis(250);

/// So many scripts may start each other until one starts QEMU.
const SCRIPTS_MAX: usize = 4;

/// Boots an image's kernel and initrd without firmware.
///
/// # Errors
///
/// The image has no readable command line.
pub fn direct_boot(image: &Image) -> Result<Boot> {
    let file = |name: &str| image.folder.join(name);
    Ok(Boot::direct(file(KERNEL), file(INITRD), &file(CMDLINE))?)
}

/// Hashes the image that is booted directly, for a report; which QEMU runs is known once it does.
///
/// # Errors
///
/// A file of it can't be read.
pub fn evidence(image: &Image) -> Result<Evidence> {
    let artifact = |name: &str| hash(&image.folder.join(name)).map(Some);
    Ok(Evidence {
        measured_at: Some(Timestamp::now()),
        manifest_sha256: artifact(MANIFEST)?,
        kernel_sha256: artifact(KERNEL)?,
        initrd_sha256: artifact(INITRD)?,
        qemu_sha256: None,
        firmware_sha256: None,
    })
}

/// The program that this process runs, or that a script runs which this process is: the first one down
/// from it whose file is no script's interpreter. None where the process is gone.
pub fn program_of(pid: u32) -> Option<PathBuf> {
    let mut pid = pid;
    for _ in 0..SCRIPTS_MAX {
        let program = fs::read_link(format!("/proc/{pid}/exe")).ok()?;
        let children = fs::read_to_string(format!("/proc/{pid}/task/{pid}/children"));
        let child = children
            .ok()
            .and_then(|text| text.split_whitespace().next()?.parse().ok());
        let name = program.file_name().unwrap_or_default().to_string_lossy();
        match child {
            Some(child) if !name.starts_with("qemu") => pid = child,
            _ => return Some(program),
        }
    }
    None
}

/// The hash of a program's file; none where nobody knows which one it was.
pub fn program_hash(program: Option<&Path>) -> Option<String> {
    hash(program?).ok()
}

/// Waits until the guest's clock is right, and shows its events until then.
///
/// # Errors
///
/// The guest or its QEMU died, or the guest's clock is not right in time.
pub fn wait_synced(machine: &mut Machine, records: &Subscription) -> Result<Status> {
    let status = machine.wait_synced(records, |record| {
        if let Record::Event(event) = record {
            progress::note(event.event.to_string());
        }
    })?;
    Ok(status)
}

/// Shows how the clock is, until Ctrl-C.
///
/// # Errors
///
/// The guest or its QEMU died.
pub fn watch(machine: &mut Machine, records: &Subscription, first: &Status) -> Result<()> {
    let stop = Arc::new(AtomicBool::new(false));
    let asked = Arc::clone(&stop);
    let _soft = signals::on_first_signal(move || asked.store(true, Ordering::Relaxed));
    progress::note("Ctrl-C powers the guest off");
    let live = progress::live(text::line(first, None));
    let mut last = None;
    while !stop.load(Ordering::Relaxed) {
        match machine.record(records, "the next status record", Instant::now() + POLL) {
            Ok(Record::Status(status)) => live.update(text::line(&status, last.as_deref())),
            Ok(Record::Event(event)) => {
                let event = event.event.to_string();
                progress::note(&event);
                last = Some(event);
            }
            // No record came in time, which is no error: the image sets how often one is sent.
            Err(MachineError::Deadline { .. }) => {}
            Err(error) => return Err(error.into()),
        }
    }
    live.vanish();
    Ok(())
}

/// Ends the guest in its own way, and says how that went.
///
/// # Errors
///
/// QEMU can't be ended.
pub fn power_off(machine: Machine) -> Result<()> {
    let step = progress::step("the guest powers off");
    let how = machine.power_off()?;
    step.done(match how {
        PowerOff::Guest => "the guest powered off",
        PowerOff::Button => {
            "the guest did not answer the request, and powered off by its power button"
        }
        PowerOff::Quit => "the guest did not power off in time; QEMU was told to quit",
        PowerOff::Killed => "neither the guest nor QEMU ended in time; QEMU was killed",
    });
    Ok(())
}

fn hash(file: &Path) -> Result<String> {
    let bytes = fs::read(file).with_context(|| format!("cannot read {}", file.display()))?;
    Ok(Sha256Hex::of(&bytes).to_string())
}

#[cfg(test)]
mod tests {
    use std::process::{Command, Stdio};

    use super::*;

    /// What runs after a script has been started, with the program that it starts in the foreground.
    fn program_of_script(script: &str, wanted: &str) -> Option<PathBuf> {
        let mut shell = Command::new("sh");
        let mut shell = shell
            .args(["-c", script])
            .stdin(Stdio::piped())
            .spawn()
            .ok()?;
        let deadline = Instant::now() + Duration::from_secs(30);
        let found = loop {
            let found = program_of(shell.id());
            let is_wanted = found.as_ref().is_some_and(|path| path.ends_with(wanted));
            if is_wanted || Instant::now() > deadline {
                break found;
            }
            std::thread::sleep(Duration::from_millis(10));
        };
        // Its program reads until then.
        drop(shell.stdin.take());
        shell.wait().ok()?;
        found
    }

    #[test]
    fn the_program_that_a_script_starts_is_found_however_it_does() {
        for script in ["exec cat", "cat; true"] {
            let found = program_of_script(script, "cat");
            assert!(found.is_some_and(|path| path.ends_with("cat")), "{script}");
        }
        assert_eq!(program_of(u32::MAX), None);
        assert_eq!(program_hash(None), None);
    }
}
