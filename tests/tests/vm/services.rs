//! Services that give all the trouble that they can: PID 1 and the clock don't notice, each shows in
//! the status record, and the machine still ends in time.

use std::collections::BTreeSet;
use std::fmt::Write as _;
use std::io::Read as _;
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, ensure};
use noonmark_contract::record::{Event, Record, ServiceState, ServiceStatus, State, Status};
use noonmark_contract::units::Nanos;
use noonmark_qemu::{Device, PowerOff, Subscription};
use noonmark_tests::{build_spec, spec_with_trouble};

use crate::platform::{Guest, Images, Platform, ensure_right};

/// How many services end as soon as they are started.
const CRASHING: usize = 200;

/// How often each of them is seen to have been started again at least.
const RESTARTS: u64 = 2;

/// How many attempts `noonmark-trouble break-in` makes: setting the clock, changing its rate,
/// loading a module, reboot(2), a device file, a remount, a user namespace, and writing to nine sealed
/// files.
const BREAK_INS: u32 = 16;

/// More refused requests to end the machine than this are never told in the time that this takes.
const REFUSALS_TOLD: usize = 16;

/// What a write to a full file system gets, and `noonmark-trouble fill-tmp` exits with.
const ENOSPC: u32 = 28;

/// A port to which a service writes, and where nobody listens at first.
const LOG_PORT: &str = "org.example.log";

/// How long the port may be silent.
const LISTENING: Duration = Duration::from_secs(60);

/// The bound that a clock has with any reference but the RTC.
const BOUND: Nanos = Nanos::from_millis(100);

/// The most memory that PID 1 may have resident, with all these services to remember.
const RSS_KIB_MAX: u64 = 2048;

/// How long the trouble may take to come up, in times that an answer may take.
const TROUBLE_ANSWERS: u32 = 4;

pub fn troubled_by_none(platform: &Platform, _: &Images) -> Result<()> {
    let image = build_spec("services", &troubled_spec()?)?;
    let mut config = platform.config(&image)?;
    config.test_port = false;
    let sockets = tempfile::tempdir()?;
    let socket = sockets.path().join("log");
    config.devices.push(Device::Port {
        name: LOG_PORT.to_owned(),
        socket: socket.clone(),
    });
    let mut guest = platform.boot_config(config)?;
    guest.check(|guest| {
        let status = all_seen(guest)?;
        undisturbed(&status)?;
        hears_the_last_words(&socket)
    })?;
    let Guest {
        machine, records, ..
    } = guest;
    let how = machine.power_off()?;
    ensure!(how == PowerOff::Guest, "{how:?}");
    let told = service_events(&records);
    ensure!(
        told.iter()
            .any(|(name, what)| name == "ignore-term" && what.contains("within 1 s of SIGTERM")),
        "the service that ignores SIGTERM was not killed, or that was not told: {told:?}"
    );
    Ok(())
}

fn troubled_spec() -> Result<String> {
    let mut spec = spec_with_trouble()? + "[status]\nclockbound = true\n";
    let mut service = |name: &str, does: &str, keys: &str| {
        // Writing to a String can't fail.
        let _ = write!(
            spec,
            "[[service]]\nname = \"{name}\"\nexec = [\"/trouble\", \"{does}\"]\n{keys}\n"
        );
    };
    // What is refused by more than the filter of system calls.
    let unfiltered = "system_call_filter = \"none\"\n";
    let at_boot = format!("{unfiltered}user = 0\nstart = \"boot\"");
    service("break-in", "break-in", &at_boot);
    service("ignore-term", "ignore-term", "stop_timeout_s = 1");
    // The kernel hands PID 1 a signal from who is of its user.
    let flood = format!("{unfiltered}user = 0\ncpu_weight = 10");
    service("flood-signals", "flood-signals", &flood);
    service("multiply", "multiply", "tasks_max = 32\ncpu_weight = 10");
    let limited = "memory_max = \"24M\"\nrestart = \"on-failure\"";
    service("eat-memory", "eat-memory", limited);
    service("fill-tmp", "fill-tmp", "");
    service("talk", "talk", &format!("output = \"port:{LOG_PORT}\""));
    for number in 0..CRASHING {
        service(&format!("crash-{number}"), "crash", "restart = \"always\"");
    }
    Ok(spec)
}

