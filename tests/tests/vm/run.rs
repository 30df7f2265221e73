//! Commands in a guest: `cargo xtask run -- COMMAND`. The command is this test's own program, which is
//! brought into the guest with its libraries, and does there what [`be_the_command`] is told.

use std::env;
use std::fs;
use std::io::{self, Read as _, Write as _};
use std::os::unix::process::CommandExt as _;
use std::path::Path;
use std::process::{Child, Command, ExitCode, Stdio};
use std::thread;
use std::time::Duration;

use anyhow::{Context as _, Result, ensure};
use noonmark_tests::xtask;

use crate::platform::{Images, Platform};

/// The first argument of this program where it is the command.
pub const ARGUMENT: &str = "--in-guest";

/// Standard output's bytes, and standard input's.
const OUTPUT: usize = 100_000_000;
const INPUT: usize = 3_000_001;

/// Written at once: no multiple of what a port or a pipe takes.
const BLOCK: usize = 9_973;

/// What a shell has for SIGABRT and SIGINT, and timeout(1) for the time being over.
const ABORTED: i32 = 134;
const INTERRUPTED: i32 = 130;
const TIMED_OUT: i32 = 124;

/// What the command exits with that works on a share.
const DONE: u8 = 7;

/// Bytes that are nobody's text, from any place in the stream on.
fn bytes(from: usize, count: usize) -> Vec<u8> {
    let byte = |at: usize| (at.wrapping_mul(2_654_435_761) >> 13) as u8;
    (from..from + count).map(byte).collect()
}

/// Does in the guest what a test wants.
pub fn be_the_command(job: &str) -> ExitCode {
    let done = match job {
        "streams" => streams(),
        "share" => share(),
        _ => {
            println!("ready");
            thread::sleep(Duration::from_secs(3600));
            Ok(())
        }
    };
    match done {
        Ok(()) => ExitCode::from(DONE),
        Err(error) => {
            eprintln!("{error:#}");
            ExitCode::FAILURE
        }
    }
}

fn streams() -> Result<()> {
    let mut taken = Vec::new();
    io::stdin().read_to_end(&mut taken)?;
    ensure!(taken == bytes(0, INPUT), "{} other bytes", taken.len());
    let mut stdout = io::stdout().lock();
    for from in (0..OUTPUT).step_by(BLOCK) {
        stdout.write_all(&bytes(from, BLOCK.min(OUTPUT - from)))?;
    }
    stdout.flush()?;
    eprint!("all of it");
    std::process::abort()
}

fn share() -> Result<()> {
    let cwd = env::current_dir()?;
    ensure!(cwd == Path::new("/work"), "it started in {}", cwd.display());
    ensure!(env::var("WHO").as_deref() == Ok("the guest"), "no variable");
    let told = fs::read_to_string("in")?;
    fs::write("out", told.to_uppercase())?;
    let refused = fs::write("/read-only/out", "").err();
    let refused = refused.map(|error| error.kind());
    ensure!(
        refused == Some(io::ErrorKind::ReadOnlyFilesystem),
        "writing to the other share: {refused:?}"
    );
    Ok(())
}

/// `cargo xtask run` on this platform, in a process group of its own, as a shell starts it.
pub fn run(platform: &Platform) -> Command {
    let mut command = xtask();
    command
        .args(["run", "--qemu"])
        .arg(platform.qemu.path())
        .args(["--accel", &platform.decision.accelerator.to_string()])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .process_group(0);
    command
}

fn start(command: &mut Command) -> Result<Child> {
    let started = command.spawn();
    started.with_context(|| format!("cannot run {command:?}"))
}

