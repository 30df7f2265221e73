//! A service that asks for the time by ClockBound's unmodified client, some 100,000 times, while
//! another one sets the clock to and fro and the machine is paused. The true time is this host's, known
//! by when a question left and its answer came.
//!
//! What is read before PID 1 can have noticed is wrong like any read of the clock, and PID 1 can tell
//! nobody. With one processor there is no such read where the clock is set in the guest, or where the
//! host kicks the machine that it resumes: PID 1 comes before every service. With two, or after a
//! pause that nobody tells of, such reads come in one stretch right after the disturbance; once PID 1
//! has noticed, none follows.

use std::collections::BTreeMap;
use std::io::{BufRead as _, BufReader, Write as _};
use std::net::{Ipv4Addr, TcpListener, TcpStream};
use std::path::Path;
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, anyhow, bail, ensure};
use noonmark_contract::host_clock::{HostClock, Leap};
use noonmark_contract::units::{Nanos, Raw, Utc};
use noonmark_qemu::{Device, Forward, Kick};
use noonmark_tests::{build_spec, spec_with_trouble, workspace_root, xtask};

use crate::platform::{Guest, Images, Platform, now};

/// Readings of one batch, their distance in microseconds, and batches between two pauses.
const READINGS: usize = 2_500;
const PAUSE_US: u32 = 100;
const BATCHES: usize = 5;

/// Pauses on each machine, every other one with a kick, and how long they last.
const PAUSES: usize = 4;
const PAUSE: Duration = Duration::from_secs(2);

/// How long into a batch the machine is paused.
const INTO: Duration = Duration::from_millis(100);

/// The clock is set by half a second at least, and the pauses are longer: what is known of the true
/// time only to within more than this tells too little of them.
const TRUTH: Nanos = Nanos::from_millis(100);

/// What the host says of its clock.
const KEPT: HostClock = HostClock {
    maxerror_ns: Nanos::ZERO,
    esterror_ns: Nanos::ZERO,
    unsync: false,
    tai_offset_s: 0,
    leap: Leap::None,
};

/// Where the service listens.
const PORT: u16 = 8000;

/// One answer of the client.
#[derive(Clone, Debug)]
struct Reading {
    earliest: Utc,
    latest: Utc,
    status: String,
    /// The guest's CLOCK_MONOTONIC_RAW around it.
    before: Raw,
    after: Raw,
}

/// What is known of this host's clock at instants of the guest's CLOCK_MONOTONIC_RAW, which stands still
/// while the machine does, and else runs off by no more than [`Nanos::raw_skew`].
#[derive(Default)]
struct Truth {
    /// The host's clock was there or later,
    since: Vec<(Raw, Utc)>,
    /// and here there or earlier.
    until: Vec<(Raw, Utc)>,
}

/// A pause by the host's clock: the machine stopped between the first two, and ran on after the last.
struct Paused {
    asked: Utc,
    stopped: Utc,
    resumed: Utc,
}

/// What came of all readings of a machine.
#[derive(Default)]
struct Found {
    statuses: BTreeMap<String, usize>,
    /// Stretches of wrong readings that were not to be distrusted: first and last.
    stretches: Vec<(Raw, Raw)>,
    wrong: usize,
    bounds: Vec<Nanos>,
    uncertainties: Vec<Nanos>,
}

pub fn true_time_is_within_its_interval(platform: &Platform, _: &Images) -> Result<()> {
    let image = build_spec("clockbound", &spec()?)?;
    on_processors(platform, &image, 1)?;
    on_processors(platform, &image, 2)
}

fn spec() -> Result<String> {
    let mut command = xtask();
    command.args(["example", "time-bounds", "--build-only"]);
    let output = command
        .output()
        .with_context(|| format!("cannot run {command:?}"))?;
    let said = String::from_utf8_lossy(&output.stderr);
    ensure!(output.status.success(), "{command:?}:\n{said}");
    let program = workspace_root().join("target/noonmark/example/time-bounds/time-bounds");
    let program = program.display().to_string();
    Ok(spec_with_trouble()?
        + &format!(
            "[[file]]\npath = \"/time-bounds\"\nsource = {program:?}\nmode = 0o755\n\
             [status]\nclockbound = true\n[[network.interface]]\ndhcp4 = true\n\
             [[service]]\nname = \"time-bounds\"\nexec = [\"/time-bounds\", \"{PORT}\"]\n\
             [[service]]\nname = \"scramble\"\nexec = [\"/trouble\", \"scramble\"]\n\
             capabilities = [\"CAP_SYS_TIME\"]\n"
        ))
}

