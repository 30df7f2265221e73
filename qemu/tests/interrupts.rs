//! A program that holds a machine gets a signal at a random moment: no QEMU process and no file
//! may be left, whatever the signal and the moment.
//!
//! The program is this one, started once more with the word `hold`.

#[path = "guest/mod.rs"]
mod guest;

use std::error::Error;
use std::fs;
use std::io::{BufRead, BufReader};
use std::os::unix::process::ExitStatusExt;
use std::path::Path;
use std::process::{Child, Command, ExitStatus, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use guest::Ending;
use libtest_mimic::{Arguments, Failed, Trial};
use noonmark_qemu::{Machine, Qemu, signals};
use rustix::process::{Pid, Signal, kill_process};

/// How often each signal is sent; more for a soak: `NOONMARK_ROUNDS=500`.
const ROUNDS: u32 = 8;

/// The longest wait before the signal; a machine of the holder lives for less.
const MOMENT_MAX: Duration = Duration::from_millis(400);

fn main() -> Result<(), Box<dyn Error>> {
    let words: Vec<String> = std::env::args().collect();
    if let [_, word, directory] = words.as_slice()
        && word == "hold"
    {
        return hold(Path::new(directory));
    }
    let Some(qemu) = guest::qemu("interrupts") else {
        return Ok(());
    };
    let trial = |name: &str, signal: Signal| {
        let qemu = qemu.clone();
        Trial::test(name, move || interrupt(&qemu, signal))
    };
    let trials = vec![
        trial("ctrl_c_leaves_no_process_and_no_file", Signal::INT),
        trial("a_term_signal_leaves_no_process_and_no_file", Signal::TERM),
        trial("a_hangup_leaves_no_process_and_no_file", Signal::HUP),
        trial(
            "a_kill_leaves_no_process_and_the_next_start_removes_the_files",
            Signal::KILL,
        ),
    ];
    let mut arguments = Arguments::from_args();
    // Each counts the machines of its own directory, but several at once only wait for each other.
    arguments.test_threads = Some(1);
    libtest_mimic::run(&arguments, trials).exit()
}

/// Starts machines one after the other until a signal comes.
fn hold(directory: &Path) -> Result<(), Box<dyn Error>> {
    signals::install()?;
    println!("ready");
    let named = std::env::var_os("NOONMARK_QEMU");
    let qemu = Qemu::find(named.as_deref().map(Path::new))?;
    // The signal may also come while a guest ends by itself.
    for ending in [Ending::Halt, Ending::PowerOff, Ending::Reset]
        .into_iter()
        .cycle()
    {
        let config = guest::config(directory, "", ending);
        let machine = Machine::start(&qemu, config)?;
        thread::sleep(Duration::from_millis(50));
        drop(machine);
    }
    Ok(())
}

fn interrupt(qemu: &Qemu, signal: Signal) -> Result<(), Failed> {
    let rounds = match std::env::var("NOONMARK_ROUNDS") {
        Ok(rounds) => rounds.parse()?,
        Err(_) => ROUNDS,
    };
    let seed = match std::env::var("NOONMARK_SEED") {
        Ok(seed) => seed.parse()?,
        Err(_) => fastrand::u64(..),
    };
    let mut random = fastrand::Rng::with_seed(seed);
    for round in 0..rounds {
        let longest = u64::try_from(MOMENT_MAX.as_micros())?;
        let moment = Duration::from_micros(random.u64(..longest));
        one(qemu, signal, moment).map_err(|why| {
            format!(
                "round {round}, {moment:?} after the start: {why}; NOONMARK_SEED={seed} replays it"
            )
        })?;
    }
    Ok(())
}

fn one(qemu: &Qemu, signal: Signal, moment: Duration) -> Result<(), Box<dyn Error>> {
    let images = tempfile::tempdir()?;
    let runtime = tempfile::tempdir()?;
    let mut holder = start_holder(qemu, images.path(), runtime.path())?;
    thread::sleep(moment);
    let pid = i32::try_from(holder.id()).ok().and_then(Pid::from_raw);
    kill_process(pid.ok_or("no process")?, signal)?;
    let status = wait(&mut holder)?;
    if signal == Signal::KILL {
        if status.signal() != Some(Signal::KILL.as_raw()) {
            return Err(format!("it ended with {status}").into());
        }
    } else if status.code() != Some(128 + signal.as_raw()) {
        return Err(format!("it ended with {status}").into());
    }
    nobody_left(runtime.path())?;
    if signal == Signal::KILL {
        sweep(qemu, images.path(), runtime.path())?;
    }
    let left: Vec<_> = fs::read_dir(runtime.path())?.collect();
    if !left.is_empty() {
        return Err(format!("left behind: {left:?}").into());
    }
    Ok(())
}

fn start_holder(qemu: &Qemu, images: &Path, runtime: &Path) -> Result<Child, Box<dyn Error>> {
    let mut holder = Command::new(std::env::current_exe()?)
        .arg("hold")
        .arg(images)
        // The runtime directory's name is then in the arguments of its QEMU, and nowhere else.
        .env("XDG_RUNTIME_DIR", runtime)
        .env("NOONMARK_QEMU", qemu.path())
        .stdout(Stdio::piped())
        .spawn()?;
    let mut line = String::new();
    let output = holder.stdout.take().ok_or("no pipe")?;
    BufReader::new(output).read_line(&mut line)?;
    match line.trim() {
        "ready" => Ok(holder),
        _ => Err(format!("the holder said `{line}`").into()),
    }
}

fn wait(holder: &mut Child) -> Result<ExitStatus, Box<dyn Error>> {
    let deadline = Instant::now() + Duration::from_secs(30);
    loop {
        if let Some(status) = holder.try_wait()? {
            return Ok(status);
        }
        if Instant::now() > deadline {
            holder.kill()?;
            holder.wait()?;
            return Err("it did not end on the signal".into());
        }
        thread::sleep(Duration::from_millis(2));
    }
}

/// The kernel's own kill takes a moment after the holder's end.
fn nobody_left(runtime: &Path) -> Result<(), Box<dyn Error>> {
    let deadline = Instant::now() + Duration::from_secs(10);
    loop {
        let left = processes_of(runtime)?;
        if left.is_empty() {
            return Ok(());
        }
        if Instant::now() > deadline {
            return Err(format!("still running: {left:?}").into());
        }
        thread::sleep(Duration::from_millis(10));
    }
}

/// Command lines that name the directory.
fn processes_of(runtime: &Path) -> Result<Vec<String>, Box<dyn Error>> {
    let mut found = Vec::new();
    for entry in fs::read_dir("/proc")? {
        // A process may be gone between the listing and the reading.
        let Ok(arguments) = fs::read(entry?.path().join("cmdline")) else {
            continue;
        };
        let arguments = String::from_utf8_lossy(&arguments).replace('\0', " ");
        if arguments.contains(&*runtime.to_string_lossy()) {
            found.push(arguments);
        }
    }
    Ok(found)
}

/// The next program that starts a machine removes what the killed one left.
fn sweep(qemu: &Qemu, images: &Path, runtime: &Path) -> Result<(), Box<dyn Error>> {
    let mut next = start_holder(qemu, images, runtime)?;
    thread::sleep(Duration::from_millis(300));
    let pid = i32::try_from(next.id()).ok().and_then(Pid::from_raw);
    kill_process(pid.ok_or("no process")?, Signal::INT)?;
    wait(&mut next)?;
    Ok(())
}
