//! What a guest's clock and image are like from the start.

use anyhow::{Context as _, Result, ensure};
use noonmark_contract::record::{Cause, State};
use noonmark_contract::sample::Source;
use noonmark_contract::units::{Nanos, Utc};
use noonmark_image::artifact::{DISK, INITRD};
use noonmark_qemu::{Boot, Rtc, firmware};
use noonmark_tests::test_folder;

use crate::platform::{Images, Platform, now};

/// 2001-09-09, long before any image was built.
const LONG_AGO: Utc = Utc(1_000_000_000_000_000_000);

/// What an initrd may take, as the README says.
const INITRD_MAX: u64 = 1 << 20;

/// More than any initrd unpacks to.
const UNPACKED_MAX: u64 = 64 << 20;

/// What PID 1 may keep resident, as the README says.
const RESIDENT_MAX_KIB: u64 = 3 << 10;

pub fn from_a_wrong_rtc(platform: &Platform, images: &Images) -> Result<()> {
    let mut config = platform.config(&images.test)?;
    config.rtc = Rtc::From(LONG_AGO);
    let mut guest = platform.boot_config(config)?;
    guest.check(|guest| {
        let status = &guest.status;
        ensure!(
            status.source == Some(platform.follows.clone()),
            "follows {:?}",
            status.source
        );
        // The record took some time to get here; that it is not years is what counts.
        ensure_near_now(status.time_ns, Nanos::from_secs(30))?;
        ensure!(
            status.disruptions.contains_key(&Cause::Boot),
            "{:?}",
            status.disruptions
        );
        Ok(())
    })
}

/// The disk as it is shipped: firmware, boot program, kernel, PID 1.
pub fn by_uefi(platform: &Platform, images: &Images) -> Result<()> {
    let cache = test_folder("firmware")?;
    let firmware = firmware::find(None, &cache)?;
    let mut config = platform.config(&images.base)?;
    config.boot = Boot::Uefi {
        disk: images.base.join(DISK),
        code: firmware.code,
        vars: firmware.vars,
    };
    config.test_port = false;
    let mut guest = platform.boot_config(config)?;
    guest.check(|guest| {
        let source = guest.status.source.as_ref();
        ensure!(source == Some(&platform.follows), "follows {source:?}");
        ensure_near_now(guest.status.time_ns, Nanos::from_secs(30))
    })
}

pub fn falls_back_to_the_rtc(platform: &Platform, images: &Images) -> Result<()> {
    let mut config = platform.config(&images.test)?;
    config.time_channel = false;
    let mut guest = platform.boot_config(config)?;
    guest.check(|guest| {
        let status = &guest.status;
        ensure!(status.state == State::Synced, "{:?}", status.state);
        ensure!(
            status.source == Some(Source::Rtc),
            "follows {:?}",
            status.source
        );
        ensure!(
            status.bound_ns >= Nanos::from_millis(1),
            "the RTC is not right to {}",
            status.bound_ns
        );
        ensure_near_now(status.time_ns, Nanos::from_secs(30) + status.bound_ns)
    })
}

pub fn a_base_image_has_no_test_port(platform: &Platform, images: &Images) -> Result<()> {
    let program = b"noonmark-fault";
    let read = |folder: &std::path::Path| -> Result<Vec<u8>> {
        let path = folder.join(INITRD);
        let packed = std::fs::read(&path).with_context(|| path.display().to_string())?;
        Ok(noonmark_image::compress::decompress(&packed, UNPACKED_MAX)?)
    };
    let has = |bytes: &[u8]| bytes.windows(program.len()).any(|window| window == program);
    ensure!(
        has(&read(&images.test)?),
        "the test image lacks its fault program"
    );
    ensure!(
        !has(&read(&images.base)?),
        "the base image has the fault program"
    );
    let mut config = platform.config(&images.base)?;
    config.test_port = false;
    platform.boot_config(config).map(drop)
}

pub fn keeps_within_its_budget(platform: &Platform, images: &Images) -> Result<()> {
    let path = images.base.join(INITRD);
    let initrd = std::fs::metadata(&path)
        .with_context(|| path.display().to_string())?
        .len();
    ensure!(
        initrd <= INITRD_MAX,
        "{} has {initrd} bytes",
        path.display()
    );
    let mut guest = platform.boot(&images.base)?;
    guest.check(|guest| {
        let resident = guest.status.init.rss_kib;
        ensure!(
            resident > 0 && resident <= RESIDENT_MAX_KIB,
            "PID 1 has {resident} KiB resident"
        );
        Ok(())
    })
}

fn ensure_near_now(time: Utc, tolerance: Nanos) -> Result<()> {
    let now = now()?;
    ensure!(
        (now - time).abs() <= tolerance,
        "the guest is {} away from the host",
        now - time
    );
    Ok(())
}
