//! A host that is absent or rude: PID 1 neither waits for it nor listens to it.

use std::collections::BTreeMap;
use std::fs;
use std::io::{Read as _, Write as _};
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::Path;
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, bail, ensure};
use noonmark_contract::record::{Cause, Record, State, Status};
use noonmark_contract::sample::Source;
use noonmark_contract::testport::{Answer, Fault, Observation, Outcome, Request};
use noonmark_contract::units::Nanos;
use noonmark_qemu::Timeouts;
use noonmark_qemu::argv::{Endpoints, argv};
use noonmark_qemu::console::Console;
use noonmark_qemu::lines::LineReader;
use noonmark_qemu::process::Process;
use noonmark_tests::{build_image, test_folder};
use tempfile::TempDir;

use crate::platform::{Images, Platform};

/// How long the garbage lasts, in seconds, where [`GARBAGE_SECONDS`] does not say it.
const GARBAGE: u64 = 5;

/// The variable by which a person asks for more of it.
const GARBAGE_SECONDS: &str = "NOONMARK_GARBAGE_SECONDS";

/// A QEMU whose ports are in this test's own hands.
struct Bare {
    process: Process,
    console: Console,
    timeouts: Timeouts,
    status: UnixStream,
    time: UnixStream,
    test: UnixStream,
    _monitor: UnixStream,
    _folder: TempDir,
}

/// A host that never answers leaves the RTC, which is enough at once here.
const SPEC: &str = "[clock]\nrtc_grace_ms = 0\n";

/// The longest slew to the RTC: half a second from the clock as the kernel sets it, at 10 %.
const SLEW: Duration = Duration::from_secs(5);

pub fn survives_garbage_on_every_port(platform: &Platform, _: &Images) -> Result<()> {
    let seconds = match std::env::var(GARBAGE_SECONDS) {
        Ok(text) => text
            .parse()
            .with_context(|| format!("{GARBAGE_SECONDS}={text}: expected a number of seconds"))?,
        Err(_) => GARBAGE,
    };
    let mut bare = Bare::start(platform)?;
    let outcome = bare
        .garbage_then_fault(Duration::from_secs(seconds))
        .and_then(|status| unaffected(&status, platform));
    bare.told(outcome)
}

pub fn needs_no_listener(platform: &Platform, _: &Images) -> Result<()> {
    let mut bare = Bare::start(platform)?;
    // Nobody ever reads the status port: it fills up, and the clock is kept all the same.
    let outcome = bare
        .wait_ready()
        .and_then(|()| bare.scramble_without_listener());
    bare.told(outcome)
}

impl Bare {
    fn start(platform: &Platform) -> Result<Self> {
        let folder = test_folder("hostile")?;
        let spec = folder.join("guest.toml");
        fs::write(&spec, SPEC).with_context(|| spec.display().to_string())?;
        let image = folder.join("image");
        build_image(&image, &["--test", "--spec", &spec.to_string_lossy()])?;
        let config = platform.config(&image)?;
        let folder = tempfile::tempdir()?;
        let endpoints = Endpoints::in_folder(folder.path());
        let listen = |path: &Path| UnixListener::bind(path).context("a port's socket");
        let listeners = [
            listen(&endpoints.qmp)?,
            listen(&endpoints.status)?,
            listen(&endpoints.time)?,
            listen(&endpoints.test)?,
        ];
        let (process, output) = Process::spawn(platform.qemu.path(), &argv(&config, &endpoints))?;
        let timeouts = Timeouts::new(config.accelerator);
        let deadline = Instant::now() + timeouts.start();
        let mut streams = Vec::new();
        for listener in &listeners {
            streams.push(accept(listener, deadline)?);
        }
        let [monitor, status, time, test] = <[UnixStream; 4]>::try_from(streams)
            .map_err(|_| anyhow::anyhow!("QEMU connected to other than four sockets"))?;
        Ok(Self {
            process,
            console: Console::capture(output.stdout, None)?,
            timeouts,
            status,
            time,
            test,
            _monitor: monitor,
            _folder: folder,
        })
    }

    /// Adds the guest's console to a failure.
    fn told(&self, outcome: Result<()>) -> Result<()> {
        outcome.map_err(|error| {
            let console = self.console.tail(30).join("\n");
            anyhow::anyhow!(
                "{error:#}\nQEMU: {:?}\nthe guest's console:\n{console}",
                self.process.exit_status()
            )
        })
    }

    /// The guest's status after garbage and a fault.
    fn garbage_then_fault(&mut self, garbage: Duration) -> Result<Status> {
        self.wait_ready()?;
        for port in [&self.status, &self.time, &self.test] {
            port.set_write_timeout(Some(Duration::from_millis(20)))?;
        }
        let mut random = Garbage(0x6e6f_6f6e);
        let until = Instant::now() + garbage;
        while Instant::now() < until {
            let bytes = random.some();
            for mut port in [&self.status, &self.time, &self.test] {
                // A port that is full takes no more, which is as it should be.
                let _ = port.write_all(&bytes);
            }
            // The fault program gives up on a host that never takes its answers; PID 1 does not.
            drain(&self.test)?;
        }
        // An end of line, after which PID 1 and the fault program understand again.
        for mut port in [&self.status, &self.test] {
            port.set_write_timeout(Some(self.timeouts.answer()))?;
            port.write_all(b"\n")
                .context("the port takes nothing any more")?;
        }
        let observation = self.scramble()?;
        ensure!(
            observation.recovered_ns.is_some(),
            "not recovered: {observation:?}"
        );
        self.ask_status()
    }

    fn scramble_without_listener(&mut self) -> Result<()> {
        for _ in 0..20 {
            let observation = self.scramble()?;
            ensure!(
                observation.recovered_ns.is_some(),
                "not recovered: {observation:?}"
            );
        }
        Ok(())
    }

