//! One time server: its association, the request that is open, and what it said.

use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, UdpSocket};
use std::sync::Arc;

use noonmark_contract::config::network::Server as Name;
use noonmark_contract::ntp::Measurement;
use noonmark_contract::ntp::packet::{self, Response, ResponseError};
use noonmark_contract::units::{Raw, Utc};
use noonmark_linux::clocks;

use super::association::{Association, Authenticity, Setup};
use super::lookup::{Bell, Lookup};
use super::pace::Pace;
use super::random::Random;

/// More datagrams than this are not the answer to one request.
const DATAGRAMS: u32 = 8;

/// The longest datagram that is read whole; a genuine answer is as long as its request.
const DATAGRAM_MAX: usize = 2_048;

/// Requests in a row without an answer, after which the server's name is looked up again: it may
/// have moved. Meanwhile the next of its addresses is tried each time.
const SILENCES: u32 = 3;

/// A server of the configuration.
pub struct Server {
    name: Name,
    /// The image's source date, from which NTP's eras are told apart.
    built: Utc,
    pace: Pace,
    lookup: Lookup,
    association: Option<Association>,
    open: Option<Open>,
    /// Somebody said of the last request that the server has forgotten its keys.
    forgotten: bool,
    silences: u32,
    measured: Option<Measurement>,
    problem: Option<String>,
}

/// A request that waits for its answer.
struct Open {
    socket: UdpSocket,
    cookie: u64,
    t1: Raw,
}

impl Server {
    /// Nothing has been asked yet.
    pub fn new(name: Name, built: Utc, setup: Arc<dyn Setup>) -> Self {
        Self {
            lookup: Lookup::new(name.clone(), setup),
            name,
            built,
            pace: Pace::default(),
            association: None,
            open: None,
            forgotten: false,
            silences: 0,
            measured: None,
            problem: None,
        }
    }

    /// Its name, for messages.
    pub fn name(&self) -> &Name {
        &self.name
    }

    /// When it is worth another look; none where it wants to be asked no more.
    pub fn free_at(&self, now: Raw) -> Option<Raw> {
        let free = self.pace.free_at(now)?;
        Some(match self.association {
            Some(_) => free,
            None => free.max(self.lookup.due_at(now)),
        })
    }

    /// Takes in what was found out of its association, and begins to find out what is missing.
    /// `known` is the time as far as servers have said it.
    pub fn prepare(&mut self, now: Raw, known: Option<Utc>, bell: &Bell) {
        match self.lookup.take(now) {
            Some(Ok(association)) => self.associate(association),
            Some(Err(problem)) => self.tell(problem),
            None => {}
        }
        let is_good = |association: &Association| {
            let protection = association.protection.as_ref();
            !protection.is_some_and(|protection| protection.is_spent())
        };
        let lasts = self.association.as_ref().is_some_and(is_good) && self.silences < SILENCES;
        if !lasts
            && self.pace.free_at(now).is_some()
            && let Some(association) = self.lookup.begin(now, known, bell)
        {
            self.associate(association);
        }
    }

    fn associate(&mut self, association: Association) {
        self.silences = 0;
        self.association = Some(association);
    }

    /// Sends a request, if it may be asked now; the outcome comes from [`Server::receive`].
    pub fn ask(&mut self, now: Raw, random: Random) {
        if self.open.is_some() || !self.pace.is_free(now) {
            return;
        }
        let Some(association) = &mut self.association else {
            return;
        };
        let request = match request(association, random) {
            Ok(request) => request,
            Err(error) => {
                self.fail(format!("not asked: {error}"));
                return;
            }
        };
        self.pace.spend(now);
        if let Err(error) = self.send(request) {
            self.silences += 1;
            self.fail(error.to_string());
        }
    }

    fn send(&mut self, (cookie, packet): (u64, Vec<u8>)) -> io::Result<()> {
        let addresses = self.association.iter().flat_map(|a| &a.addresses);
        let mut addresses: Vec<SocketAddr> = addresses.copied().collect();
        let first = self.silences as usize % addresses.len().max(1);
        addresses.rotate_left(first);
        // A new socket and so a new port for each request: one more thing that a forger would have
        // to guess.
        let socket = connect(&addresses)?;
        socket.set_nonblocking(true)?;
        let t1 = clocks::raw();
        socket.send(&packet)?;
        self.open = Some(Open { socket, cookie, t1 });
        self.forgotten = false;
        Ok(())
    }

