//! What the commands that boot a guest do alike: what it boots and the hashes of that, waiting until
//! its clock is right, watching it, powering it off.

use std::fs;
use std::path::Path;
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
use noonmark_qemu::{Boot, Machine, MachineError, PowerOff, Qemu, Subscription, signals};

use crate::status::text;

/// How long Ctrl-C may wait to be noticed.
const POLL: Duration = Duration::from_millis(250);

/// Boots an image's kernel and initrd without firmware.
///
/// # Errors
///
/// The image has no readable command line.
pub fn direct_boot(image: &Image) -> Result<Boot> {
    let file = |name: &str| image.folder.join(name);
    Ok(Boot::direct(file(KERNEL), file(INITRD), &file(CMDLINE))?)
}

/// Hashes the QEMU that runs and the image that it boots directly, for a report.
///
/// # Errors
///
/// A file of them can't be read.
pub fn evidence(qemu: &Qemu, image: &Image) -> Result<Evidence> {
    let artifact = |name: &str| hash(&image.folder.join(name)).map(Some);
    Ok(Evidence {
        measured_at: Some(Timestamp::now()),
        manifest_sha256: artifact(MANIFEST)?,
        kernel_sha256: artifact(KERNEL)?,
        initrd_sha256: artifact(INITRD)?,
        qemu_sha256: hash(qemu.path()).map(Some)?,
        firmware_sha256: None,
    })
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
