//! A service of user 0, with the rights that each service has, tries every way to PID 1 and the clock
//! that break-ins are known to take: each is refused, and the clock stays right throughout.

use std::io::Read as _;
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, ensure};
use noonmark_contract::record::{Event, Record, ServiceState, State, Status};
use noonmark_contract::units::Nanos;
use noonmark_qemu::Device;
use noonmark_tests::{build_spec, spec_with_trouble};

use crate::platform::{Guest, Images, Platform, ensure_right};

/// How many attempts `noonmark-trouble intrude` makes: system calls, device files, sealed files and
/// signals; its source lists them.
const ATTEMPTS: u32 = 60;

/// Where it tells what ended otherwise than it should.
const PORT: &str = "org.example.intruder";

/// How long the port may be silent.
const LISTENING: Duration = Duration::from_secs(60);

/// The bound that a clock has with any reference but the RTC.
const BOUND: Nanos = Nanos::from_millis(100);

/// The most that PID 1 may take of one processor, in millionths.
const CPU_PPM_MAX: u64 = 100_000;

/// The `/run` that it fills, so that it leaves the machine its memory.
/// And no console, as on machines without a serial port.
const SPEC: &str = "[kernel]\ncmdline = \"8250.nr_uarts=0\"\n[status]\nfile = true\n\
                    [tmpfs]\nrun_kib = 8192\n";

pub fn is_refused_each_way(platform: &Platform, _: &Images) -> Result<()> {
    let spec = spec_with_trouble()?
        + SPEC
        + &format!(
            "[[service]]\nname = \"intruder\"\nexec = [\"/trouble\", \"intrude\"]\n\
             output = \"port:{PORT}\"\nuser = 0\ncpu_weight = 10\n\
             [[service]]\nname = \"quiet\"\nexec = [\"/trouble\", \"wait\"]\n"
        );
    let image = build_spec("intruder", &spec)?;
    let sockets = tempfile::tempdir()?;
    let socket = sockets.path().join("port");
    let mut config = platform.config(&image)?;
    config.test_port = false;
    config.devices.push(Device::Port {
        name: PORT.to_owned(),
        socket: socket.clone(),
    });
    let mut guest = platform.boot_config(config)?;
    guest.check(|guest| {
        let status = once_over(guest)?;
        let said = last_words(&socket)?;
        let service = status.services.first().context("no service")?;
        ensure!(
            service.last_exit.as_deref() == Some("exited 0"),
            "{service:?}:\n{said}"
        );
        let quiet = status.services.get(1).context("no second service")?;
        ensure!(quiet.state == ServiceState::Running, "{quiet:?}");
        let over = format!("intruder over, {ATTEMPTS} attempts refused");
        ensure!(said.contains(&over), "expected `{over}`:\n{said}");
        Ok(())
    })
}

/// The first record after the intruder has ended; in each before it the clock is right as well.
fn once_over(guest: &mut Guest) -> Result<Status> {
    let deadline = Instant::now() + guest.machine.timeouts().answer() * 2;
    let mut records = 0;
    loop {
        let next = guest
            .machine
            .record(&guest.records, "the intruder's end", deadline)?;
        match next {
            Record::Event(record) => {
                if let Event::Failure { what } = record.event {
                    anyhow::bail!("PID 1 failed: {what}");
                }
            }
            Record::Status(status) => {
                ensure!(status.state == State::Synced, "{:?}", status.state);
                ensure!(status.bound_ns <= BOUND, "right to {}", status.bound_ns);
                ensure_right(&status)?;
                ensure!(status.recovery.count == 0, "{:?}", status.disruptions);
                let service = status.services.first();
                if service.is_some_and(|service| service.state == ServiceState::Running) {
                    let init = status.init;
                    // The first one still has the boot in it.
                    ensure!(
                        records == 0 || init.cpu_ppm <= CPU_PPM_MAX,
                        "PID 1 takes too much: {init:?}"
                    );
                    records += 1;
                }
                let ended = |state| matches!(state, ServiceState::Stopped | ServiceState::Failed);
                if service.is_some_and(|service| ended(service.state)) {
                    ensure!(records > 1, "no record while it ran");
                    return Ok(status);
                }
            }
        }
    }
}

fn last_words(socket: &Path) -> Result<String> {
    let mut stream = UnixStream::connect(socket)?;
    stream.set_read_timeout(Some(LISTENING))?;
    let (mut heard, mut piece) = (Vec::new(), [0; 4096]);
    while !String::from_utf8_lossy(&heard).contains("intruder over") {
        let count = stream
            .read(&mut piece)
            .with_context(|| String::from_utf8_lossy(&heard).into_owned())?;
        ensure!(count > 0, "the port was closed");
        heard.extend_from_slice(&piece[..count]);
    }
    Ok(String::from_utf8_lossy(&heard).into_owned())
}
