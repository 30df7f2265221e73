//! The fault program, in test images only: sets the clock as a person's command would, watches how
//! it becomes right again, and reports to the host. PID 1 gets no hint from it.
//!
//! Here is the test port. `fault` does one fault: it fits the undisturbed clock (`extrapolation`), sets
//! the clock (`disturb`) and judges each reading after that (`observer`). `steady` watches a clock
//! that nobody disturbs, `recorder` one that the host does; `tracker` holds the clock against the host's,
//! as `reference` reads it. `load` and `processes` make and measure work for the processors.

mod disturb;
mod extrapolation;
mod fault;
mod load;
mod observer;
mod processes;
mod recorder;
mod reference;
mod steady;
mod tracker;

use std::process::ExitCode;
use std::thread;
use std::time::{Duration, Instant};

use noonmark_contract::testport::{
    self, Answer, Ask, Clocks, Fault, HostTime, Outcome, Query, Request,
};
use noonmark_contract::units::Nanos;
use noonmark_linux::lines::{Inbox, Taken};
use noonmark_linux::log;
use noonmark_linux::ports::{Port, Transfer};
use noonmark_linux::{affinity, clocks, kmsg};
use rustix::event::{PollFd, PollFlags, poll};
use rustix::time::Timespec;

use crate::load::Load;
use crate::recorder::Recorder;
use crate::reference::Reference;
use crate::steady::FirstRead;
use crate::tracker::Tracker;

/// The format version of requests and answers.
const VERSION: u32 = 1;

/// How long the port may take to appear after PID 1 has loaded its driver.
const PORT_DEADLINE: Duration = Duration::from_secs(30);

/// How often an absent port or host is looked for.
const RETRY: Duration = Duration::from_millis(50);

/// How long a host may take to read an answer.
const ANSWER_DEADLINE: Duration = Duration::from_secs(5);

/// A request's longest line.
const LINE_BYTES: usize = 4 * 1024;

/// How many readings of the clocks one answer is the tightest of.
const TIME_READS: usize = 3;

/// What goes on between requests.
struct State {
    first: FirstRead,
    reference: Reference,
    recorder: Option<Recorder>,
    tracker: Option<Tracker>,
    load: Option<Load>,
}

fn main() -> ExitCode {
    let mut arguments = std::env::args().skip(1);
    if arguments.next().as_deref() == Some(load::ARGUMENT) {
        return load::be(arguments.next().as_deref());
    }
    let first = FirstRead::take();
    // Without a log the program works all the same.
    let _ = kmsg::open();
    if let Err(errno) = affinity::keep_to_last() {
        log!(Warning, "fault program: keeping to one processor: {errno}");
    }
    let Some(port) = wait_for_port() else {
        log!(
            Error,
            "fault program: port {} did not appear within {PORT_DEADLINE:?}; is the virtserialport \
             there, and the virtio_console module in?",
            testport::PORT
        );
        return ExitCode::FAILURE;
    };
    serve(&port, first);
    log!(Notice, "fault program: the port is gone");
    ExitCode::SUCCESS
}

fn wait_for_port() -> Option<Port> {
    let start = Instant::now();
    while start.elapsed() < PORT_DEADLINE {
        match Port::open(testport::PORT) {
            Ok(Some(port)) => return Some(port),
            Ok(None) => {}
            Err(error) => log!(Warning, "fault program: {error}"),
        }
        thread::sleep(RETRY);
    }
    None
}

/// Answers requests until the port is unplugged. Each host that connects is greeted.
fn serve(port: &Port, first: FirstRead) {
    let mut inbox = Inbox::new(LINE_BYTES);
    let mut state = State {
        first,
        reference: Reference::default(),
        recorder: None,
        tracker: None,
        load: None,
    };
    let mut greeted = false;
    let mut buffer = [0u8; 1024];
    loop {
        if !host_is_there(port) {
            greeted = false;
            inbox.clear();
            // Whoever asked for them is gone.
            state.recorder = None;
            state.tracker = None;
            state.load = None;
            thread::sleep(RETRY);
            continue;
        }
        if !greeted {
            greeted = true;
            send(port, 0, Outcome::Ready);
        }
        match port.read(&mut buffer) {
            Transfer::Bytes(count) => inbox.take(&buffer[..count], |taken| {
                let (id, outcome) = respond(taken, &mut state);
                send(port, id, outcome);
            }),
            Transfer::Wait => {
                if let Some(tracker) = &mut state.tracker {
                    tracker.read(&mut state.reference);
                }
                let watching = state.recorder.as_mut().is_some_and(Recorder::read);
                if !watching {
                    let due = state.tracker.as_ref().map(Tracker::wait);
                    let longest = Duration::from_secs(1);
                    wait_for(port, PollFlags::IN, due.unwrap_or(longest).min(longest));
                }
            }
            Transfer::Disconnected => {}
            Transfer::Gone => return,
        }
    }
}

