//! Two services with the rights that each service has, one of user 0 and one of its own, try every way to
//! PID 1 and the clock that break-ins are known to take: each is refused, and the clock stays right
//! throughout.

use std::fs;
use std::io::Read as _;
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, ensure};
use noonmark_contract::record::{Event, Record, ServiceState, State, Status};
use noonmark_contract::units::Nanos;
use noonmark_qemu::Device;
use noonmark_tests::{build_image, build_spec, spec_with_trouble, test_folder};

use crate::platform::{Guest, Images, Platform, ensure_right};
use crate::recovery;

/// How many attempts `noonmark-trouble intrude` makes: system calls, device files, sealed files and
/// signals; its source lists them.
const ATTEMPTS: u32 = 62;

/// Who tries, each with what its service says of its user. Its name is also that of the port where it
/// tells what came of each attempt.
const INTRUDERS: [(&str, &str); 2] = [("intruder-root", "user = 0\n"), ("intruder-user", "")];

/// How long the port may be silent.
const LISTENING: Duration = Duration::from_secs(60);

/// The bound that a clock has with any reference but the RTC.
const BOUND: Nanos = Nanos::from_millis(100);

/// The most that PID 1 may take of one processor, in millionths.
const CPU_PPM_MAX: u64 = 100_000;

/// The `/run` that they fill, so that it leaves the machine its memory.
/// And no console, as on machines without a serial port.
const SPEC: &str = "[kernel]\ncmdline = \"8250.nr_uarts=0\"\n[status]\nfile = true\nclockbound = true\n\
                    [tmpfs]\nrun_kib = 8192\n";

pub fn is_refused_each_way(platform: &Platform, _: &Images) -> Result<()> {
    let services: String = INTRUDERS
        .iter()
        .map(|(name, user)| {
            format!(
                "[[service]]\nname = \"{name}\"\nexec = [\"/trouble\", \"intrude\"]\n\
                 output = \"port:{name}\"\ncpu_weight = 10\n{user}"
            )
        })
        .collect();
    let quiet = "[[service]]\nname = \"quiet\"\nexec = [\"/trouble\", \"wait\"]\n";
    let image = build_spec(
        "intruder",
        &(spec_with_trouble()? + SPEC + &services + quiet),
    )?;
    let sockets = tempfile::tempdir()?;
    let mut config = platform.config(&image)?;
    config.test_port = false;
    for (name, _) in INTRUDERS {
        config.devices.push(Device::Port {
            name: name.to_owned(),
            socket: sockets.path().join(name),
        });
    }
    let mut guest = platform.boot_config(config)?;
    guest.check(|guest| {
        let status = once_over(guest)?;
        for (service, (name, _)) in status.services.iter().zip(INTRUDERS) {
            let said = last_words(&sockets.path().join(name))?;
            ensure!(
                service.last_exit.as_deref() == Some("exited 0"),
                "{service:?}:\n{said}"
            );
            let over = format!("intruder over, {ATTEMPTS} attempts refused");
            ensure!(said.contains(&over), "{name}: expected `{over}`:\n{said}");
        }
        let quiet = status.services.last().context("no service")?;
        ensure!(quiet.state == ServiceState::Running, "{quiet:?}");
        Ok(())
    })
}

/// Scrambles are recovered from while a service of user 0 does all of it over and over.
pub fn recovers_beside_an_intruder(platform: &Platform, _: &Images) -> Result<()> {
    let intruder = "[[service]]\nname = \"intruder\"\nexec = [\"/trouble\", \"besiege\"]\nuser = 0\n\
                    output = \"port:intruder\"\n";
    let folder = test_folder("besieged")?;
    let spec = folder.join("guest.toml");
    fs::write(&spec, spec_with_trouble()? + SPEC + intruder)?;
    let image = folder.join("image");
    build_image(&image, &["--test", "--spec", &spec.to_string_lossy()])?;
    let sockets = tempfile::tempdir()?;
    let mut config = platform.config(&image)?;
    config.devices.push(Device::Port {
        name: "intruder".to_owned(),
        socket: sockets.path().join("port"),
    });
    let mut guest = platform.boot_config(config)?;
    guest.check(|guest| {
        let report = recovery::scramble(guest, platform)?;
        println!("{}", noonmark_lab::text::report(&report));
        let status = next_status(guest)?;
        let service = status.services.iter().find(|it| it.name == "intruder");
        ensure!(
            service.is_some_and(|it| it.state == ServiceState::Running && it.restarts == 0),
            "{service:?}"
        );
        Ok(())
    })
}

/// The first record after both have ended; in each before it the clock is right as well.
fn once_over(guest: &mut Guest) -> Result<Status> {
    let deadline = Instant::now() + guest.machine.timeouts().answer() * 2;
    let mut records = 0;
    loop {
        let next = guest
            .machine
            .record(&guest.records, "the intruders' end", deadline)?;
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
                let intruders = status.services.get(..INTRUDERS.len());
                let all = |are: fn(ServiceState) -> bool| {
                    intruders.is_some_and(|them| them.iter().all(|it| are(it.state)))
                };
                if all(|state| state == ServiceState::Running) {
                    let init = status.init;
                    // The first one still has the boot in it.
                    ensure!(
                        records == 0 || init.cpu_ppm <= CPU_PPM_MAX,
                        "PID 1 takes too much: {init:?}"
                    );
                    records += 1;
                }
                if all(|state| matches!(state, ServiceState::Stopped | ServiceState::Failed)) {
                    ensure!(records > 1, "no record while they ran");
                    return Ok(status);
                }
            }
        }
    }
}

fn next_status(guest: &mut Guest) -> Result<Status> {
    let deadline = Instant::now() + guest.machine.timeouts().answer();
    loop {
        let next = guest
            .machine
            .record(&guest.records, "a status record", deadline)?;
        if let Record::Status(status) = next {
            return Ok(status);
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
