//! chronyd as the keeper of the emulated host's clock, with its own defaults: no step, and slews at
//! up to 83,333 ppm.

use std::io;
use std::net::UdpSocket;
use std::os::unix::net::UnixDatagram;
use std::thread;
use std::time::{Duration, Instant};

use noonmark_contract::units::Nanos;
use noonmark_linux::clocks;

use super::clock::{self, RestoredRate};
use super::ntp_server::NtpServer;
use super::program::Program;

const CHRONYD: &str = "/usr/sbin/chronyd";
const CONFIG: &str = "/run/host-chrony.conf";
const WORDS: [&str; 7] = ["-d", "-L", "1", "-u", "root", "-f", CONFIG];

/// What a chronyd needs where there is nobody to talk to and no folder of its own.
const COMMON: &str = "cmdport 0\nbindcmdaddress /\npidfile /run/host-chronyd.pid\n";

/// The refclock's socket, which chronyd makes.
const SOCKET: &str = "/run/host-refclock.sock";

/// Between two of the refclock's samples, and how long chronyd may take to make its socket.
const SAMPLE_EVERY: Duration = Duration::from_millis(200);
const START_DEADLINE: Duration = Duration::from_secs(10);

/// How far from what was asked for a slew may end.
const SLEWED_WITHIN: Nanos = Nanos::from_millis(1);

/// Lets chronyd find the clock off by this, and correct it, within `span`.
pub(super) fn slew(by: Nanos, span: Duration) -> Result<(), String> {
    let began = Instant::now();
    let target = clock::off_raw() + by;
    let config = format!("refclock SOCK {SOCKET} poll 0 filter 4\n{COMMON}");
    let _restored = RestoredRate::after_program();
    // What an earlier one left behind would take the samples.
    let _ = std::fs::remove_file(SOCKET);
    let chronyd = Program::start(CHRONYD, &WORDS, (CONFIG, &config))?;
    let socket = connect(&chronyd)?;
    let end = began + span.saturating_sub(crate::fault::WATCHED_AFTER);
    while Instant::now() < end {
        chronyd.check()?;
        let offset = target - clock::off_raw();
        // A datagram that does not fit in is one sample less.
        let _ = socket.send(&sample(offset));
        thread::sleep(SAMPLE_EVERY);
    }
    let left = target - clock::off_raw();
    if left.abs() > SLEWED_WITHIN {
        return Err(format!(
            "chronyd was to slew the host's clock by {by} and has left {left}: {}",
            chronyd.last_words()
        ));
    }
    Ok(())
}

/// Lets chronyd follow a server whose rate wanders.
pub(super) fn follow(span: Duration) -> Result<(), String> {
    let began = Instant::now();
    let socket = UdpSocket::bind("127.0.0.1:0").map_err(|error| error.to_string())?;
    let server = NtpServer::start(socket).map_err(|error| format!("no NTP server: {error}"))?;
    let config = format!(
        "server 127.0.0.1 port {} iburst minpoll 0 maxpoll 0\n{COMMON}",
        server.port()
    );
    let _restored = RestoredRate::after_program();
    let chronyd = Program::start(CHRONYD, &WORDS, (CONFIG, &config))?;
    chronyd.run_for(span.saturating_sub(began.elapsed() + Duration::from_secs(1)))?;
    if clock::is_untouched()? {
        return Err(format!(
            "chronyd did not follow its server: {}",
            chronyd.last_words()
        ));
    }
    Ok(())
}

fn connect(chronyd: &Program) -> Result<UnixDatagram, String> {
    let deadline = Instant::now() + START_DEADLINE;
    let socket = UnixDatagram::unbound().map_err(|error| error.to_string())?;
    loop {
        match socket.connect(SOCKET) {
            Ok(()) => {
                let set = socket.set_nonblocking(true);
                return set
                    .map(|()| socket)
                    .map_err(|error: io::Error| error.to_string());
            }
            Err(error) if Instant::now() >= deadline => {
                return Err(format!("{SOCKET}: {error}: {}", chronyd.last_words()));
            }
            Err(_) => {
                chronyd.check()?;
                thread::sleep(SAMPLE_EVERY);
            }
        }
    }
}

/// A sample of a SOCK refclock: `struct sock_sample` of chrony's refclock_sock.c. `offset` is what the
/// true time is ahead of the clock.
fn sample(offset: Nanos) -> [u8; 40] {
    const MAGIC: i32 = 0x534f_434b;
    let now = clocks::realtime().0;
    let mut bytes = [0; 40];
    bytes[0..8].copy_from_slice(&(now.div_euclid(1_000_000_000)).to_ne_bytes());
    bytes[8..16].copy_from_slice(&(now.rem_euclid(1_000_000_000) / 1_000).to_ne_bytes());
    bytes[16..24].copy_from_slice(&(offset.0 as f64 / 1e9).to_ne_bytes());
    bytes[36..40].copy_from_slice(&MAGIC.to_ne_bytes());
    bytes
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_sample_has_its_offset_and_magic_where_chronyd_reads_them() {
        let bytes = sample(Nanos::from_millis(-50));
        assert_eq!(bytes[16..24], (-0.05_f64).to_ne_bytes());
        assert_eq!(bytes[24..36], [0; 12]);
        assert_eq!(&bytes[36..40], 0x534f_434b_i32.to_ne_bytes());
    }
}
