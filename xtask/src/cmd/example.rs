//! `example`: an appliance from its program to its answer: compiled, built into an image, booted,
//! asked over the network, and its answer held against this host's clock.

use std::fs;
use std::io::{Read as _, Write as _};
use std::net::{Ipv4Addr, TcpListener, TcpStream};
use std::path::PathBuf;
use std::process::ExitCode;
use std::thread;
use std::time::{Duration, Instant, SystemTime};

use anyhow::{Context as _, Result, bail, ensure};
use clap::Args;
use noonmark_builder::image::{BuildRequest, Variant};
use noonmark_builder::prerequisites::{self, Prerequisite};
use noonmark_builder::programs;
use noonmark_builder::progress;
use noonmark_builder::workspace::Workspace;
use noonmark_contract::units::{Nanos, Utc};
use noonmark_image::artifact::DISK;
use noonmark_qemu::{Config, Device, Forward, Machine};
use serde::Deserialize;

use crate::guest;
use crate::options::MachineOptions;

/// Where the appliance is in the checkout.
const FOLDER: &str = "image/examples/clock-server";

/// Where its program listens in the guest, as its guest.toml says.
const GUEST_PORT: u16 = 80;

/// How long one request may take, and how soon the next is made.
const REQUEST: Duration = Duration::from_secs(3);
const PAUSE: Duration = Duration::from_millis(100);

/// So many requests are made for the verdict.
const REQUESTS: u32 = 10;

/// The longest answer that is read.
const ANSWER_MAX: u64 = 64 * 1024;

/// Builds and boots the example appliance, a static HTTP server that tells its time and by how much
/// that can be wrong, and checks its answer against this host's clock.
#[derive(Debug, Args)]
#[command(after_help = "Example: cargo xtask example --port 8080, then: curl localhost:8080")]
pub struct ExampleCommand {
    #[command(flatten)]
    machine: MachineOptions,
    /// The TCP port of this host's loopback that leads to the server; 0 takes a free one.
    #[arg(long, default_value_t = 8080)]
    port: u16,
    /// Power the guest off after the check instead of leaving it to be looked at.
    #[arg(long)]
    check: bool,
}

/// What the server answers.
#[derive(Debug, Deserialize)]
struct Answer {
    time_ns: Utc,
    bound_ns: Nanos,
    state: String,
    source: Option<String>,
}

/// An answer, and the host's clock before the request and after the answer.
struct Asked {
    body: String,
    before: Utc,
    after: Utc,
}

impl ExampleCommand {
    pub fn run(self, workspace: &Workspace) -> Result<ExitCode> {
        let port = free_port(self.port)?;
        let spec_file = stage(workspace)?;
        let (host, image) = self.machine.prepare_image(
            workspace,
            &BuildRequest {
                folder: workspace.state().join("example/image"),
                ..BuildRequest::new(workspace, &spec_file, Variant::Base)
            },
        )?;
        if let Some((_, bytes)) = image.artifacts.iter().find(|(name, _)| name == DISK) {
            let mib = bytes.div_ceil(1 << 20);
            progress::note(format!("its disk image has {mib} MiB"));
        }
        let size = self.machine.size(&image.spec.vm);
        let step = progress::step("the appliance boots");
        let forward = Forward {
            host: port,
            guest: GUEST_PORT,
        };
        let mut machine = Machine::start(
            &host.qemu,
            Config {
                devices: vec![Device::Net {
                    forwards: vec![forward],
                }],
                ..host.machine("example", &size, guest::direct_boot(&image)?)
            },
        )?;
        let records = machine.subscribe();
        let status = guest::wait_synced(&mut machine, &records)?;
        ask_until(port, Instant::now() + machine.timeouts().sync())?;
        let asked = quickest(port)?;
        step.vanish();
        println!("$ curl localhost:{port}\n{}", asked.body.trim_end());
        println!("{}", asked.verdict()?);
        if !self.check {
            guest::watch(&mut machine, &records, &status)?;
        }
        guest::power_off(machine)?;
        Ok(ExitCode::SUCCESS)
    }
}

/// Puts the appliance's description and its compiled program beside each other; gives the former.
fn stage(workspace: &Workspace) -> Result<PathBuf> {
    prerequisites::ensure(workspace, &[Prerequisite::GuestTarget])?;
    let program = programs::build_example(workspace)?;
    let folder = workspace.state().join("example");
    let put = |name: &str, bytes: &[u8]| -> Result<PathBuf> {
        let path = folder.join(name);
        noonmark_image::output::write_file(&path, bytes)?;
        Ok(path)
    };
    fs::create_dir_all(&folder).with_context(|| format!("cannot make {}", folder.display()))?;
    put("clock-server", &program)?;
    let source = workspace.root().join(FOLDER).join("guest.toml");
    let spec = fs::read(&source).with_context(|| format!("cannot read {}", source.display()))?;
    put("guest.toml", &spec)
}

