//! `example`: an appliance from its program to its answer: compiled, built into an image, booted,
//! asked over the network, and its answer held against this host's clock.

mod appliance;

use std::fs;
use std::io::{Read as _, Write as _};
use std::net::{Ipv4Addr, Shutdown, TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::thread;
use std::time::{Duration, Instant, SystemTime};

use anyhow::{Context as _, Result, ensure};
use clap::Args;
use noonmark_builder::image::{BuildRequest, Variant};
use noonmark_builder::prerequisites::{self, Prerequisite};
use noonmark_builder::programs;
use noonmark_builder::progress;
use noonmark_builder::store::Place;
use noonmark_builder::workspace::Workspace;
use noonmark_contract::units::{Nanos, Utc};
use noonmark_image::artifact::DISK;
use noonmark_qemu::{Config, Forward, Machine, kvm_host};

use crate::guest;
use crate::nested::{self, Errand, Stop};
use crate::options::{Host, MachineOptions};

use appliance::{Answer, Appliance};

/// How long one request may take, and how soon the next is made.
const REQUEST: Duration = Duration::from_secs(3);
const PAUSE: Duration = Duration::from_millis(100);

/// So many requests are made for the verdict.
const REQUESTS: u32 = 10;

/// The longest answer that is read.
const ANSWER_MAX: u64 = 64 * 1024;

/// Builds and boots an example appliance, a server that tells its time, and checks its answer against
/// this host's clock: static programs that also tell by how much it can be wrong, or Redis as the
/// distribution has it.
#[derive(Debug, Args)]
#[command(after_help = "Example: cargo xtask example --port 8080, then: curl localhost:8080")]
pub struct ExampleCommand {
    /// Which appliance.
    #[arg(value_enum, default_value_t = Appliance::ClockServer)]
    appliance: Appliance,
    #[command(flatten)]
    machine: MachineOptions,
    /// The TCP port of this host's loopback that leads to the server; 0 takes a free one.
    #[arg(long, default_value_t = 8080, overrides_with = "port")]
    port: u16,
    /// Power the guest off after the check instead of leaving it to be looked at.
    #[arg(long)]
    check: bool,
    /// Build the program and the image, and boot nothing.
    #[arg(long, conflicts_with = "check")]
    build_only: bool,
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
        let appliance = self.appliance;
        let folder = workspace.state().join("example").join(appliance.name());
        let spec_file = stage(workspace, appliance, &folder)?;
        let (host, image) = self.machine.prepare_image(
            workspace,
            &BuildRequest {
                place: Place::Kept(folder.join("image")),
                ..BuildRequest::new(workspace, &spec_file, Variant::Base)
            },
        )?;
        if let Some((_, bytes)) = image.artifacts.iter().find(|(name, _)| name == DISK) {
            let mib = bytes.div_ceil(1 << 20);
            progress::note(format!("its disk image has {mib} MiB"));
        }
        if self.build_only {
            return Ok(ExitCode::SUCCESS);
        }
        let size = self.machine.size(&image.spec.vm);
        let forward = Forward::tcp(port, appliance.port());
        if host.is_elsewhere() {
            let errand = Errand::new(workspace, &host, "example", size.memory_mib, spec_file)
                .input(&image.folder)
                .forwards(vec![forward])
                .arguments(["--port".to_owned(), port.to_string()])
                .stop(Stop::Asked);
            return nested::run(&errand);
        }
        let step = progress::step("the appliance boots");
        let mut machine = Machine::start(
            &host.qemu,
            Config {
                devices: vec![Host::network(vec![forward])],
                ..host.machine("example", &size, guest::direct_boot(&image)?)
            },
        )?;
        let records = machine.subscribe();
        let status = guest::wait_synced(&mut machine, &records)?;
        ask_until(appliance, port, Instant::now() + machine.timeouts().sync())?;
        let asked = quickest(appliance, port)?;
        step.vanish();
        println!("$ {}\n{}", appliance.command(port), asked.body.trim_end());
        println!("{}", asked.verdict(appliance)?);
        if !self.check {
            guest::watch(&mut machine, &records, &status)?;
        }
        guest::power_off(machine)?;
        Ok(ExitCode::SUCCESS)
    }
}