    /// The socket to wait on, while an answer is awaited.
    pub fn awaited(&self) -> Option<&UdpSocket> {
        self.open.as_ref().map(|open| &open.socket)
    }

    /// Whether the first lookup, begun since `since`, has not ended.
    pub fn is_being_looked_up(&self, since: Raw) -> bool {
        self.lookup.is_first_since(since)
    }

    /// Takes in what has come.
    pub fn receive(&mut self) {
        let mut datagram = [0; DATAGRAM_MAX];
        for _ in 0..DATAGRAMS {
            let Some(open) = &self.open else {
                return;
            };
            let received = open.socket.recv(&mut datagram);
            let t4 = clocks::raw();
            match received {
                Ok(used) => self.take_in(&datagram[..used], t4),
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => return,
                Err(error) => {
                    self.silences += 1;
                    self.fail(error.to_string());
                }
            }
        }
    }

    fn take_in(&mut self, datagram: &[u8], t4: Raw) {
        let Some(open) = &self.open else {
            return;
        };
        let (cookie, t1) = (open.cookie, open.t1);
        let answer = packet::answer(datagram, cookie, self.built);
        // Forged, or the late answer to an earlier request; the right one may follow.
        if let Err(ResponseError::Unasked | ResponseError::Malformed) = answer {
            return;
        }
        let protection = self
            .association
            .as_mut()
            .and_then(|a| a.protection.as_mut());
        if let Some(protection) = protection {
            match protection.check(datagram) {
                Authenticity::Genuine => {}
                Authenticity::Unproven => return,
                // That is not proven either: a genuine answer may follow (RFC 8915, 5.7).
                Authenticity::Forgotten => {
                    self.forgotten = true;
                    return;
                }
            }
        }
        match answer.and_then(|answer| self.measure(t1, t4, &answer)) {
            Ok(measurement) => {
                self.open = None;
                self.silences = 0;
                self.problem = None;
                self.measured = Some(measurement);
            }
            Err(refusal) => {
                if let ResponseError::Kiss(code) = refusal {
                    self.pace.kissed(code);
                }
                self.silences = 0;
                self.fail(refusal.to_string());
            }
        }
    }

    fn measure(
        &mut self,
        t1: Raw,
        t4: Raw,
        answer: &Response,
    ) -> Result<Measurement, ResponseError> {
        let measured = Measurement::new(t1, t4, answer)?;
        let protection = self
            .association
            .as_ref()
            .and_then(|a| a.protection.as_ref());
        match protection {
            Some(protection) if !protection.is_valid_at(measured.reference) => {
                Err(ResponseError::Impossible)
            }
            _ => Ok(measured),
        }
    }

    /// Nothing more is expected of the last request.
    pub fn give_up(&mut self, now: Raw) {
        if self.open.is_none() {
            return;
        }
        self.silences += 1;
        if self.forgotten {
            self.association = None;
            self.lookup.leave_alone(now);
            self.fail("it has forgotten its keys; new ones are asked for".into());
        } else {
            self.fail("no answer".into());
        }
    }

    fn fail(&mut self, problem: String) {
        self.open = None;
        self.tell(problem);
    }

    fn tell(&mut self, problem: String) {
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

/// A request and its cookie. The cookie is what tells an answer from a forgery; where it can't be
/// random, as before the kernel has gathered any randomness, nothing is asked rather than something
/// guessable.
fn request(association: &mut Association, random: Random) -> io::Result<(u64, Vec<u8>)> {
    let mut cookie = [0; 8];
    random(&mut cookie)?;
    let cookie = u64::from_ne_bytes(cookie);
    let mut packet = packet::request(cookie).to_vec();
    if let Some(protection) = &mut association.protection {
        protection.protect(&mut packet, random)?;
    }
    Ok((cookie, packet))
}

/// A socket to the first of the addresses that there is a route to.
fn connect(addresses: &[SocketAddr]) -> io::Result<UdpSocket> {
    let mut last = io::Error::other("it has no address");
    for address in addresses {
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
mod tests;