/// The port, or a free one for 0. A port that is taken is told now, not after a minute's building.
fn free_port(port: u16) -> Result<u16> {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, port)).with_context(|| {
        format!("port {port} of this host can't be used; choose another: --port")
    })?;
    Ok(listener.local_addr()?.port())
}

/// Asks until the server answers: the guest's clock is right before its network is up.
fn ask_until(port: u16, deadline: Instant) -> Result<()> {
    loop {
        match ask(port) {
            Ok(_) => return Ok(()),
            Err(error) if Instant::now() >= deadline => {
                return Err(error.context(format!(
                    "the appliance does not answer on port {port}; `cargo xtask run --console \
                     --spec {FOLDER}/guest.toml` shows why, once its program lies beside that file"
                )));
            }
            Err(_) => thread::sleep(PAUSE),
        }
    }
}

/// The quickest of some answers: the less time it took, the more it says of the clock.
fn quickest(port: u16) -> Result<Asked> {
    let mut best = ask(port)?;
    for _ in 1..REQUESTS {
        let next = ask(port)?;
        if next.round_trip() < best.round_trip() {
            best = next;
        }
    }
    Ok(best)
}

fn ask(port: u16) -> Result<Asked> {
    let address = (Ipv4Addr::LOCALHOST, port).into();
    let mut server = TcpStream::connect_timeout(&address, REQUEST)?;
    server.set_read_timeout(Some(REQUEST))?;
    server.set_write_timeout(Some(REQUEST))?;
    let before = now()?;
    server.write_all(b"GET / HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n")?;
    let mut answer = String::new();
    server.take(ANSWER_MAX).read_to_string(&mut answer)?;
    let after = now()?;
    let Some((head, body)) = answer.split_once("\r\n\r\n") else {
        bail!("no HTTP answer: {answer:?}");
    };
    ensure!(head.starts_with("HTTP/1.1 200 "), "{answer:?}");
    Ok(Asked {
        body: body.into(),
        before,
        after,
    })
}

impl Asked {
    fn round_trip(&self) -> Nanos {
        self.after - self.before
    }

    /// The guest made its answer between `before` and `after`, so its time lies between them, give
    /// or take its bound.
    ///
    /// # Errors
    ///
    /// It does not, or the answer is none.
    fn verdict(&self) -> Result<String> {
        let answer: Answer = serde_json::from_str(&self.body)
            .with_context(|| format!("an answer that is not expected: {}", self.body))?;
        let Answer {
            time_ns,
            bound_ns,
            state,
            source,
        } = answer;
        let round_trip = self.round_trip();
        let early = self.before - time_ns;
        let late = time_ns - self.after;
        let outside = early.max(late);
        ensure!(
            outside <= bound_ns,
            "the appliance's time is {outside} outside the {round_trip} in which it was asked, \
             and its bound is {bound_ns}"
        );
        ensure!(state == "synced", "the appliance's clock is {state}");
        let source = source.unwrap_or_else(|| "no source".into());
        Ok(format!(
            "right: its time is within the {round_trip} that the request took here, and its bound \
             of {bound_ns} (by {source})"
        ))
    }
}

fn now() -> Result<Utc> {
    let now = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH)?;
    Ok(Utc(i64::try_from(now.as_nanos())?))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn asked(time_ns: i64, bound_ns: i64) -> Asked {
        Asked {
            body: format!(
                "{{\"time_ns\":{time_ns},\"bound_ns\":{bound_ns},\"state\":\"synced\",\
                 \"source\":\"kvm\"}}\n"
            ),
            before: Utc(1_000_000),
            after: Utc(2_000_000),
        }
    }

    #[test]
    fn a_time_within_the_request_or_its_bound_is_right() {
        assert!(asked(1_500_000, 0).verdict().is_ok());
        assert!(asked(2_000_100, 100).verdict().is_ok());
        assert!(asked(999_900, 100).verdict().is_ok());
    }

    #[test]
    fn a_time_further_off_than_its_bound_is_wrong() {
        for time_ns in [2_000_101, 999_899] {
            let error = asked(time_ns, 100).verdict().unwrap_err().to_string();
            assert!(error.contains("101 ns outside the 1.000 ms"), "{error}");
        }
    }
}
