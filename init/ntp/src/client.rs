//! One round of asking all servers, and what most of them agree on.

use std::io;
use std::sync::Arc;

use noonmark_contract::config::network::{NtpConfig, NtpTask, Server as Name};
use noonmark_contract::ntp::Measurement;
use noonmark_contract::units::{Nanos, Raw};
use noonmark_linux::clocks;
use noonmark_sync::select::{Selection, select};
use rustix::event::{PollFd, PollFlags, poll};

use super::association::Setup;
use super::lookup::Bell;
use super::random::Random;
use super::server::Server;

/// How long servers may take to answer.
const ANSWER_DEADLINE: Nanos = Nanos::from_millis(1_500);

/// A round that brought nothing is repeated after this, e.g. while the network comes up ...
const PAUSE: Nanos = Nanos::from_millis(250);

/// ... for so long. PID 1 waits somewhat longer (`sync/src/ladder.rs`).
const ROUND_DEADLINE: Nanos = Nanos::from_secs(6);

/// The servers, and what was said of them last.
pub struct Client {
    config: NtpConfig,
    servers: Vec<Server>,
    bell: Bell,
    random: Random,
    /// What was agreed on last, from which it is known what time it is without the guest's clock.
    known: Option<Measurement>,
    told: Option<String>,
}

impl Client {
    /// Nothing has been asked yet.
    ///
    /// # Errors
    /// There are no more descriptors.
    pub fn new(task: NtpTask, setup: &Arc<dyn Setup>, random: Random) -> io::Result<Self> {
        let NtpTask { built, config } = task;
        let server = |name: &Name| Server::new(name.clone(), built, Arc::clone(setup));
        Ok(Self {
            servers: config.servers.iter().map(server).collect(),
            config,
            bell: Bell::new()?,
            random,
            known: None,
            told: None,
        })
    }

    /// Asks the servers, as often as they may be asked, until most agree; none where they don't in
    /// time.
    pub fn measure(&mut self) -> Option<Measurement> {
        let give_up_at = clocks::raw() + ROUND_DEADLINE;
        loop {
            self.exchange(clocks::raw());
            if let Some(measurement) = self.agree() {
                self.known = Some(measurement);
                return Some(measurement);
            }
            let now = clocks::raw();
            let free = self.servers.iter().filter_map(|server| server.free_at(now));
            let again = free.min()?.max(now + PAUSE);
            if again >= give_up_at {
                return None;
            }
            sleep(again - now, &mut []);
        }
    }

    /// Asks each server that may be asked, and takes in answers until each has answered, or the time
    /// is over. One whose name is still being looked up is asked as soon as that is done, but isn't
    /// waited for where looking it up has failed before.
    fn exchange(&mut self, began: Raw) {
        let until = began + ANSWER_DEADLINE;
        loop {
            let now = clocks::raw();
            let known = self.known.map(|known| known.at(now).reference);
            for server in &mut self.servers {
                server.prepare(now, known, &self.bell);
                server.ask(now, self.random);
                server.receive();
            }
            let mut awaited: Vec<PollFd<'_>> = self
                .servers
                .iter()
                .filter_map(Server::awaited)
                .map(|socket| PollFd::new(socket, PollFlags::IN))
                .collect();
            let is_looked_up = |server: &Server| server.is_being_looked_up(began);
            let nothing = awaited.is_empty() && !self.servers.iter().any(is_looked_up);
            let left = until - clocks::raw();
            if nothing || left <= Nanos::ZERO {
                break;
            }
            awaited.push(PollFd::new(self.bell.descriptor(), PollFlags::IN));
            sleep(left, &mut awaited);
            let rung = awaited
                .last()
                .is_some_and(|bell| !bell.revents().is_empty());
            drop(awaited);
            if rung {
                self.bell.quiet();
            }
        }
        let now = clocks::raw();
        self.servers
            .iter_mut()
            .for_each(|server| server.give_up(now));
    }

    fn agree(&mut self) -> Option<Measurement> {
        let (names, measured): (Vec<String>, Vec<Measurement>) = self
            .servers
            .iter_mut()
            .filter_map(|server| Some((server.name().to_string(), server.take_measured()?)))
            .unzip();
        if measured.is_empty() {
            return None;
        }
        let min_sources = self.config.min_sources as usize;
        let selection = select(
            &measured,
            clocks::raw(),
            min_sources,
            self.config.max_distance,
        );
        self.tell(&names, selection.as_ref());
        selection.map(|selection| selection.measurement)
    }

