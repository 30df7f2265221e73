//! Tells on standard error what is being done: a spinner on a terminal, plain lines elsewhere.
//!
//! The one module of this crate that prints. There is one standard error for the whole process, and
//! lines printed past its spinners would garble them; so this is a module that everyone calls,
//! commands of xtask as well, and not a value that is handed through every function.

use std::io::IsTerminal as _;
use std::sync::OnceLock;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{self, RecvTimeoutError, Sender};
use std::thread;
use std::time::{Duration, Instant};

use indicatif::{MultiProgress, ProgressBar, ProgressDrawTarget, ProgressStyle};
use noonmark_qemu::called;

/// Without a terminal, a step shorter than this is not worth a line.
const WORTH_A_LINE: Duration = Duration::from_secs(1);

/// Whether nothing is to stay.
static QUIET: AtomicBool = AtomicBool::new(false);

/// From now on shows nothing but what is being done just now, and that on a terminal alone: for a command
/// that has standard error for another program's use.
pub fn be_quiet() {
    QUIET.store(true, Ordering::Relaxed);
}

/// Something that is being done. Dropped without [`Step::done`], it vanishes: the error that ended
/// it says the rest.
#[derive(Debug)]
pub struct Step {
    shown: Shown,
    since: Instant,
}

#[derive(Debug)]
enum Shown {
    Nothing,
    Spinner(ProgressBar),
    /// A thread prints the line when this sender has lived long enough.
    Line(#[expect(dead_code, reason = "its drop is the message")] Sender<()>),
}

/// Begins a step, e.g. `building init`.
pub fn step(what: impl Into<String>) -> Step {
    let what = what.into();
    let shown = match display() {
        Some(display) => spinner(display, what),
        None if is_quiet() => Shown::Nothing,
        None => {
            let (alive, watch) = mpsc::channel::<()>();
            thread::spawn(move || {
                if watch.recv_timeout(WORTH_A_LINE) == Err(RecvTimeoutError::Timeout) {
                    eprintln!("{what} ...");
                }
            });
            Shown::Line(alive)
        }
    };
    Step {
        shown,
        since: Instant::now(),
    }
}

/// A line that is kept up to date with [`Step::update`]; without a terminal it is not shown.
pub fn live(what: impl Into<String>) -> Step {
    Step {
        shown: display().map_or(Shown::Nothing, |display| spinner(display, what.into())),
        since: Instant::now(),
    }
}

/// A line that stays.
pub fn note(line: impl AsRef<str>) {
    let line = called::renamed(line.as_ref());
    match display() {
        _ if is_quiet() => {}
        // There is no other place to report that standard error can't be written.
        Some(display) => drop(display.println(line)),
        None => eprintln!("{line}"),
    }
}

/// Takes everything that moves off the terminal, so that an error starts on a line of its own.
pub fn clear() {
    if let Some(display) = display() {
        drop(display.clear());
    }
}

impl Step {
    /// Says what is being done now; on a terminal only.
    pub fn update(&self, what: impl Into<String>) {
        if let Shown::Spinner(spinner) = &self.shown {
            spinner.set_message(what.into());
        }
    }

    /// Ends the step with a line that stays, with the time it took.
    pub fn done(self, line: impl AsRef<str>) {
        let took = self.since.elapsed().as_secs_f64();
        self.vanish();
        note(format!("{} ({took:.1} s)", line.as_ref()));
    }

    /// Ends the step without a word.
    pub fn vanish(self) {
        drop(self);
    }
}

impl Drop for Step {
    fn drop(&mut self) {
        if let Shown::Spinner(spinner) = &self.shown {
            spinner.finish_and_clear();
        }
    }
}

fn is_quiet() -> bool {
    QUIET.load(Ordering::Relaxed)
}

fn display() -> Option<&'static MultiProgress> {
    static DISPLAY: OnceLock<Option<MultiProgress>> = OnceLock::new();
    DISPLAY
        .get_or_init(|| {
            std::io::stderr()
                .is_terminal()
                .then(|| MultiProgress::with_draw_target(ProgressDrawTarget::stderr()))
        })
        .as_ref()
}

fn spinner(display: &MultiProgress, what: String) -> Shown {
    let spinner = display.add(ProgressBar::new_spinner());
    spinner.set_style(style());
    spinner.set_message(what);
    spinner.enable_steady_tick(Duration::from_millis(100));
    Shown::Spinner(spinner)
}

fn style() -> ProgressStyle {
    ProgressStyle::with_template("{spinner} {wide_msg} {elapsed}")
        .unwrap_or_else(|_| ProgressStyle::default_spinner())
}
