//! What a guest says of its distance from UTC is what its host says of its own, and more: in the status
//! record, and to programs that ask the guest's kernel.

use std::io::{BufRead as _, BufReader};
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, bail, ensure};
use noonmark_contract::host_clock::{HostClock, Leap, NOT_KEPT};
use noonmark_contract::record::{Record, Status, UtcUnknown};
use noonmark_contract::units::Nanos;
use noonmark_qemu::Device;
use noonmark_tests::{build_spec, spec_with_trouble};

use crate::platform::{Guest, Images, Platform};

/// A port to which a service writes what its kernel says.
const KERNEL_PORT: &str = "kernel";

/// A host that a daemon keeps within 40 ms of UTC.
const KEPT: HostClock = HostClock {
    maxerror_ns: Nanos::from_millis(40),
    esterror_ns: Nanos::from_micros(3),
    unsync: false,
    tai_offset_s: 37,
    leap: Leap::None,
};

/// How often the guest asks its host at the latest, with time to spare.
const ASKED: Duration = Duration::from_secs(60);

/// What the guest's kernel says.
#[derive(Debug)]
struct Kernel {
    maxerror: Nanos,
    unsync: bool,
    tai_offset_s: i64,
    /// CLOCK_TAI minus CLOCK_REALTIME.
    tai_ahead_s: i64,
}

pub fn says_how_far_it_may_be_from_utc(platform: &Platform, _: &Images) -> Result<()> {
    // Without the RTC among the sources, so that the kernel may be told that its clock is synchronized.
    let spec = spec_with_trouble()?
        + &format!(
            "[clock]\nsources = [\"host\"]\n[[service]]\nname = \"kernel\"\n\
             exec = [\"/trouble\", \"clock-error\"]\noutput = \"port:{KERNEL_PORT}\"\n"
        );
    let image = build_spec("utc", &spec)?;
    let sockets = tempfile::tempdir()?;
    let socket = sockets.path().join(KERNEL_PORT);
    let mut config = platform.config(&image)?;
    config.test_port = false;
    config.devices.push(Device::Port {
        name: KERNEL_PORT.to_owned(),
        socket: socket.clone(),
    });
    let mut guest = platform.boot_config(config)?;
    guest.check(|guest| {
        guest.machine.set_host_clock(KEPT);
        let status = status_until(guest, |status| {
            status.host_clock.is_some_and(|host| host == KEPT)
        })?;
        let bound = status.utc_bound_ns.context("a bound to UTC")?;
        let most = status.bound_ns + KEPT.maxerror_after(Nanos::from_secs(60));
        ensure!(
            bound >= status.bound_ns + KEPT.maxerror_ns && bound <= most,
            "{bound} to UTC, {} to the host",
            status.bound_ns
        );
        let kernel = kernel_until(&socket, |kernel| !kernel.unsync && kernel.tai_ahead_s == 37)?;
        ensure!(
            kernel.maxerror >= KEPT.maxerror_ns && kernel.maxerror < NOT_KEPT,
            "{kernel:?}"
        );
        ensure!(kernel.tai_offset_s == 37, "{kernel:?}");
        guest.machine.set_host_clock(HostClock {
            maxerror_ns: NOT_KEPT,
            unsync: true,
            ..KEPT
        });
        let status = status_until(guest, |status| status.utc_bound_ns.is_none())?;
        ensure!(
            status.utc_unknown == Some(UtcUnknown::HostUnsynced),
            "{:?}",
            status.utc_unknown
        );
        let kernel = kernel_until(&socket, |kernel| kernel.unsync)?;
        ensure!(kernel.maxerror >= NOT_KEPT, "{kernel:?}");
        Ok(())
    })
}

fn status_until(guest: &mut Guest, wanted: impl Fn(&Status) -> bool) -> Result<Status> {
    let deadline = Instant::now() + guest.machine.timeouts().answer() + ASKED;
    loop {
        let awaited = "a word on the host's clock";
        let next = guest.machine.record(&guest.records, awaited, deadline)?;
        if let Record::Status(status) = next
            && wanted(&status)
        {
            return Ok(status);
        }
    }
}

/// What the service that asks the guest's kernel says, once it is as wanted.
fn kernel_until(socket: &Path, wanted: impl Fn(&Kernel) -> bool) -> Result<Kernel> {
    let stream = UnixStream::connect(socket)?;
    stream.set_read_timeout(Some(ASKED))?;
    let deadline = Instant::now() + ASKED;
    let mut last = None;
    for line in BufReader::new(stream).lines() {
        let line = line?;
        let Some((_, numbers)) = line.split_once("clock-error ") else {
            continue;
        };
        let numbers: Result<Vec<i64>, _> = numbers.split(' ').map(str::parse).collect();
        let numbers = numbers.with_context(|| line.clone())?;
        let [maxerror_us, unsync, tai_offset_s, tai_ahead_s] = numbers.as_slice() else {
            bail!("not four numbers: {line}");
        };
        let kernel = Kernel {
            maxerror: Nanos::from_micros(*maxerror_us),
            unsync: *unsync == 1,
            tai_offset_s: *tai_offset_s,
            tai_ahead_s: *tai_ahead_s,
        };
        if wanted(&kernel) {
            return Ok(kernel);
        }
        ensure!(
            Instant::now() < deadline,
            "the kernel still says {kernel:?}"
        );
        last = Some(kernel);
    }
    bail!("the port was closed; the kernel said last {last:?}")
}
