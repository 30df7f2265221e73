//! An NTP server whose clock is not the host's: it starts with the host's time and goes by
//! MONOTONIC_RAW, which nobody adjusts, with a rate that wanders.

use std::f64::consts::TAU;
use std::io;
use std::net::UdpSocket;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::{self, JoinHandle};
use std::time::Duration;

use noonmark_contract::units::{Nanos, Raw};
use noonmark_linux::clocks;

use super::clock;

/// The wander of its clock: this far, and back, in this time, which is up to 3 ppm.
const WANDER_NS: f64 = 20_000.0;
const WANDER_PERIOD_NS: f64 = 40e9;

/// How often it is looked whether it is to end.
const LOOK: Duration = Duration::from_millis(200);

/// The seconds from the era of NTP, 1900, to that of Unix (RFC 5905, figure 4).
const NTP_TO_UNIX_S: i64 = 2_208_988_800;

/// An NTP packet without extension (RFC 5905, figure 8).
const PACKET: usize = 48;

/// A running server; it ends when dropped.
pub(super) struct NtpServer {
    port: u16,
    end: Arc<AtomicBool>,
    thread: Option<JoinHandle<()>>,
}

impl NtpServer {
    /// Answers on the socket.
    pub(super) fn start(socket: UdpSocket) -> io::Result<Self> {
        let port = socket.local_addr()?.port();
        socket.set_read_timeout(Some(LOOK))?;
        let end = Arc::new(AtomicBool::new(false));
        let told = Arc::clone(&end);
        let (began, off) = (clocks::raw(), clock::off_raw());
        let thread = thread::Builder::new()
            .name("NTP server".to_owned())
            .spawn(move || {
                let mut request = [0; 1024];
                while !told.load(Ordering::Relaxed) {
                    let Ok((length, client)) = socket.recv_from(&mut request) else {
                        continue;
                    };
                    let received = time(began, off, clocks::raw());
                    if let Some(asked) = request[..length].first_chunk::<PACKET>() {
                        let sent = time(began, off, clocks::raw());
                        // A client that is gone needs no answer.
                        let _ = socket.send_to(&answer(asked, received, sent), client);
                    }
                }
            })?;
        Ok(Self {
            port,
            end,
            thread: Some(thread),
        })
    }

    /// The port that it answers on.
    pub(super) fn port(&self) -> u16 {
        self.port
    }
}

impl Drop for NtpServer {
    fn drop(&mut self) {
        self.end.store(true, Ordering::Relaxed);
        if let Some(thread) = self.thread.take() {
            // Where it panicked, it has ended.
            let _ = thread.join();
        }
    }
}

/// The server's time at `now`, in nanoseconds since 1970.
fn time(began: Raw, off: Nanos, now: Raw) -> i64 {
    let passed = (now - began).0 as f64;
    let wander = WANDER_NS * (1.0 - (TAU * passed / WANDER_PERIOD_NS).cos()) / 2.0;
    now.0 + off.0 + wander as i64
}

/// A server's answer of stratum 1 (RFC 5905, section 7.3).
fn answer(request: &[u8; PACKET], received: i64, sent: i64) -> [u8; PACKET] {
    let mut packet = [0; PACKET];
    // No leap second, the client's version, mode 4: server.
    packet[0] = (request[0] & 0b0011_1000) | 4;
    packet[1] = 1;
    packet[2] = request[2];
    packet[3] = (-20_i8).to_ne_bytes()[0];
    packet[12..16].copy_from_slice(b"RAW\0");
    packet[16..24].copy_from_slice(&timestamp(received));
    packet[24..32].copy_from_slice(&request[40..48]);
    packet[32..40].copy_from_slice(&timestamp(received));
    packet[40..48].copy_from_slice(&timestamp(sent));
    packet
}

fn timestamp(unix_ns: i64) -> [u8; 8] {
    let seconds = (unix_ns.div_euclid(1_000_000_000) + NTP_TO_UNIX_S) as u64;
    let fraction = (unix_ns.rem_euclid(1_000_000_000) as u64) << 32;
    ((seconds << 32) | (fraction / 1_000_000_000)).to_be_bytes()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_answer_carries_the_client_s_cookie_and_the_server_s_own_time() {
        let mut request = [0; PACKET];
        request[0] = 0x23;
        request[40..48].copy_from_slice(b"a cookie");
        let answer = answer(&request, 1_500_000_000, 2_000_000_000);
        assert_eq!(answer[0], 0x24);
        assert_eq!(&answer[24..32], b"a cookie");
        assert_eq!(answer[32..40], [0x83, 0xaa, 0x7e, 0x81, 0x80, 0, 0, 0]);
        assert_eq!(answer[40..48], [0x83, 0xaa, 0x7e, 0x82, 0, 0, 0, 0]);
    }

    #[test]
    fn its_clock_starts_at_the_host_s_and_comes_back_to_it() {
        let at = |ns: i64| time(Raw(5), Nanos(1_000), Raw(5 + ns)) - ns;
        assert_eq!(at(0), 1_005);
        assert_eq!(at(20_000_000_000), 1_005 + 20_000);
        assert_eq!(at(40_000_000_000), 1_005);
    }
}