/// Carries out one line; a line that asks for nothing is answered too, with the reason.
fn respond(taken: Taken, state: &mut State) -> (u64, Outcome) {
    let Taken::Line(line) = taken else {
        let why = format!("a request may have at most {LINE_BYTES} bytes");
        return (0, Outcome::Error(why));
    };
    // Tried first: every microsecond before the answer blurs what it says of the time.
    if let Ok(query) = serde_json::from_slice::<Query>(&line) {
        let outcome = match query.v {
            VERSION => answer(query.ask, state),
            other => wrong_version(other),
        };
        return (query.id, outcome);
    }
    let request: Request = match serde_json::from_slice(&line) {
        Ok(request) => request,
        Err(error) => return (0, Outcome::Error(format!("no request: {error}"))),
    };
    if request.v != VERSION {
        return (request.id, wrong_version(request.v));
    }
    let outcome = match request.fault {
        Fault::Watch(watch) => steady::watch(watch, state.first, &mut state.reference)
            .map_or_else(|error| Outcome::Error(error.to_string()), Outcome::Steady),
        _ => fault::inject(&request, &mut state.reference)
            .map_or_else(|error| Outcome::Error(error.to_string()), Outcome::Observed),
    };
    (request.id, outcome)
}

fn wrong_version(version: u32) -> Outcome {
    Outcome::Error(format!(
        "version {version}; this program understands {VERSION}"
    ))
}

fn answer(ask: Ask, state: &mut State) -> Outcome {
    match ask {
        Ask::Time => return Outcome::Time(time(&mut state.reference)),
        Ask::Vigil => state.recorder = Some(Recorder::new(clocks::raw())),
        Ask::EndVigil => {
            return state.recorder.take().map_or_else(
                || Outcome::Error("there is no vigil to end".into()),
                |recorder| Outcome::Kept(recorder.finish()),
            );
        }
        Ask::Load if state.load.is_some() => {}
        Ask::Load => match Load::start() {
            Ok(load) => state.load = Some(load),
            Err(error) => return Outcome::Error(format!("load: {error}")),
        },
        Ask::EndLoad => state.load = None,
        Ask::Track { every_ms } => match state.reference.find() {
            Ok(()) => state.tracker = Some(Tracker::new(clocks::raw(), every_ms)),
            Err(why) => {
                let why = format!("the guest has no ptp_kvm to compare its clock with: {why}");
                return Outcome::Error(why);
            }
        },
        Ask::EndTrack => {
            return state.tracker.take().map_or_else(
                || Outcome::Error("there is no track to end".into()),
                |tracker| Outcome::Tracked(tracker.finish()),
            );
        }
    }
    Outcome::Done
}

/// All clocks at one instant, the host's among them where that can be read.
fn time(reference: &mut Reference) -> Clocks {
    if let Some(reading) = reference.precise() {
        return Clocks {
            raw: reading.raw,
            realtime: reading.realtime,
            width_ns: Nanos::ZERO,
            host: Some(HostTime {
                utc: reading.reference,
                bound_ns: reading.bound,
            }),
        };
    }
    let read = clocks::Sandwich::tightest(TIME_READS);
    Clocks {
        raw: read.raw(),
        realtime: read.realtime,
        width_ns: read.width(),
        host: None,
    }
}

fn host_is_there(port: &Port) -> bool {
    let mut polled = [PollFd::new(port.descriptor(), PollFlags::OUT)];
    let answered = poll(&mut polled, Some(&Timespec::default()));
    answered.is_ok() && !polled[0].revents().contains(PollFlags::HUP)
}

fn wait_for(port: &Port, what: PollFlags, at_most: Duration) {
    let timeout = Timespec {
        tv_sec: at_most.as_secs() as i64,
        tv_nsec: i64::from(at_most.subsec_nanos()),
    };
    // A failure or a timeout only makes the caller look again.
    let _ = poll(&mut [PollFd::new(port.descriptor(), what)], Some(&timeout));
}

/// Writes an answer; gives up where the host goes, or reads nothing until the deadline.
fn send(port: &Port, id: u64, outcome: Outcome) {
    let answer = Answer {
        v: VERSION,
        id,
        outcome,
    };
    let mut line = match serde_json::to_vec(&answer) {
        Ok(line) => line,
        Err(error) => return log!(Error, "fault program: an answer can't be written: {error}"),
    };
    line.push(b'\n');
    let start = Instant::now();
    let mut written = 0;
    while written < line.len() && start.elapsed() < ANSWER_DEADLINE {
        match port.write(&line[written..]) {
            Transfer::Bytes(count) => written += count,
            Transfer::Wait => wait_for(port, PollFlags::OUT, RETRY),
            Transfer::Disconnected | Transfer::Gone => return,
        }
    }
}
