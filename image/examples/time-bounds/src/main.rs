//! Tells between which two instants the time is, by ClockBound's own client, as often as it is asked.
//!
//! A client of this server sends lines `COUNT PAUSE_US`, and gets for each of them COUNT lines
//!
//! ```text
//! EARLIEST LATEST STATUS BEFORE AFTER
//! ```
//!
//! in nanoseconds since 1970, made PAUSE_US microseconds apart; BEFORE and AFTER are
//! CLOCK_MONOTONIC_RAW around the reading, in nanoseconds since boot. The status is ClockBound's: what is
//! `Unknown` or `Disrupted` is not to be trusted. `echo 1 0 | nc localhost 8000` asks once.

use std::error::Error;
use std::fmt::Write as _;
use std::io::{BufRead as _, BufReader, Write as _};
use std::net::{TcpListener, TcpStream};
use std::process::ExitCode;
use std::thread;
use std::time::Duration;

use clock_bound_client::{ClockBoundClient, ClockBoundError};
use rustix::time::{ClockId, clock_gettime};

/// As many readings are made for one line at most.
const COUNT_MAX: u32 = 100_000;

/// A client that takes nothing for so long is not waited for.
const PATIENCE: Duration = Duration::from_secs(30);

fn main() -> ExitCode {
    let port = std::env::args().nth(1);
    let Some(port) = port.and_then(|port| port.parse::<u16>().ok()) else {
        eprintln!("usage: time-bounds PORT");
        return ExitCode::from(2);
    };
    let listener = match TcpListener::bind(("0.0.0.0", port)) {
        Ok(listener) => listener,
        Err(error) => {
            eprintln!("time-bounds: port {port}: {error}");
            return ExitCode::FAILURE;
        }
    };
    println!("time-bounds: listening on port {port}");
    for client in listener.incoming() {
        let served = client.map_err(Into::into).and_then(serve);
        if let Err(error) = served {
            eprintln!("time-bounds: {error}");
        }
    }
    ExitCode::FAILURE
}

/// Answers one client until it goes.
fn serve(mut client: TcpStream) -> Result<(), Box<dyn Error>> {
    client.set_nodelay(true)?;
    client.set_write_timeout(Some(PATIENCE))?;
    let mut bounds = ClockBoundClient::new().map_err(told)?;
    for line in BufReader::new(client.try_clone()?).lines() {
        let answer = match asked(&line?) {
            Some((count, pause)) => read(&mut bounds, count, pause).map_err(told)?,
            None => format!("expected: COUNT PAUSE_US, as in \"1 0\"; COUNT up to {COUNT_MAX}\n"),
        };
        client.write_all(answer.as_bytes())?;
    }
    Ok(())
}

fn asked(line: &str) -> Option<(u32, Duration)> {
    let (count, pause) = line.trim().split_once(' ')?;
    let count = count.parse().ok().filter(|count| *count <= COUNT_MAX)?;
    Some((count, Duration::from_micros(pause.parse().ok()?)))
}

fn read(
    bounds: &mut ClockBoundClient,
    count: u32,
    pause: Duration,
) -> Result<String, ClockBoundError> {
    let mut lines = String::new();
    for _ in 0..count {
        let before = raw();
        let now = bounds.now()?;
        let after = raw();
        let (earliest, latest) = (now.earliest, now.latest);
        let [earliest, latest] = [earliest, latest].map(|t| nanoseconds(t.tv_sec(), t.tv_nsec()));
        let status = now.clock_status;
        // Writing to a String can't fail.
        let _ = writeln!(lines, "{earliest} {latest} {status:?} {before} {after}");
        if !pause.is_zero() {
            thread::sleep(pause);
        }
    }
    Ok(lines)
}

fn raw() -> i64 {
    let time = clock_gettime(ClockId::MonotonicRaw);
    nanoseconds(time.tv_sec, time.tv_nsec)
}

fn nanoseconds(seconds: i64, nanoseconds: i64) -> i64 {
    seconds * 1_000_000_000 + nanoseconds
}

/// The client's error has no words of its own.
fn told(error: ClockBoundError) -> String {
    format!("{:?} {} {}", error.kind, error.errno, error.detail)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_line_asks_for_a_number_of_readings_and_a_pause() {
        assert_eq!(asked("3 250"), Some((3, Duration::from_micros(250))));
        for wrong in ["", "3", "-1 0", "3 x", "100001 0"] {
            assert_eq!(asked(wrong), None, "{wrong}");
        }
    }
}
