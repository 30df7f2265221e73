//! A machine's life and ends, with a real QEMU and the smallest guest.

mod guest;

use std::fs;
use std::path::PathBuf;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::thread;
use std::time::{Duration, Instant};

use guest::{Ending, config, qemu};
use noonmark_qemu::{
    Boot, Config, ExitCause, Kick, Machine, MachineError, SubscriptionError, registry,
};
use tempfile::TempDir;

/// Machines run one at a time: several would only slow each other down.
fn alone() -> MutexGuard<'static, ()> {
    static ONE: Mutex<()> = Mutex::new(());
    ONE.lock().unwrap_or_else(PoisonError::into_inner)
}

fn soon() -> Instant {
    Instant::now() + Duration::from_secs(60)
}

fn scratch() -> TempDir {
    tempfile::tempdir().unwrap()
}

fn process(pid: u32) -> PathBuf {
    PathBuf::from(format!("/proc/{pid}"))
}

/// Waits until the console shows `text`.
fn await_console(machine: &Machine, text: &str) {
    let deadline = soon();
    while !machine
        .console_tail(50)
        .iter()
        .any(|line| line.contains(text))
    {
        assert!(Instant::now() < deadline, "no `{text}` on the console");
        thread::sleep(Duration::from_millis(10));
    }
}

/// A running machine with what must outlive it.
struct Running {
    machine: Machine,
    _directory: TempDir,
    _alone: MutexGuard<'static, ()>,
}

/// Starts a guest that prints `text`; none where there is no QEMU to run it.
fn start(test: &str, text: &str, ending: Ending) -> Option<Running> {
    let qemu = qemu(test)?;
    let alone = alone();
    let directory = scratch();
    let machine = Machine::start(&qemu, config(directory.path(), text, ending)).unwrap();
    Some(Running {
        machine,
        _directory: directory,
        _alone: alone,
    })
}

/// Runs a guest to its end and returns why it ended.
fn exit_of(text: &str, ending: Ending) -> Option<(ExitCause, String)> {
    let mut running = start("a machine's end", text, ending)?;
    let records = running.machine.subscribe();
    match running.machine.record(&records, "a record", soon()) {
        Err(MachineError::Exited(exit)) => Some((exit.cause.clone(), exit.to_string())),
        other => panic!("expected an exit, got {other:?}"),
    }
}

#[test]
fn a_machine_is_listed_while_it_runs_and_leaves_nothing_when_dropped() {
    let test = "a machine leaves nothing when dropped";
    let Some(running) = start(test, "hello from the guest\n", Ending::Halt) else {
        return;
    };
    let mut machine = running.machine;
    assert!(machine.qmp().query_status(soon()).unwrap().running);
    await_console(&machine, "hello from the guest");

    let (run, pid) = (machine.directory().to_owned(), machine.pid());
    let listed = registry::running();
    let own = listed.iter().find(|vm| vm.directory == run).unwrap();
    assert_eq!(own.description.name, "smallest");
    assert_eq!(own.description.qemu_pid, pid);
    assert!(own.status_socket().exists() && process(pid).exists());

    drop(machine);
    assert!(!process(pid).exists() && !run.exists());
    assert!(registry::running().iter().all(|vm| vm.directory != run));
}

#[test]
fn a_machine_stops_and_runs_on_at_the_monitor_s_word() {
    let Some(mut running) = start("stop and cont", "", Ending::Halt) else {
        return;
    };
    let qmp = running.machine.qmp();
    qmp.stop(soon()).unwrap();
    assert_eq!(qmp.query_status(soon()).unwrap().status, "paused");
    qmp.cont(soon()).unwrap();
    let resumed = qmp.wait_event("RESUME", soon()).unwrap();
    assert!(resumed.timestamp.utc().is_some());
    assert!(qmp.query_status(soon()).unwrap().running);
}