fn on_processors(platform: &Platform, image: &Path, vcpus: u32) -> Result<()> {
    let host = TcpListener::bind((Ipv4Addr::LOCALHOST, 0))?
        .local_addr()?
        .port();
    let mut config = platform.config(image)?;
    config.vcpus = vcpus;
    config.test_port = false;
    config.devices.push(Device::Net {
        on: Ipv4Addr::LOCALHOST,
        forwards: vec![Forward::tcp(host, PORT)],
    });
    let mut guest = platform.boot_config(config)?;
    guest.check(|guest| {
        // True time is this host's here, so that its own error is none.
        guest.machine.set_host_clock(KEPT);
        let mut client = Client::connect(guest, host)?;
        let mut truth = Truth::default();
        let (mut readings, mut unkicked) = (Vec::new(), 0);
        for number in 0..PAUSES {
            for _ in 0..BATCHES {
                client.read(1, &mut truth)?;
                readings.extend(client.read(READINGS, &mut truth)?);
            }
            client.read(1, &mut truth)?;
            let kick = if number % 2 == 0 {
                Kick::Withheld
            } else {
                Kick::Sent
            };
            unkicked += usize::from(kick == Kick::Withheld);
            readings.extend(client.read_over_pause(guest, kick, &mut truth)?);
        }
        client.read(1, &mut truth)?;
        let found = Found::new(&readings, &truth);
        eprintln!("{} on {vcpus} processors: {found}", platform.name);
        let most = if vcpus == 1 { unkicked } else { usize::MAX };
        found.judge(guest, most)
    })
}

/// A connection to the service.
struct Client(BufReader<TcpStream>);

impl Client {
    /// Connects, once the guest's network is up.
    fn connect(guest: &Guest, port: u16) -> Result<Self> {
        let timeouts = guest.machine.timeouts();
        let deadline = Instant::now() + timeouts.sync();
        loop {
            let asked = TcpStream::connect((Ipv4Addr::LOCALHOST, port))
                .map_err(Into::into)
                .and_then(|stream| {
                    stream.set_nodelay(true)?;
                    stream.set_read_timeout(Some(timeouts.answer()))?;
                    let mut client = Self(BufReader::new(stream));
                    client.read(1, &mut Truth::default())?;
                    Ok(client)
                });
            match asked {
                Ok(client) => return Ok(client),
                Err(error) if Instant::now() >= deadline => return Err(error),
                Err(_) => thread::sleep(Duration::from_millis(100)),
            }
        }
    }

    fn ask(&mut self, count: usize) -> Result<Utc> {
        let asked = now()?;
        writeln!(self.0.get_mut(), "{count} {PAUSE_US}")?;
        Ok(asked)
    }

    fn answer(&mut self, count: usize) -> Result<Vec<Reading>> {
        let mut line = String::new();
        let mut next = || {
            line.clear();
            ensure!(self.0.read_line(&mut line)? > 0, "the service hung up");
            line.parse().with_context(|| line.clone())
        };
        (0..count).map(|_| next()).collect()
    }

    /// Makes some readings, from which the truth is known better.
    fn read(&mut self, count: usize, truth: &mut Truth) -> Result<Vec<Reading>> {
        let asked = self.ask(count)?;
        let readings = self.answer(count)?;
        truth.learn(&readings, asked, now()?);
        Ok(readings)
    }

    /// Makes a batch of readings, in the middle of which the machine is paused.
    fn read_over_pause(
        &mut self,
        guest: &mut Guest,
        kick: Kick,
        truth: &mut Truth,
    ) -> Result<Vec<Reading>> {
        let sent = self.ask(READINGS)?;
        thread::sleep(INTO);
        let asked = now()?;
        guest.machine.pause()?;
        let stopped = now()?;
        thread::sleep(PAUSE);
        let resumed = now()?;
        guest.machine.resume(kick)?;
        let readings = self.answer(READINGS)?;
        truth.learn_pause(&Paused {
            asked,
            stopped,
            resumed,
        })?;
        truth.learn(&readings, sent, now()?);
        Ok(readings)
    }
}

impl std::str::FromStr for Reading {
    type Err = anyhow::Error;