    /// Says who agrees and who doesn't, where that has changed.
    fn tell(&mut self, names: &[String], selection: Option<&Selection>) {
        let list = |places: &[usize]| {
            let names: Vec<&str> = places.iter().map(|&place| names[place].as_str()).collect();
            names.join(", ")
        };
        let told = match selection {
            None => format!(
                "no majority of at least {} within {} among {}",
                self.config.min_sources,
                self.config.max_distance,
                names.join(", ")
            ),
            Some(Selection {
                truechimers,
                falsetickers,
                ..
            }) if falsetickers.is_empty() => format!("using {}", list(truechimers)),
            Some(Selection {
                truechimers,
                falsetickers,
                ..
            }) => format!(
                "using {}; contradicted and not used: {}",
                list(truechimers),
                list(falsetickers)
            ),
        };
        if self.told.as_ref() != Some(&told) {
            println!("noonmark-ntp: {told}");
            self.told = Some(told);
        }
    }
}

/// Waits for one of the sockets, or for so long; never shorter than a millisecond.
fn sleep(span: Nanos, awaited: &mut [PollFd<'_>]) {
    let span = span.max(Nanos::from_millis(1));
    // EINTR is the only failure of a valid call, and the callers look at the clock again.
    let _ = poll(awaited, Some(&clocks::timespec(span)));
}

#[cfg(test)]
mod tests {
    use std::net::{Ipv4Addr, UdpSocket};
    use std::sync::Mutex;
    use std::sync::mpsc::{Receiver, Sender, channel};
    use std::thread;

    use noonmark_contract::ntp::packet::{PACKET_LEN, timestamp};
    use noonmark_contract::units::Utc;

    use super::super::association::{Association, SetupError, Unprotected};
    use super::*;

    /// 2026-01-01, as an image's source date.
    const BUILT: Utc = Utc(1_767_225_600_000_000_000);

    /// What the honest server says, whatever this machine's clock does.
    const TRUTH: Utc = Utc(1_800_000_000_000_000_000);

    /// A resolver that is dead until the test is over, for whatever is no address.
    struct DeadResolver(Mutex<Receiver<()>>);

    impl Setup for DeadResolver {
        fn at_once(&self, server: &Name) -> Option<Association> {
            Unprotected.at_once(server)
        }
        fn set_up(&self, _: &Name, _: Option<Utc>) -> Result<Association, SetupError> {
            let _ = self.0.lock().unwrap().recv();
            Err(SetupError::Unreached("dead".into()))
        }
    }

    /// Answers as a stratum-1 server until the test is over.
    fn honest() -> (String, thread::JoinHandle<()>, Sender<()>) {
        let host = UdpSocket::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
        let name = host.local_addr().unwrap().to_string();
        let (stop, stopped) = channel::<()>();
        let serve = move || {
            let mut request = [0; PACKET_LEN];
            host.set_read_timeout(Some(std::time::Duration::from_millis(50)))
                .unwrap();
            while stopped.try_recv().is_err() {
                let Ok((PACKET_LEN, asker)) = host.recv_from(&mut request) else {
                    continue;
                };
                let mut answer = [0; PACKET_LEN];
                answer[0] = (4 << 3) | 4;
                answer[1] = 1;
                answer[24..32].copy_from_slice(&request[40..48]);
                answer[32..40].copy_from_slice(&timestamp(TRUTH).to_be_bytes());
                answer[40..48].copy_from_slice(&timestamp(TRUTH).to_be_bytes());
                host.send_to(&answer, asker).unwrap();
            }
        };
        (name, thread::spawn(serve), stop)
    }

    #[test]
    fn a_dead_resolver_costs_the_round_no_more_than_a_server_that_is_silent() {
        let (honest, thread, stop) = honest();
        let (_dead_until_dropped, dead) = channel();
        let setup: Arc<dyn Setup> = Arc::new(DeadResolver(Mutex::new(dead)));
        let servers = [honest.as_str(), "a.example", "b.example"];
        let config = NtpConfig {
            servers: servers.map(|name| name.parse().unwrap()).into(),
            ..NtpConfig::default()
        };
        let task = NtpTask {
            built: BUILT,
            config,
        };
        let mut client = Client::new(task, &setup, super::super::random::kernel).unwrap();
        let measured = client.measure().expect("the honest server's time");
        // It is carried on to the round's end, while the server's clock stands still.
        let since = measured.reference - TRUTH;
        assert!(
            (-measured.distance..=ROUND_DEADLINE).contains(&since),
            "{since}"
        );
        stop.send(()).unwrap();
        thread.join().unwrap();
    }
}