/// The first status record in which every trouble shows; SIGTERM from a service has been refused
/// by then, too.
fn all_seen(guest: &mut Guest) -> Result<Status> {
    let deadline = Instant::now() + guest.machine.timeouts().answer() * TROUBLE_ANSWERS;
    let mut refusals = 0;
    let mut missing = BTreeSet::from(["any status record".to_owned()]);
    loop {
        let next = guest
            .machine
            .record(&guest.records, "trouble from every service", deadline)
            .with_context(|| format!("not seen: {missing:?}"))?;
        match next {
            Record::Event(record) => {
                if let Event::Failure { what } = record.event {
                    ensure!(what.contains("lacks CAP_SYS_BOOT"), "PID 1 failed: {what}");
                    refusals += 1;
                    ensure!(refusals <= REFUSALS_TOLD, "told without end: {what}");
                }
            }
            Record::Status(status) => {
                missing = not_seen(&status);
                if refusals == 0 {
                    missing.insert("a refused SIGTERM to PID 1".into());
                }
                if missing.is_empty() {
                    return Ok(status);
                }
            }
        }
    }
}

fn not_seen(status: &Status) -> BTreeSet<String> {
    let shows = |service: &ServiceStatus| {
        let ended = |how: &str| {
            service.state == ServiceState::Failed && service.last_exit.as_deref() == Some(how)
        };
        let last_exit = service.last_exit.as_deref().unwrap_or_default();
        match service.name.as_str() {
            "break-in" => ended(&format!("exited {BREAK_INS}")),
            "ignore-term" | "flood-signals" => service.state == ServiceState::Running,
            "multiply" => service.state == ServiceState::Running && service.tasks_refused > 0,
            "eat-memory" => service.oom_kills > 0 && last_exit.contains("memory was used up"),
            "talk" => service.state == ServiceState::Stopped && service.output_dropped_bytes > 0,
            "fill-tmp" => ended(&format!("exited {ENOSPC}")),
            _ => service.restarts >= RESTARTS && last_exit == "exited 1",
        }
    };
    status
        .services
        .iter()
        .filter(|service| !shows(service))
        .map(|service| format!("{service:?}"))
        .collect()
}

fn undisturbed(status: &Status) -> Result<()> {
    ensure!(
        status.services.len() == CRASHING + 7,
        "{} services",
        status.services.len()
    );
    ensure!(status.state == State::Synced, "{:?}", status.state);
    ensure!(
        status.bound_ns <= BOUND,
        "right to {} only",
        status.bound_ns
    );
    ensure_right(status)?;
    ensure!(
        status.recovery.count == 0,
        "the clock was disturbed: {:?}",
        status.disruptions
    );
    ensure!(status.init.rss_kib < RSS_KIB_MAX, "{:?}", status.init);
    Ok(())
}

/// A host that comes late gets the newest of what was said.
fn hears_the_last_words(socket: &Path) -> Result<()> {
    let mut stream = UnixStream::connect(socket)?;
    stream.set_read_timeout(Some(LISTENING))?;
    let mut heard = Vec::new();
    let mut piece = [0; 4096];
    while !heard.ends_with(b"talk over\n") {
        let count = stream.read(&mut piece).with_context(|| {
            let end = heard.len().saturating_sub(200);
            format!(
                "heard {} bytes, the last of them `{}`",
                heard.len(),
                String::from_utf8_lossy(&heard[end..])
            )
        })?;
        ensure!(count > 0, "the port was closed");
        heard.extend_from_slice(&piece[..count]);
    }
    Ok(())
}

/// What was told of services, of the records that nobody has taken yet.
fn service_events(records: &Subscription) -> Vec<(String, String)> {
    let mut told = Vec::new();
    let deadline = Instant::now() + Duration::from_secs(10);
    while let Ok(record) = records.next(deadline) {
        if let Record::Event(record) = record
            && let Event::Service { name, what } = record.event
        {
            told.push((name, what));
        }
    }
    told
}
