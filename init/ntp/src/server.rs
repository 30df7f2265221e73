//! One time server: where it is, when it may be asked again, and what it said.

use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, ToSocketAddrs as _, UdpSocket};

use noonmark_contract::config::network::Server as Name;
use noonmark_contract::ntp::Measurement;
use noonmark_contract::ntp::packet::{self, PACKET_LEN, ResponseError};
use noonmark_contract::units::{Nanos, Raw, Utc};
use noonmark_linux::clocks;

use super::random::Random;

/// Time between two requests to a server (RFC 8633, 3.2; chrony's and ntpd's `iburst`): so many in a
/// row may come soon, after that they must average to less.
const SPACING: Nanos = Nanos::from_secs(2);
const AVERAGE: Nanos = Nanos::from_secs(16);
const BURST: i64 = 8;

/// The longest that a server which asks to be asked less often is left alone.
const SLOWEST: Nanos = Nanos::from_secs(1_024);

/// More datagrams than this are not the answer to one request.
const DATAGRAMS: u32 = 8;

/// A server of the configuration.
pub struct Server {
    name: Name,
    /// The image's source date, from which NTP's eras are told apart.
    built: Utc,
    socket: Option<UdpSocket>,
    open: Option<Open>,
    last_asked: Option<Raw>,
    /// A bucket of requests, in nanoseconds of [`AVERAGE`] each.
    credit: Nanos,
    average: Nanos,
    banned: bool,
    measured: Option<Measurement>,
    problem: Option<String>,
}

/// A request that waits for its answer.
#[derive(Clone, Copy)]
struct Open {
    cookie: u64,
    t1: Raw,
}

impl Server {
    /// Nothing has been asked yet.
    pub fn new(name: Name, built: Utc) -> Self {
        Self {
            name,
            built,
            socket: None,
            open: None,
            last_asked: None,
            credit: Nanos(AVERAGE.0 * BURST),
            average: AVERAGE,
            banned: false,
            measured: None,
            problem: None,
        }
    }

    /// Its name, for messages.
    pub fn name(&self) -> &Name {
        &self.name
    }

    /// When it may be asked next; none where it wants to be asked no more.
    pub fn free_at(&self, now: Raw) -> Option<Raw> {
        if self.banned {
            return None;
        }
        // The credit is that of the last request; it has grown since.
        let Some(last) = self.last_asked else {
            return Some(now);
        };
        let pause = SPACING.max(self.average - self.credit);
        Some((last + pause).max(now))
    }

    /// Sends a request, if it may be asked now; the outcome comes from [`Server::receive`].
    pub fn ask(&mut self, now: Raw, random: Random) {
        if self.free_at(now).is_none_or(|at| at > now) {
            return;
        }
        // The cookie is all that tells an answer from a forgery. Where it can't be random, as before
        // the kernel has gathered any randomness, nothing is asked rather than something guessable.
        let mut cookie = [0; 8];
        if let Err(error) = random(&mut cookie) {
            self.fail(format!("not asked, for want of randomness: {error}"));
            return;
        }
        let elapsed = self.last_asked.map_or(Nanos::ZERO, |last| now - last);
        let most = Nanos(self.average.0.saturating_mul(BURST));
        self.credit = (self.credit + elapsed).min(most) - self.average;
        self.last_asked = Some(now);
        let sent = self.send(u64::from_ne_bytes(cookie));
        if let Err(error) = sent {
            self.fail(format!("{error}"));
        }
    }

    fn send(&mut self, cookie: u64) -> io::Result<()> {
        // A new socket and so a new port for each request: one more thing that a forger would have
        // to guess.
        let socket = connect(&self.name)?;
        socket.set_nonblocking(true)?;
        let t1 = clocks::raw();
        socket.send(&packet::request(cookie))?;
        self.open = Some(Open { cookie, t1 });
        self.socket = Some(socket);
        Ok(())
    }

    /// The socket to wait on, while an answer is awaited.
    pub fn awaited(&self) -> Option<&UdpSocket> {
        self.open.and(self.socket.as_ref())
    }

    /// Takes in what has come.
    pub fn receive(&mut self) {
        let mut datagram = [0; PACKET_LEN];
        for _ in 0..DATAGRAMS {
            let (Some(open), Some(socket)) = (self.open, &self.socket) else {
                return;
            };
            let received = socket.recv(&mut datagram);
            let t4 = clocks::raw();
            match received {
                Ok(used) => {
                    let answer = packet::answer(&datagram[..used], open.cookie, self.built);
                    let measured = answer.and_then(|a| Measurement::new(open.t1, t4, &a));
                    self.take_in(measured);
                }
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => return,
                Err(error) => self.fail(error.to_string()),
            }
        }
    }

    fn take_in(&mut self, measured: Result<Measurement, ResponseError>) {
        match measured {
            Ok(measurement) => {
                self.open = None;
                self.problem = None;
                self.measured = Some(measurement);
            }
            // Forged, or the late answer to an earlier request; the right one may follow.
            Err(ResponseError::Unasked | ResponseError::Malformed) => {}
            Err(ResponseError::Kiss(code)) => {
                // RFC 5905, 7.4: RATE asks for less, DENY and RSTR for nothing any more.
                match &code {
                    b"DENY" | b"RSTR" => self.banned = true,
                    _ => self.average = Nanos(self.average.0.saturating_mul(2)).min(SLOWEST),
                }
                self.fail(ResponseError::Kiss(code).to_string());
            }
            Err(refusal) => self.fail(refusal.to_string()),
        }
    }