    fn from_str(line: &str) -> Result<Self> {
        let words: Vec<&str> = line.split_whitespace().collect();
        let [earliest, latest, status, before, after] = words.as_slice() else {
            bail!("not five words");
        };
        let number = |text: &str| text.parse::<i64>();
        Ok(Self {
            earliest: Utc(number(earliest)?),
            latest: Utc(number(latest)?),
            status: (*status).to_owned(),
            before: Raw(number(before)?),
            after: Raw(number(after)?),
        })
    }
}

impl Truth {
    /// These readings were made between two instants of the host's clock.
    fn learn(&mut self, readings: &[Reading], asked: Utc, answered: Utc) {
        if let (Some(first), Some(last)) = (readings.first(), readings.last()) {
            self.since.push((first.before, asked));
            self.until.push((last.after, answered));
        }
    }

    /// RAW stood still at an instant that what was learnt just before it tells.
    fn learn_pause(&mut self, paused: &Paused) -> Result<()> {
        let (Some(since), Some(until)) = (self.since.last(), self.until.last()) else {
            return Err(anyhow!("a pause before any reading"));
        };
        let latest = paused.stopped - since.1;
        let earliest = paused.asked - until.1;
        let at_most = since.0 + latest + latest.raw_skew();
        let at_least = until.0 + earliest - earliest.raw_skew();
        self.until.push((at_least, paused.stopped));
        self.since.push((at_most, paused.resumed));
        Ok(())
    }

    /// Between which instants of the host's clock this reading was made.
    fn interval(&self, reading: &Reading) -> Option<(Utc, Utc)> {
        let since = self.since.iter().filter(|(raw, _)| *raw <= reading.before);
        let until = self.until.iter().filter(|(raw, _)| *raw >= reading.after);
        let after = since.map(|(raw, at)| {
            let passed = reading.before - *raw;
            *at + passed - passed.raw_skew()
        });
        let before = until.map(|(raw, at)| {
            let passed = *raw - reading.after;
            *at - (passed - passed.raw_skew())
        });
        Some((after.max()?, before.min()?))
    }
}

impl Found {
    fn new(readings: &[Reading], truth: &Truth) -> Self {
        let mut found = Self::default();
        let mut in_stretch = false;
        for reading in readings {
            *found.statuses.entry(reading.status.clone()).or_default() += 1;
            let Some((low, high)) = truth.interval(reading) else {
                continue;
            };
            let trusted = ["Synchronized", "FreeRunning"].contains(&reading.status.as_str());
            let wrong = trusted && (reading.latest < low || reading.earliest > high);
            if wrong && in_stretch {
                if let Some((_, last)) = found.stretches.last_mut() {
                    *last = reading.after;
                }
            } else if wrong {
                found.stretches.push((reading.before, reading.after));
            }
            in_stretch = wrong;
            found.wrong += usize::from(wrong);
            if trusted {
                let width = reading.latest - reading.earliest;
                found.bounds.push(Nanos(width.0 / 2));
            }
            found.uncertainties.push(Nanos((high - low).0 / 2));
        }
        found.bounds.sort_unstable();
        found.uncertainties.sort_unstable();
        found
    }

    fn longest(&self) -> Nanos {
        let lengths = self.stretches.iter().map(|(first, last)| *last - *first);
        lengths.max().unwrap_or(Nanos::ZERO)
    }

    fn judge(&self, guest: &Guest, stretches_max: usize) -> Result<()> {
        ensure!(
            middle(&self.uncertainties) <= TRUTH,
            "the true time is not known well enough: {self}"
        );
        for status in ["Synchronized", "Disrupted"] {
            ensure!(self.statuses.contains_key(status), "never {status}: {self}");
        }
        ensure!(
            self.stretches.len() <= stretches_max,
            "wrong readings to be trusted: {self}"
        );
        let limit = i64::try_from(guest.machine.timeouts().recovery().as_nanos())?;
        ensure!(self.longest() <= Nanos(limit), "{self}");
        Ok(())
    }
}

impl std::fmt::Display for Found {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(
            f,
            "{} readings ({:?}), {} wrong ones to be trusted in {} stretches, the longest of {}; \
             median bound {}, the true time known to within {}",
            self.uncertainties.len(),
            self.statuses,
            self.wrong,
            self.stretches.len(),
            self.longest(),
            middle(&self.bounds),
            middle(&self.uncertainties)
        )
    }
}

/// The median of what is sorted.
fn middle(sorted: &[Nanos]) -> Nanos {
    sorted.get(sorted.len() / 2).copied().unwrap_or(Nanos::MAX)
}
