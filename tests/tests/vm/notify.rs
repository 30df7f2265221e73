//! Services that say how they are doing, as sd_notify(3) has it: what comes after them waits, silence is
//! noticed, and nobody speaks in another's name.

use std::time::Instant;

use anyhow::{Context as _, Result, ensure};
use noonmark_contract::record::{Event, Record, ServiceState, ServiceStatus, Status};
use noonmark_tests::{build_spec, spec_with_trouble};

use crate::platform::{Guest, Images, Platform};

/// One that is ready, then hangs; one that waits for it; one whose child speaks for it; one that never
/// says anything, and one of user 0 that does so in its name; one that says that it stops.
const SPEC: &str = r#"
[status]
interval_ms = 200
[[service]]
name = "hangs"
exec = ["/trouble", "notify"]
ready = "notify"
watchdog_s = 2
restart = "on-failure"
[[service]]
name = "second"
exec = ["/trouble", "first-read"]
after = "hangs"
[[service]]
name = "child"
exec = ["/trouble", "notify-by-child"]
ready = "notify"
[[service]]
name = "victim"
exec = ["/trouble", "wait"]
ready = "notify"
ready_timeout_s = 4
[[service]]
name = "forges"
exec = ["/trouble", "notify-forge"]
user = 0
[[service]]
name = "stops"
exec = ["/trouble", "notify-stopping"]
ready = "notify"
stop_timeout_s = 1
"#;

/// The most that PID 1 may take of one processor while one of them floods, in millionths: from one status
/// record to the next it is more where services end and start just then.
const CPU_PPM_MAX: u64 = 100_000;

pub fn tells_how_services_are(platform: &Platform, _: &Images) -> Result<()> {
    let image = build_spec("notify", &(spec_with_trouble()? + SPEC))?;
    let mut config = platform.config(&image)?;
    config.test_port = false;
    let mut guest = platform.boot_config(config)?;
    guest.check(|guest| {
        let (told, status, shares) = all_over(guest)?;
        in_order(
            &told,
            &[
                ("hangs", "started as process"),
                ("hangs", "is ready"),
                ("second", "started as process"),
            ],
        )?;
        in_order(
            &told,
            &[
                ("hangs", "is ready"),
                ("hangs", "no WATCHDOG=1 within 2 s: killed"),
                ("hangs", "started again"),
                ("hangs", "is ready"),
            ],
        )?;
        in_order(&told, &[("stops", "did not end after STOPPING=1")])?;
        let [hangs, _, child, victim, forges, stops] = status.services.as_slice() else {
            anyhow::bail!("{:?}", status.services);
        };
        ensure!(
            hangs.last_exit.as_deref() == Some("killed by signal 9 (no WATCHDOG=1 within 2 s)"),
            "{hangs:?}"
        );
        ensure!(child.state == ServiceState::Running, "{child:?}");
        ensure!(victim.notifications_refused > 0, "{victim:?}");
        ensure!(
            victim.last_exit.as_deref() == Some("killed by signal 9 (no READY=1 within 4 s)"),
            "{victim:?}"
        );
        ensure!(forges.state == ServiceState::Running, "{forges:?}");
        ensure!(stops.state == ServiceState::Failed, "{stops:?}");
        eprintln!("PID 1 while one forges: {shares:?} ppm");
        ensure!(shares.len() >= 5, "no flood to speak of: {shares:?}");
        let share = shares.iter().sum::<u64>() / shares.len() as u64;
        ensure!(
            share <= CPU_PPM_MAX,
            "PID 1 takes too much: {share}, {shares:?}"
        );
        Ok(())
    })
}

/// Services by name, and what was told of them.
type Told = Vec<(String, String)>;

/// What was told of services up to the first record in which each has come to where it should, that record,
/// and what PID 1 took from record to record while one of them forged.
fn all_over(guest: &mut Guest) -> Result<(Told, Status, Vec<u64>)> {
    let deadline = Instant::now() + guest.machine.timeouts().answer() * 2;
    let mut told = Vec::new();
    let mut texts: Vec<String> = Vec::new();
    let mut shares = None;
    loop {
        let next = guest
            .machine
            .record(&guest.records, "services that notify", deadline)
            .with_context(|| format!("{told:#?}"))?;
        match next {
            Record::Event(record) => match record.event {
                Event::Failure { what } => anyhow::bail!("PID 1 failed: {what}"),
                Event::Service { name, what } => told.push((name, what)),
                _ => {}
            },
            Record::Status(status) => {
                let of = |name: &str| status.services.iter().find(|s| s.name == name);
                if of("forges").is_some_and(|s| s.state == ServiceState::Running) {
                    // The first one still has the boot in it.
                    match &mut shares {
                        None => shares = Some(Vec::new()),
                        Some(shares) => shares.push(status.init.cpu_ppm),
                    }
                }
                let hangs = of("hangs").context("no service")?;
                texts.extend(hangs.status_text.clone());
                let failed = |name| of(name).is_some_and(|s| s.state == ServiceState::Failed);
                let again = |s: &ServiceStatus| s.restarts > 0 && s.state == ServiceState::Running;
                let said = |text: &str| texts.iter().any(|said| said == text);
                let both = said("warming up") && said("up \\u{1b}[31m");
                if both && again(hangs) && failed("victim") && failed("stops") {
                    return Ok((told, status, shares.unwrap_or_default()));
                }
            }
        }
    }
}

/// Whether these were told in this order, among others.
fn in_order(told: &[(String, String)], expected: &[(&str, &str)]) -> Result<()> {
    let mut rest = told.iter();
    for (name, what) in expected {
        let found = rest.any(|(of, said)| of == name && said.contains(what));
        ensure!(found, "{name}: {what}: not told in its place: {told:#?}");
    }
    Ok(())
}