#[test]
fn a_machine_goes_on_in_another_qemu_and_the_former_one_is_gone() {
    let Some(running) = start("a machine in another QEMU", "", Ending::Halt) else {
        return;
    };
    let mut machine = running.machine;
    let records = machine.subscribe();
    let first = machine.pid();
    machine.migrate(None::<fn()>).unwrap();
    let second = machine.pid();
    assert!(!process(first).exists() && process(second).exists());
    machine
        .restore_after(Duration::ZERO, Kick::Withheld, || {})
        .unwrap();
    assert!(!process(second).exists() && process(machine.pid()).exists());
    assert!(machine.qmp().query_status(soon()).unwrap().running);
    machine.close_time_channel();
    machine.open_time_channel().unwrap();
    let nothing = records.next(Instant::now());
    assert_eq!(nothing.unwrap_err(), SubscriptionError::Timeout);
}

#[test]
fn a_guest_that_turns_itself_off_is_told_from_one_that_resets() {
    let Some((cause, text)) = exit_of("PID 1 is out of options\n", Ending::PowerOff) else {
        return;
    };
    assert_eq!(cause, ExitCause::PoweredOff);
    assert!(text.contains("| PID 1 is out of options"), "{text}");
    let (cause, _) = exit_of("", Ending::Reset).unwrap();
    assert_eq!(cause, ExitCause::Rebooted);
}

#[test]
fn a_kernel_s_panic_is_noticed_whether_or_not_it_ends_the_machine() {
    let panic = "Kernel panic - not syncing: Attempted to kill init!\n";
    let Some((cause, text)) = exit_of(panic, Ending::Reset) else {
        return;
    };
    assert_eq!(cause, ExitCause::KernelPanic);
    assert!(text.contains("Attempted to kill init"), "{text}");
    let (cause, _) = exit_of(panic, Ending::Halt).unwrap();
    assert_eq!(cause, ExitCause::KernelPanic);
}

#[test]
fn a_silent_guest_ends_in_a_deadline_that_says_what_did_not_come() {
    let Some(running) = start("a silent guest", "stuck here\n", Ending::Halt) else {
        return;
    };
    let mut machine = running.machine;
    await_console(&machine, "stuck here");
    let records = machine.subscribe();
    let error = machine
        .record(&records, "the first record", Instant::now())
        .unwrap_err();
    let text = error.to_string();
    assert!(matches!(error, MachineError::Deadline { .. }), "{text}");
    assert!(
        text.contains("the first record") && text.contains("| stuck here"),
        "{text}"
    );
}

#[test]
fn what_qemu_refuses_is_reported_in_its_own_words() {
    let Some(qemu) = qemu("what QEMU refuses") else {
        return;
    };
    let _alone = alone();
    let directory = scratch();
    let config = Config {
        vcpus: 100_000,
        ..config(directory.path(), "", Ending::Halt)
    };
    let error = Machine::start(&qemu, config).unwrap_err();
    let text = error.to_string();
    assert!(matches!(error, MachineError::Refused(_)), "{text}");
    assert!(text.contains("100000"), "{text}");
}

#[test]
fn a_missing_kernel_is_named_before_anything_is_started() {
    let Some(qemu) = qemu("a missing kernel") else {
        return;
    };
    let directory = scratch();
    let config = config(directory.path(), "", Ending::Halt);
    let Boot::Direct { kernel, .. } = &config.boot else {
        panic!("the smallest guest boots directly");
    };
    fs::remove_file(kernel).unwrap();
    let kernel = kernel.display().to_string();
    let error = Machine::start(&qemu, config).unwrap_err().to_string();
    assert!(error.contains(&kernel), "{error}");
}

#[test]
fn an_endless_run_of_machines_leaves_no_directory_behind() {
    let Some(qemu) = qemu("machines one after the other") else {
        return;
    };
    let _alone = alone();
    let directory = scratch();
    let mut runs = Vec::new();
    for _ in 0..5 {
        let config = config(directory.path(), "", Ending::Halt);
        let machine = Machine::start(&qemu, config).unwrap();
        runs.push(machine.directory().to_owned());
    }
    assert!(runs.iter().all(|run: &PathBuf| !run.exists()));
    assert!(runs.windows(2).all(|pair| pair[0] != pair[1]));
}
