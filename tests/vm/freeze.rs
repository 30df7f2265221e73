//! What a service reads when its machine is restored from a state that is ten seconds old: one that
//! is frozen meanwhile, and one that is not.

use std::io::{BufRead as _, BufReader};
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, bail, ensure};
use noonmark_qemu::vm::config::Device;
use noonmark_qemu::vm::machine::Kick;
use noonmark_sync::record::{Event, Record};
use noonmark_sync::units::{Nanos, Utc};
use noonmark_tests::{build_image, guest_program, workspace_root};

use crate::platform::{Guest, Images, Platform};

/// How old the state is.
const AWAY: Duration = Duration::from_secs(10);

/// How long a port may be silent.
const LISTENING: Duration = Duration::from_secs(60);

/// The services, each with its port, and what is done to them when the clock was disturbed.
const READERS: [(&str, &str); 2] = [("frozen", "freeze"), ("kept", "keep")];

/// As `noonmark-trouble count-reads` counts.
const SLOT: Nanos = Nanos::from_micros(100);

/// How long after the detection a frozen service may still be on its processor: the kernel stops it
/// there when it next runs, and this machine's host may be busy.
const STOPPING: Nanos = Nanos::from_millis(50);

/// What a service said of the correction.
struct Jump {
    /// The first time that it read after it.
    realtime: Utc,
    /// How many reads it made in each slot before, the latest first.
    reads: Vec<u64>,
}

impl Jump {
    /// How many reads it made from this instant of the right time on, until the correction.
    fn since(&self, instant: Utc) -> u64 {
        let ago = (self.realtime - instant).0.max(0);
        let slots = usize::try_from(ago / SLOT.0).unwrap_or(usize::MAX);
        self.reads.iter().take(slots).sum()
    }
}

/// A frozen service reads a wrong time at most until the restoration is detected.
pub fn reads_no_wrong_time_once_detected(platform: &Platform, _: &Images) -> Result<()> {
    let folder = workspace_root().join("target/noonmark/tests/freeze");
    std::fs::create_dir_all(&folder)?;
    let spec = folder.join("guest.toml");
    std::fs::write(&spec, text()?).with_context(|| spec.display().to_string())?;
    let image = folder.join("image");
    build_image(&image, &["--spec", &spec.to_string_lossy()])?;
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
        let resumed = guest.machine.restore_after(AWAY, Kick::Withheld)?;
        let detected = detected(guest)?;
        let mut told = Vec::new();
        for (name, _) in READERS {
            let jump = heard(&sockets.path().join(name)).with_context(|| name.to_owned())?;
            let (wrong, late) = (jump.since(resumed), jump.since(detected + STOPPING));
            told.push(format!(
                "{name}: {wrong} reads from the resume to the correction, {} of them after the \
                 detection, which was {} after the resume",
                jump.since(detected),
                detected - resumed
            ));
            ensure!(
                name != "frozen" || late == 0,
                "{late} reads later than {STOPPING} after the detection; {told:?}"
            );
        }
        eprintln!("{}", told.join("\n"));
        Ok(())
    })
}

fn text() -> Result<String> {
    let program = guest_program("noonmark-trouble")?;
    let mut spec = format!(
        "[[file]]\npath = \"/trouble\"\nsource = {:?}\nmode = 0o755\n",
        program.display().to_string()
    );
    for (name, what) in READERS {
        spec += &format!(
            "[[service]]\nname = \"{name}\"\nexec = [\"/trouble\", \"count-reads\"]\n\
             on_disruption = \"{what}\"\noutput = \"port:{name}\"\n"
        );
    }
    Ok(spec)
}

/// When the guest noticed, by the host's clock, to which its own is right again when it tells.
fn detected(guest: &mut Guest) -> Result<Utc> {
    let deadline = Instant::now() + guest.machine.patience().recovery();
    loop {
        let next = guest
            .machine
            .record(&guest.feed, "the repair", deadline)
            .context("not repaired")?;
        if let Record::Event(record) = next
            && let Event::Recovered { took_ns, .. } = record.event
        {
            return Ok(record.time_ns - took_ns);
        }
    }
}

/// What a service wrote of the correction, from its port.
fn heard(socket: &Path) -> Result<Jump> {
    let stream = UnixStream::connect(socket)?;
    stream.set_read_timeout(Some(LISTENING))?;
    for line in BufReader::new(stream).lines() {
        let line = line?;
        let Some((_, jump)) = line.split_once("jumped ") else {
            continue;
        };
        let numbers: Result<Vec<i64>, _> = jump.split(' ').map(str::parse).collect();
        let numbers = numbers.with_context(|| line.clone())?;
        let [realtime, reads @ ..] = numbers.as_slice() else {
            bail!("too short: {line}");
        };
        let reads: Result<Vec<u64>, _> = reads.iter().map(|&count| count.try_into()).collect();
        return Ok(Jump {
            realtime: Utc(*realtime),
            reads: reads?,
        });
    }
    bail!("the port was closed")
}
