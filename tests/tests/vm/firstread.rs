//! A service that starts on `clock-synced` never reads a wrong clock, however wrong the machine's
//! battery-backed one is.
//!
//! Twice in an ordinary run; `NOONMARK_BOOTS` says how often else.

use std::env;
use std::sync::mpsc::{self, Receiver};
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, anyhow, ensure};
use noonmark_contract::units::{Nanos, Utc};
use noonmark_qemu::{Machine, PowerOff, Rtc};
use noonmark_tests::{build_spec, spec_with_trouble};

use crate::platform::{Images, Platform, now};

/// How often it is booted where nothing else is asked for.
const BOOTS: u32 = 2;

/// 2001-09-09 and 2045-09-08, in turn: a clock that is years behind, and one that is years ahead.
const RTCS: [Utc; 2] = [
    Utc(1_000_000_000_000_000_000),
    Utc(2_388_000_000_000_000_000),
];

/// It starts on `clock-synced`, as services do that say nothing else.
const SERVICE: &str = "[[service]]\nname = \"reader\"\nexec = [\"/trouble\", \"first-read\"]\n";

/// What the service writes before its first reading.
const MARK: &str = "first-read ";

/// How far ahead of the host the guest may be: the bound that a clock has with any reference but
/// the RTC.
const AHEAD_MAX: Nanos = Nanos::from_millis(100);

pub fn never_wrong(platform: &Platform, _: &Images) -> Result<()> {
    let boots = match env::var("NOONMARK_BOOTS") {
        Ok(text) => text.parse().context("NOONMARK_BOOTS: expected a number")?,
        Err(_) => BOOTS,
    };
    let image = build_spec("firstread", &(spec_with_trouble()? + SERVICE))?;
    let mut latest = Nanos::ZERO;
    for (number, rtc) in (1..=boots).zip(RTCS.into_iter().cycle()) {
        let mut config = platform.config(&image)?;
        config.test_port = false;
        config.rtc = Rtc::From(rtc);
        let start = now()?;
        let mut machine = Machine::start(&platform.qemu, config)?;
        let read = first_read(&mut machine).with_context(|| format!("boot {number}"))?;
        let end = now()?;
        // It was made within the boot: a clock that is off by more than that, or ahead, was wrong.
        ensure!(
            start <= read && read <= end + AHEAD_MAX,
            "boot {number}: the service read {} ns, and the host's clock went from {} to {} ns",
            read.0,
            start.0,
            end.0
        );
        latest = latest.max(end - read);
        let how = machine.power_off()?;
        ensure!(how == PowerOff::Guest, "{how:?}");
    }
    eprintln!("{boots} boots, 0 wrong first reads; known to the host within {latest} of the read");
    Ok(())
}

/// What the service read on the clock, as its output on the console says.
fn first_read(machine: &mut Machine) -> Result<Utc> {
    let (send, console) = mpsc::channel();
    machine.follow_console(Box::new(move |bytes| {
        // Once the reading is known, nobody listens any more.
        let _ = send.send(bytes.to_vec());
    }));
    let deadline = machine.started() + machine.timeouts().boot() + machine.timeouts().sync();
    reading(&console, deadline)
        .with_context(|| format!("no reading\n{}", machine.console_tail(30).join("\n")))
}

fn reading(console: &Receiver<Vec<u8>>, deadline: Instant) -> Result<Utc> {
    let mut text = String::new();
    loop {
        let left = deadline.saturating_duration_since(Instant::now());
        ensure!(left > Duration::ZERO, "the service did not start in time");
        let bytes = console.recv_timeout(left)?;
        text += &String::from_utf8_lossy(&bytes);
        let line = text
            .split_once(MARK)
            .and_then(|(_, rest)| rest.split_once('\n'));
        if let Some((number, _)) = line {
            let number = number.trim();
            let nanos = number
                .parse()
                .map_err(|error| anyhow!("{number:?}: {error}"))?;
            return Ok(Utc(nanos));
        }
    }
}