pub fn has_its_streams_and_its_status(platform: &Platform, _: &Images) -> Result<()> {
    let folder = tempfile::tempdir()?;
    let report = folder.path().join("run.json");
    let mut command = run(platform);
    command.arg("--json").arg(&report).arg("--");
    command.arg(env::current_exe()?).args([ARGUMENT, "streams"]);
    let mut child = start(&mut command)?;
    let mut stdin = child.stdin.take().context("no standard input")?;
    // Its end is the command's, which writes nothing before.
    let feeding = thread::spawn(move || stdin.write_all(&bytes(0, INPUT)));
    let mut stdout = child.stdout.take().context("no standard output")?;
    let errors = child.stderr.take().context("no standard error")?;
    let told = thread::spawn(move || io::read_to_string(errors));
    let mut count = 0;
    let mut block = vec![0; BLOCK];
    loop {
        let length = stdout.read(&mut block)?;
        if length == 0 {
            break;
        }
        ensure!(
            block[..length] == bytes(count, length),
            "other bytes from {count} on"
        );
        count += length;
    }
    let status = child.wait()?;
    let told = told.join().ok().context("a panic")??;
    feeding.join().ok().context("a panic")??;
    ensure!(count == OUTPUT, "{count} bytes came, {status}: {told}");
    ensure!(status.code() == Some(ABORTED), "{status}: {told}");
    ensure!(told == "all of it", "standard error is {told:?}");
    let report: serde_json::Value = serde_json::from_slice(&fs::read(&report)?)?;
    ensure!(
        report["status"] == ABORTED && report["signal"] == 6 && report["stdout_bytes"] == OUTPUT,
        "{report}"
    );
    let seconds = |key: &str| {
        report[key]
            .as_f64()
            .with_context(|| format!("no {key}: {report}"))
    };
    ensure!(
        seconds("first_output_s")? >= seconds("synced_s")? - 1.0,
        "{report}"
    );
    Ok(())
}

pub fn shares_folders(platform: &Platform, _: &Images) -> Result<()> {
    let folder = tempfile::tempdir()?;
    fs::copy(env::current_exe()?, folder.path().join("command"))?;
    fs::write(folder.path().join("in"), "from the host")?;
    let shared = folder.path().display();
    let mut command = run(platform);
    command
        .args(["--share", &format!("{shared}:/work")])
        .args(["--share", &format!("{shared}:/read-only,ro")])
        .args(["--cwd", "/work", "--env", "WHO=the guest"])
        .args(["--", "./command", ARGUMENT, "share"]);
    let output = start(&mut command)?.wait_with_output()?;
    let told = String::from_utf8_lossy(&output.stderr);
    ensure!(
        output.status.code() == Some(i32::from(DONE)),
        "{}: {told}",
        output.status
    );
    let written = fs::read_to_string(folder.path().join("out"))?;
    ensure!(written == "FROM THE HOST", "it wrote {written:?}");
    Ok(())
}

pub fn ends_in_time_and_by_ctrl_c(platform: &Platform, _: &Images) -> Result<()> {
    let own = env::current_exe()?;
    let mut command = run(platform);
    command
        .args(["--timeout", "2s", "--"])
        .arg(&own)
        .args([ARGUMENT, "sleep"]);
    let output = start(&mut command)?.wait_with_output()?;
    ensure!(output.status.code() == Some(TIMED_OUT), "{output:?}");
    ensure!(output.stdout == b"ready\n", "{output:?}");
    let mut command = run(platform);
    command.arg("--").arg(&own).args([ARGUMENT, "sleep"]);
    let mut child = start(&mut command)?;
    let mut ready = [0; 6];
    let mut stdout = child.stdout.take().context("no standard output")?;
    stdout.read_exact(&mut ready)?;
    ensure!(&ready == b"ready\n", "{ready:?}");
    // The command is running before the machine's first record of a right clock may have arrived.
    thread::sleep(Duration::from_secs(2));
    let group = format!("-{}", child.id());
    let sent = Command::new("kill")
        .args(["-s", "INT", "--", &group])
        .status()?;
    ensure!(sent.success(), "kill: {sent}");
    let status = child.wait()?;
    ensure!(status.code() == Some(INTERRUPTED), "{status}");
    let mut missing = run(platform);
    missing.args(["--", "/no/such/program"]);
    let output = start(&mut missing)?.wait_with_output()?;
    let told = String::from_utf8_lossy(&output.stderr);
    ensure!(
        output.status.code() == Some(1) && told.contains("/no/such/program"),
        "{told}"
    );
    Ok(())
}
