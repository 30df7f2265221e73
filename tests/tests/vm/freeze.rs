//! What services read when their machine is restored from a state that is ten seconds old: one that
//! is frozen meanwhile, one that is not, and one that is told afterwards.

use std::io::{BufRead as _, BufReader};
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, bail, ensure};
use noonmark_contract::record::{Event, Record, ServiceStatus};
use noonmark_contract::sample::Source;
use noonmark_contract::units::{Nanos, Utc};
use noonmark_qemu::{Device, Kick};
use noonmark_tests::{build_spec, spec_with_trouble};

use crate::platform::{Guest, Images, Platform};

/// How old the state is.
const AWAY: Duration = Duration::from_secs(10);

/// How long a port may be silent.
const LISTENING: Duration = Duration::from_secs(60);

/// The services that read, each with its port, and what is done to them while the clock is wrong.
const READERS: [(&str, &str); 2] = [("frozen", "freeze"), ("kept", "keep")];

/// The service that ends when it is told that the clock was put right.
const TOLD: &str = "told";

/// As `noonmark-trouble count-reads` counts.
const SLOT: Nanos = Nanos::from_millis(1);

/// By how many times a service that reads on makes more reads from the detection to the repair than
/// one that is frozen then. Where that one had no processor then, it says nothing; the frozen one's
/// last read must at least lie in the first three quarters of that time.
const FEW: u64 = 4;

/// What the guest told of the repair.
#[derive(Clone, Copy)]
struct Repair {
    /// When it told that, by its own clock, which is right by then.
    told: Utc,
    /// From the detection to the verification.
    took: Nanos,
}

/// What a service said of the correction.
pub struct Jump {
    /// The first time that it read after it.
    first_right: Utc,
    /// When it had last read a wrong one, by the right clock.
    pub last_wrong: Utc,
    /// How many it had read in each slot before, the latest first.
    reads: Vec<u64>,
}

impl Jump {
    /// How many wrong reads it made from this instant on; some before it may be among them, of up to
    /// two slots.
    pub fn since(&self, instant: Utc) -> u64 {
        if self.last_wrong < instant {
            return 0;
        }
        let slots = (self.first_right - instant).0 / SLOT.0 + 2;
        let slots = usize::try_from(slots).unwrap_or(0);
        self.reads.iter().take(slots).sum()
    }
}

/// A frozen service reads no wrong time once the restoration is noticed, where the repair takes any
/// longer than the freezing.
pub fn reads_no_wrong_time_once_noticed(platform: &Platform, _: &Images) -> Result<()> {
    let image = build_spec("freeze", &(spec_with_trouble()? + &services()))?;
    let sockets = tempfile::tempdir()?;
    let mut config = platform.config(&image)?;
    config.test_port = false;
    for (name, _) in READERS {
        config.devices.push(Device::Port {
            name: name.to_owned(),
            socket: sockets.path().join(name),
        });
    }
    let mut guest = platform.boot_config(config)?;
    guest.check(|guest| {
        started(guest)?;
        let resumed = guest.machine.restore_after(AWAY, Kick::Withheld, || {})?;
        let repair = repaired(guest)?;
        let mut jumps = Vec::new();
        for (name, on_disruption) in READERS {
            let jump = heard(&sockets.path().join(name)).with_context(|| name.to_owned())?;
            jumps.push((on_disruption, jump));
        }
        let found = Found::new(resumed, &repair, &jumps);
        eprintln!("{}: {}", platform.name, found.words);
        ensure!(
            jumps.iter().all(|(_, jump)| jump.last_wrong <= repair.told),
            "a wrong read after the repair: {}",
            found.words
        );
        let [(_, frozen), (_, kept)] = jumps.as_slice() else {
            bail!("{} readers", jumps.len());
        };
        let few = frozen.since(found.noticed) * FEW <= kept.since(found.noticed);
        let stepped = frozen.first_right.min(kept.first_right);
        let (last, repair) = (frozen.last_wrong - found.noticed, stepped - found.noticed);
        let early = last.0 * 4 <= repair.0 * 3;
        ensure!(
            platform.follows != Source::Host || few || early,
            "read on while frozen: {}",
            found.words
        );
        Ok(())
    })
}

