//! Snapshots that wait for the clock: a guest that is frozen when its state is saved reads no wrong time
//! after it was restored; and one that nobody thaws goes on by itself.

use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, bail, ensure};
use noonmark_contract::record::{Command, Event, Record, ServiceStatus, ThawedBy};
use noonmark_contract::units::{Nanos, Utc};
use noonmark_qemu::{Device, Kick};
use noonmark_tests::{build_spec, spec_with_trouble};

use crate::freeze::{Jump, heard};
use crate::platform::{Guest, Images, Platform};

/// How old a state is when it is restored.
const AWAY: Duration = Duration::from_secs(2);

/// How often it is saved and restored, unless this variable says otherwise.
const CYCLES: usize = 3;
const CYCLES_VARIABLE: &str = "NOONMARK_SNAPSHOTS";

/// How long nobody thaws the guest.
const LIMIT: Nanos = Nanos::from_secs(20);

/// The services that read the clock without end, each with its port, and what is done to them for a
/// snapshot.
const READERS: [(&str, &str); 2] = [("held", "freeze"), ("kept", "keep")];

pub fn reads_no_wrong_time_after_a_restore(platform: &Platform, _: &Images) -> Result<()> {
    let limit_s = LIMIT.0 / 1_000_000_000;
    let mut spec = spec_with_trouble()? + &format!("[agent]\nfreeze_limit_s = {limit_s}\n");
    for (name, what) in READERS {
        spec += &format!(
            "[[service]]\nname = \"{name}\"\nexec = [\"/trouble\", \"count-reads\"]\n\
             on_freeze = \"{what}\"\noutput = \"port:{name}\"\n"
        );
    }
    let image = build_spec("snapshot", &spec)?;
    let sockets = tempfile::tempdir()?;
    let mut config = platform.config(&image)?;
    config.test_port = false;
    for (name, _) in READERS {
        config.devices.push(Device::Port {
            name: name.to_owned(),
            socket: sockets.path().join(name),
        });
    }
    config.devices.push(Device::VmGenId {
        guid: "auto".to_owned(),
    });
    let cycles: usize = match std::env::var(CYCLES_VARIABLE) {
        Ok(text) => text.parse().context(CYCLES_VARIABLE)?,
        Err(_) => CYCLES,
    };
    let mut guest = platform.boot_config(config)?;
    guest.check(|guest| {
        started(guest)?;
        let (mut kept_reads, mut longest) = (Vec::new(), Nanos::ZERO);
        for cycle in 0..cycles {
            let context = || format!("restore {} of {cycles}", cycle + 1);
            freeze(guest).with_context(context)?;
            let resumed = guest.machine.restore_after(AWAY, Kick::Withheld, || {})?;
            let thawed = thawed(guest, ThawedBy::Resume).with_context(context)?;
            let [held, kept] = READERS.map(|(name, _)| heard(&sockets.path().join(name)));
            let (held, kept): (Jump, Jump) = (held?, kept?);
            ensure!(
                held.since(resumed) == 0,
                "{}: {} wrong reads, the last {} after the resume",
                context(),
                held.since(resumed),
                held.last_wrong - resumed
            );
            kept_reads.push(kept.since(resumed));
            longest = longest.max(thawed - resumed);
        }
        kept_reads.sort_unstable();
        let [least, median, most] = [0, kept_reads.len() / 2, kept_reads.len() - 1]
            .map(|place| kept_reads.get(place).copied().unwrap_or(0));
        eprintln!(
            "{}: {cycles} restores, 0 wrong reads by the service that stands still, {least} to {most} by the \
             one that doesn't (median {median}); thawed at most {longest} after the resume",
            platform.name
        );
        ensure!(most > 0, "who reads on read nothing wrong either");
        goes_on_without_a_host(guest)
    })
}

/// A host that is gone after it has frozen the guest leaves it standing for so long and no longer.
fn goes_on_without_a_host(guest: &mut Guest) -> Result<()> {
    let frozen = freeze(guest)?;
    let thawed = thawed(guest, ThawedBy::Limit)?;
    let lasted = thawed - frozen;
    ensure!(
        lasted >= LIMIT - Nanos::from_secs(1),
        "thawed after {lasted}"
    );
    // And by a word of the host's.
    freeze(guest)?;
    guest.machine.send(&Command::Thaw(true))?;
    self::thawed(guest, ThawedBy::Host).map(drop)
}

/// Has the guest stand still, and waits until it says so; when that was.
fn freeze(guest: &mut Guest) -> Result<Utc> {
    guest.machine.send(&Command::Freeze(true))?;
    wait_for(guest, "the freeze", |event| match event {
        Event::Frozen { file_systems: 0 } => Ok(true),
        Event::Frozen { .. } => bail!("{event}, without any"),
        _ => Ok(false),
    })
}

fn thawed(guest: &mut Guest, expected: ThawedBy) -> Result<Utc> {
    wait_for(guest, "the thaw", |event| match event {
        Event::Thawed { by } if *by == expected => Ok(true),
        Event::Thawed { .. } => bail!("{event}"),
        _ => Ok(false),
    })
}

/// Waits for an event; when the guest told it, by its own clock.
fn wait_for(
    guest: &mut Guest,
    what: &'static str,
    is_it: impl Fn(&Event) -> Result<bool>,
) -> Result<Utc> {
    let wait = Duration::from_nanos(LIMIT.0.unsigned_abs());
    let deadline = Instant::now() + guest.machine.timeouts().recovery() + wait;
    loop {
        let next = guest.machine.record(&guest.records, what, deadline)?;
        let Record::Event(record) = next else {
            continue;
        };
        if let Event::Failure { what } = &record.event {
            bail!("{what}");
        }
        if is_it(&record.event)? {
            return Ok(record.time_ns);
        }
    }
}

/// Waits until every service runs.
fn started(guest: &mut Guest) -> Result<()> {
    let deadline = Instant::now() + guest.machine.timeouts().answer();
    loop {
        let next = guest
            .machine
            .record(&guest.records, "every service's start", deadline)?;
        if let Record::Status(status) = next {
            let runs = |service: &&ServiceStatus| service.pid.is_some();
            if status.services.iter().filter(runs).count() == READERS.len() {
                return Ok(());
            }
        }
    }
}
