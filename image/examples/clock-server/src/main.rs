//! An HTTP server that tells what time it is here, and by how much that can be wrong.
//!
//! It stands for any program on a noonmark image, and uses nothing of noonmark but the status file
//! that PID 1 keeps.

use std::fs;
use std::io::{self, Read as _, Write as _};
use std::net::{TcpListener, TcpStream};
use std::process::ExitCode;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use serde_json::{Value, json};

/// Where PID 1 leaves its last status record.
const STATUS: &str = "/run/noonmark/status.json";

/// By how much a clock can run off, in parts of the time since the record: 500 ppm.
const DRIFT_PARTS: u64 = 2_000;

/// A client that takes longer than this is not waited for.
const PATIENCE: Duration = Duration::from_secs(2);

/// The longest request that is read. Only its end matters.
const REQUEST_MAX: usize = 8 * 1024;

fn main() -> ExitCode {
    let port = std::env::args().nth(1);
    let Some(port) = port.and_then(|port| port.parse::<u16>().ok()) else {
        eprintln!("usage: clock-server PORT");
        return ExitCode::from(2);
    };
    let listener = match TcpListener::bind(("0.0.0.0", port)) {
        Ok(listener) => listener,
        Err(error) => {
            eprintln!("clock-server: port {port}: {error}");
            return ExitCode::FAILURE;
        }
    };
    println!("clock-server: listening on port {port}");
    // One after the other: an answer takes no time, and a slow client is cut off.
    for client in listener.incoming() {
        // Whatever went wrong with one client is no concern of the next.
        let _ = client.and_then(serve);
    }
    ExitCode::FAILURE
}

fn serve(mut client: TcpStream) -> io::Result<()> {
    client.set_read_timeout(Some(PATIENCE))?;
    client.set_write_timeout(Some(PATIENCE))?;
    let mut request = Vec::new();
    let mut buffer = [0u8; 1024];
    while !request.windows(4).any(|end| end == b"\r\n\r\n") {
        let count = client.read(&mut buffer)?;
        if count == 0 || request.len() + count > REQUEST_MAX {
            return Ok(());
        }
        request.extend_from_slice(&buffer[..count]);
    }
    let (status, body) = match request.starts_with(b"GET / ") {
        true => match answer() {
            Ok(body) => ("200 OK", body),
            Err(error) => (
                "503 Service Unavailable",
                json!({ "error": error.to_string() }),
            ),
        },
        false => ("404 Not Found", json!({ "error": "only / is here" })),
    };
    let body = format!("{body}\n");
    let length = body.len();
    write!(
        client,
        "HTTP/1.1 {status}\r\nContent-Type: application/json\r\nContent-Length: {length}\r\n\
         Cache-Control: no-store\r\nConnection: close\r\n\r\n{body}"
    )
}

/// The time, the clock's state, and the bound of the error at this moment.
fn answer() -> io::Result<Value> {
    let record: Value = serde_json::from_slice(&fs::read(STATUS)?).map_err(io::Error::other)?;
    let number = |key: &str| record[key].as_u64();
    let (Some(told_at), Some(bound)) = (number("time_ns"), number("bound_ns")) else {
        return Err(io::Error::other(
            "the status record has no time or no bound",
        ));
    };
    let now = SystemTime::now()
        .duration_since(UNIX_EPOCH)
        .map_err(io::Error::other)?;
    let now = u64::try_from(now.as_nanos()).map_err(io::Error::other)?;
    let bound = bound.saturating_add(now.abs_diff(told_at) / DRIFT_PARTS);
    Ok(json!({
        "time_ns": now,
        "bound_ns": bound,
        "state": record["state"],
        "source": record["source"],
    }))
}