/// What came of a restoration.
struct Found {
    /// When PID 1 noticed, at the latest.
    noticed: Utc,
    /// All figures.
    words: String,
}

impl Found {
    fn new(resumed: Utc, repair: &Repair, jumps: &[(&str, Jump)]) -> Self {
        // The events are told some time after the repair; but who reads a right time reads it after
        // the step, and so after the detection.
        let stepped = jumps.iter().map(|(_, jump)| jump.first_right).min();
        let told = repair.told - repair.took;
        let noticed = stepped.map_or(told, |stepped| stepped.min(told));
        let mut words = format!(
            "noticed at most {} after the resume, verified {} later",
            noticed - resumed,
            repair.took
        );
        for (on_disruption, jump) in jumps {
            words += &format!(
                "; {on_disruption}: {} wrong reads, {} of them after it was noticed; the last {} after \
                 the resume, the first right one {}",
                jump.since(resumed),
                jump.since(noticed),
                jump.last_wrong - resumed,
                jump.first_right - resumed
            );
        }
        Self { noticed, words }
    }
}

fn services() -> String {
    let mut spec = format!(
        "[[service]]\nname = \"{TOLD}\"\nexec = [\"/trouble\", \"wait\"]\n\
         on_disruption = \"signal:HUP\"\n"
    );
    for (name, what) in READERS {
        spec += &format!(
            "[[service]]\nname = \"{name}\"\nexec = [\"/trouble\", \"count-reads\"]\n\
             on_disruption = \"{what}\"\noutput = \"port:{name}\"\n"
        );
    }
    spec
}

/// Waits until every service runs.
fn started(guest: &mut Guest) -> Result<()> {
    let deadline = Instant::now() + guest.machine.timeouts().answer();
    let mut missing = READERS.len() + 1;
    while missing > 0 {
        let next = guest
            .machine
            .record(&guest.records, "every service's start", deadline)?;
        if let Record::Status(status) = next {
            let runs = |service: &&ServiceStatus| service.pid.is_some();
            missing = READERS.len() + 1 - status.services.iter().filter(runs).count();
        }
    }
    Ok(())
}

/// Waits for the repair, and for the end of the service that is told of it.
fn repaired(guest: &mut Guest) -> Result<Repair> {
    let deadline = Instant::now() + guest.machine.timeouts().recovery();
    let (mut repair, mut told) = (None, false);
    loop {
        let awaited = "the repair, and the service that is told of it";
        let next = guest.machine.record(&guest.records, awaited, deadline)?;
        let Record::Event(record) = next else {
            continue;
        };
        match record.event {
            Event::Recovered { took_ns, .. } => {
                repair = Some(Repair {
                    told: record.time_ns,
                    took: took_ns,
                });
            }
            Event::Service { name, what } if name == TOLD => {
                told = true;
                ensure!(what.contains("signal"), "{name}: {what}");
            }
            _ => {}
        }
        if let (Some(repair), true) = (repair, told) {
            return Ok(repair);
        }
    }
}

/// What a service wrote of the correction, from its port.
pub fn heard(socket: &Path) -> Result<Jump> {
    let stream = UnixStream::connect(socket)?;
    stream.set_read_timeout(Some(LISTENING))?;
    for line in BufReader::new(stream).lines() {
        let line = line.with_context(|| format!("nothing came within {LISTENING:?}"))?;
        let Some((_, jump)) = line.split_once("jumped ") else {
            continue;
        };
        let numbers: Result<Vec<i64>, _> = jump.split(' ').map(str::parse).collect();
        let numbers = numbers.with_context(|| line.clone())?;
        let [first_right, ago, reads @ ..] = numbers.as_slice() else {
            bail!("too short: {line}");
        };
        let reads: Result<Vec<u64>, _> = reads.iter().map(|&count| count.try_into()).collect();
        return Ok(Jump {
            first_right: Utc(*first_right),
            last_wrong: Utc(*first_right) - Nanos(*ago),
            reads: reads?,
        });
    }
    bail!("the port was closed")
}