    /// The fault program's greeting.
    fn wait_ready(&mut self) -> Result<()> {
        let answer = self.answer(Instant::now() + self.timeouts.boot())?;
        ensure!(answer.outcome == Outcome::Ready, "{answer:?}");
        // It starts before the clock is right; the first correction is no recovery.
        thread::sleep(self.timeouts.sync() / 8 + SLEW);
        Ok(())
    }

    /// Sets the guest's clock back by an hour, and gives what the observer saw.
    fn scramble(&mut self) -> Result<Observation> {
        let request = Request {
            v: 1,
            id: 7,
            fault: Fault::Shift(Nanos::from_secs(-3600)),
            tolerance_ns: Nanos::from_millis(1),
            error_limit_ns: Nanos::from_millis(5),
            settle_ns: Nanos::from_millis(50),
            deadline_ms: u64::try_from(self.timeouts.recovery().as_millis())?,
        };
        let mut line = serde_json::to_vec(&request)?;
        line.push(b'\n');
        self.test.write_all(&line)?;
        let deadline = Instant::now() + self.timeouts.recovery() + self.timeouts.answer();
        loop {
            match self.answer(deadline)?.outcome {
                Outcome::Observed(observation) => return Ok(observation),
                // What it says of the garbage before.
                Outcome::Ready
                | Outcome::Steady(_)
                | Outcome::Time(_)
                | Outcome::Kept(_)
                | Outcome::Tracked(_)
                | Outcome::Done
                | Outcome::Error(_) => {}
            }
        }
    }

    /// Asks for a status record as any host may, and passes over those from before the fault, which
    /// lie in the port because nobody has read it.
    fn ask_status(&mut self) -> Result<Status> {
        self.status.write_all(b"{\"get\":\"status\"}\n")?;
        let deadline = Instant::now() + self.timeouts.answer();
        let mut lines = LineReader::new(self.status.try_clone()?);
        loop {
            let line = lines
                .next(deadline)
                .context("no status record tells of the fault")?;
            if let Ok(Record::Status(status)) = serde_json::from_slice(&line)
                && status.disruptions.contains_key(&Cause::GuestStep)
            {
                return Ok(status);
            }
        }
    }

    fn answer(&mut self, deadline: Instant) -> Result<Answer> {
        let mut line = Vec::new();
        self.test
            .set_read_timeout(Some(Duration::from_millis(200)))?;
        loop {
            let mut byte = [0];
            match self.test.read(&mut byte) {
                Ok(0) => bail!("the test port closed"),
                // What garbage or a drained port left of a line is no answer.
                Ok(_) if byte[0] == b'\n' => match serde_json::from_slice(&line) {
                    Ok(answer) => return Ok(answer),
                    Err(_) => line.clear(),
                },
                Ok(_) => line.push(byte[0]),
                Err(error) if error.kind() == std::io::ErrorKind::WouldBlock => {
                    ensure!(Instant::now() < deadline, "no answer on the test port");
                }
                Err(error) => return Err(error).context("the test port"),
            }
        }
    }
}

/// Checks that the garbage was counted, and that nothing but the fault has moved the clock.
fn unaffected(status: &Status, platform: &Platform) -> Result<()> {
    ensure!(status.state == State::Synced, "{:?}", status.state);
    ensure!(status.rejected > 0, "no line was rejected");
    // A host that talks garbage on its time channel from the start on is no source.
    if platform.follows == Source::Kvm {
        ensure!(status.source == Some(Source::Kvm), "{:?}", status.source);
        let expected = BTreeMap::from([(Cause::Boot, 1), (Cause::GuestStep, 1)]);
        let found = &status.disruptions;
        ensure!(*found == expected, "disruptions: {found:?}");
    }
    Ok(())
}

fn accept(listener: &UnixListener, deadline: Instant) -> Result<UnixStream> {
    listener.set_nonblocking(true)?;
    loop {
        match listener.accept() {
            Ok((stream, _)) => {
                stream.set_nonblocking(false)?;
                return Ok(stream);
            }
            Err(error) if error.kind() == std::io::ErrorKind::WouldBlock => {
                ensure!(Instant::now() < deadline, "QEMU did not connect");
                thread::sleep(Duration::from_millis(5));
            }
            Err(error) => return Err(error).context("a port's socket"),
        }
    }
}

/// Throws away what a port has to say just now.
fn drain(mut port: &UnixStream) -> Result<()> {
    port.set_nonblocking(true)?;
    let mut bytes = [0; 4096];
    while port.read(&mut bytes).is_ok_and(|count| count > 0) {}
    port.set_nonblocking(false)?;
    Ok(())
}

/// A reproducible stream of rude things.
struct Garbage(u64);

impl Garbage {
    fn next(&mut self) -> u64 {
        // Knuth's 64-bit linear congruential generator.
        self.0 = self
            .0
            .wrapping_mul(6_364_136_223_846_793_005)
            .wrapping_add(1_442_695_040_888_963_407);
        self.0 >> 33
    }

    /// Bytes, half a record, a frame's magic with nothing behind it, or a line without end.
    fn some(&mut self) -> Vec<u8> {
        match self.next() % 5 {
            0 => (0..1024).map(|_| self.next().to_le_bytes()[0]).collect(),
            1 => b"{\"get\":{\"get\":{\"get\":\n{\"kick\":1e999}\n{}\n[[[[\n".to_vec(),
            2 => b"NMA1\0\0\0\x01NMA1NMA1NMA1NMA1NMA1NMA1NMA1NMA1NMA1".to_vec(),
            3 => vec![b'x'; 10_000],
            _ => b"\xff\xfe\0\0\n\r\n\x1b[2J\n".to_vec(),
        }
    }
}