    /// Nothing more is expected of the last request.
    pub fn give_up(&mut self) {
        if self.open.is_some() {
            self.fail("no answer".into());
        }
    }

    fn fail(&mut self, problem: String) {
        self.open = None;
        self.socket = None;
        if self.problem.as_ref() != Some(&problem) {
            println!("noonmark-ntp: {}: {problem}", self.name);
            self.problem = Some(problem);
        }
    }

    /// What the last request brought. Nothing older is ever used: the machine may have stood still
    /// since, and its raw clock with it.
    pub fn take_measured(&mut self) -> Option<Measurement> {
        self.measured.take()
    }
}

/// A socket to the first of the name's addresses that there is a route to.
fn connect(name: &Name) -> io::Result<UdpSocket> {
    let mut last = io::Error::other("the name has no address");
    for address in (name.host.as_str(), name.port).to_socket_addrs()? {
        let any: IpAddr = match address.ip() {
            IpAddr::V4(_) => Ipv4Addr::UNSPECIFIED.into(),
            IpAddr::V6(_) => Ipv6Addr::UNSPECIFIED.into(),
        };
        let connected = UdpSocket::bind((any, 0)).and_then(|socket| {
            socket.connect(address)?;
            Ok(socket)
        });
        match connected {
            Ok(socket) => return Ok(socket),
            Err(error) => last = error,
        }
    }
    Err(last)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// 2026-01-01, as an image's source date.
    const BUILT: Utc = Utc(1_767_225_600_000_000_000);

    fn server() -> Server {
        Server::new("127.0.0.1:9".parse().unwrap(), BUILT)
    }

    /// Stands in for the kernel's randomness.
    fn fixed(bytes: &mut [u8]) -> io::Result<()> {
        bytes.fill(42);
        Ok(())
    }

    /// Lets PID 1 ask as often as it likes from `from` on, and counts what is sent in `for_s`.
    fn sent(server: &mut Server, from: Raw, for_s: i64) -> usize {
        let mut times = 0;
        for tick in 0..for_s * 10 {
            let now = from + Nanos::from_millis(tick * 100);
            let before = server.last_asked;
            server.ask(now, fixed);
            times += usize::from(server.last_asked != before);
            server.give_up();
        }
        times
    }

    #[test]
    fn a_server_is_asked_a_few_times_soon_and_then_seldom() {
        let mut server = server();
        let first = sent(&mut server, Raw(0), 20);
        assert!((8..=9).contains(&first), "{first} in the first 20 s");
        let later = sent(&mut server, Raw(0) + Nanos::from_secs(20), 160);
        assert!((9..=11).contains(&later), "{later} in the next 160 s");
    }

    #[test]
    fn a_server_that_asks_for_less_is_asked_less_and_one_that_refuses_not_at_all() {
        let mut limiting = server();
        sent(&mut limiting, Raw(0), 20);
        limiting.take_in(Err(ResponseError::Kiss(*b"RATE")));
        let later = sent(&mut limiting, Raw(0) + Nanos::from_secs(20), 160);
        assert!((4..=6).contains(&later), "{later} in 160 s");
        let mut refusing = server();
        refusing.take_in(Err(ResponseError::Kiss(*b"DENY")));
        assert_eq!(sent(&mut refusing, Raw(0), 100), 0);
    }

    #[test]
    fn an_answer_to_a_real_request_is_measured_and_used_once() {
        let host = UdpSocket::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
        let name = host.local_addr().unwrap().to_string();
        let mut server = Server::new(name.parse().unwrap(), BUILT);
        server.ask(clocks::raw(), fixed);
        let mut request = [0; PACKET_LEN];
        let (_, asker) = host.recv_from(&mut request).unwrap();
        let mut answer = request;
        answer[0] = (4 << 3) | 4;
        answer[1] = 1;
        answer[24..32].copy_from_slice(&request[40..48]);
        let now = packet::timestamp(clocks::realtime());
        answer[32..40].copy_from_slice(&now.to_be_bytes());
        answer[40..48].copy_from_slice(&now.to_be_bytes());
        host.send_to(b"too short", asker).unwrap();
        host.send_to(&answer, asker).unwrap();
        server.receive();
        assert!(server.awaited().is_none());
        let measured = server.take_measured().unwrap();
        assert!(
            (measured.at(clocks::raw()).reference - clocks::realtime()).abs() < Nanos::from_secs(5)
        );
        assert_eq!(server.take_measured(), None);
    }
    /// 13.6: the cookie used to be a clock's reading then, which a forger can guess.
    #[test]
    fn without_randomness_nothing_is_asked_until_there_is_some() {
        fn none_yet(_: &mut [u8]) -> io::Result<()> {
            Err(io::ErrorKind::WouldBlock.into())
        }
        let host = UdpSocket::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
        host.set_nonblocking(true).unwrap();
        let name = host.local_addr().unwrap().to_string();
        let mut server = Server::new(name.parse().unwrap(), BUILT);
        server.ask(Raw(0), none_yet);
        assert!(server.awaited().is_none());
        let sent = host.recv(&mut [0; PACKET_LEN]).unwrap_err();
        assert_eq!(sent.kind(), io::ErrorKind::WouldBlock);
        // That cost none of what the server may be asked.
        assert_eq!(server.free_at(Raw(0)), Some(Raw(0)));
        server.ask(Raw(0), fixed);
        assert!(server.awaited().is_some());
    }
}