/// Puts the appliance's description, its lock and its compiled program beside each other; gives the
/// first.
fn stage(workspace: &Workspace, appliance: Appliance, folder: &Path) -> Result<PathBuf> {
    if kvm_host::inside().is_some() {
        // It has been staged outside, and sent here.
        return Ok(folder.join("guest.toml"));
    }
    fs::create_dir_all(folder).with_context(|| format!("cannot make {}", folder.display()))?;
    let put = |name: &str, bytes: &[u8]| -> Result<PathBuf> {
        let path = folder.join(name);
        noonmark_image::output::write_file(&path, bytes)?;
        Ok(path)
    };
    if appliance.is_compiled() {
        prerequisites::ensure(workspace, &[Prerequisite::GuestTarget])?;
        let name = appliance.name();
        put(name, &programs::build_example(workspace, name)?)?;
    }
    let source = workspace.root().join(appliance.folder());
    let read =
        |file: &Path| fs::read(file).with_context(|| format!("cannot read {}", file.display()));
    let lock = source.join("guest.lock");
    if lock.exists() {
        put("guest.lock", &read(&lock)?)?;
    }
    put("guest.toml", &read(&source.join("guest.toml"))?)
}

/// The port, or a free one for 0. A port that is taken is told now, not after a minute's building.
fn free_port(port: u16) -> Result<u16> {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, port)).with_context(|| {
        format!("port {port} of this host can't be used; choose another: --port")
    })?;
    Ok(listener.local_addr()?.port())
}

/// Asks until the server answers: the guest's clock is right before its network is up.
fn ask_until(appliance: Appliance, port: u16, deadline: Instant) -> Result<()> {
    loop {
        match ask(appliance, port) {
            Ok(_) => return Ok(()),
            Err(error) if Instant::now() >= deadline => {
                return Err(error.context(format!(
                    "the appliance does not answer on port {port}; `cargo xtask run --console \
                     --spec {}/guest.toml` shows why, once its program lies beside that file",
                    appliance.folder()
                )));
            }
            Err(_) => thread::sleep(PAUSE),
        }
    }
}

/// The quickest of some answers: the less time it took, the more it says of the clock.
fn quickest(appliance: Appliance, port: u16) -> Result<Asked> {
    let mut best = ask(appliance, port)?;
    for _ in 1..REQUESTS {
        let next = ask(appliance, port)?;
        if next.round_trip() < best.round_trip() {
            best = next;
        }
    }
    Ok(best)
}

fn ask(appliance: Appliance, port: u16) -> Result<Asked> {
    let address = (Ipv4Addr::LOCALHOST, port).into();
    let mut server = TcpStream::connect_timeout(&address, REQUEST)?;
    server.set_read_timeout(Some(REQUEST))?;
    server.set_write_timeout(Some(REQUEST))?;
    let before = now()?;
    server.write_all(appliance.request())?;
    server.shutdown(Shutdown::Write)?;
    let mut answer = String::new();
    server.take(ANSWER_MAX).read_to_string(&mut answer)?;
    let after = now()?;
    Ok(Asked {
        body: appliance.body(&answer)?.into(),
        before,
        after,
    })
}

impl Asked {
    fn round_trip(&self) -> Nanos {
        self.after - self.before
    }

    /// The guest made its answer between `before` and `after`, so that its interval has an instant in
    /// common with theirs.
    ///
    /// # Errors
    ///
    /// It has none, its clock is not synced, or the answer is none.
    fn verdict(&self, appliance: Appliance) -> Result<String> {
        let Answer {
            earliest,
            latest,
            synced,
            by,
        } = appliance.answer(&self.body)?;
        let round_trip = self.round_trip();
        let bound = Nanos((latest - earliest).0 / 2);
        let outside = (self.before - latest).max(earliest - self.after);
        ensure!(
            outside <= Nanos::ZERO,
            "the appliance's time is {} outside the {round_trip} in which it was asked, and its \
             bound is {bound}",
            outside + bound
        );
        ensure!(synced, "the appliance's clock is {by}");
        Ok(format!(
            "right: its time is within the {round_trip} that the request took here, and its bound \
             of {bound} (by {by})"
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
                "{} {} Synchronized 1 2\n",
                time_ns - bound_ns,
                time_ns + bound_ns
            ),
            before: Utc(1_000_000),
            after: Utc(2_000_000),
        }
    }

    #[test]
    fn a_time_within_the_request_or_its_bound_is_right() {
        assert!(asked(1_500_000, 0).verdict(Appliance::TimeBounds).is_ok());
        assert!(asked(2_000_100, 100).verdict(Appliance::TimeBounds).is_ok());
        assert!(asked(999_900, 100).verdict(Appliance::TimeBounds).is_ok());
    }

    #[test]
    fn a_time_further_off_than_its_bound_is_wrong() {
        for time_ns in [2_000_101, 999_899] {
            let verdict = asked(time_ns, 100).verdict(Appliance::TimeBounds);
            let error = verdict.unwrap_err().to_string();
            assert!(error.contains("101 ns outside the 1.000 ms"), "{error}");
        }
    }
}
