//! One round of asking all servers, and what most of them agree on.

use noonmark_contract::config::network::{NtpConfig, NtpTask, Server as Name};
use noonmark_contract::ntp::Measurement;
use noonmark_contract::units::{Nanos, Raw};
use noonmark_linux::clocks;
use noonmark_sync::select::{Selection, select};
use rustix::event::{PollFd, PollFlags, poll};

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
    random: Random,
    told: Option<String>,
}

impl Client {
    /// Nothing has been asked yet.
    pub fn new(task: NtpTask, random: Random) -> Self {
        let NtpTask { built, config } = task;
        let server = |name: &Name| Server::new(name.clone(), built);
        Self {
            servers: config.servers.iter().map(server).collect(),
            config,
            random,
            told: None,
        }
    }

    /// Asks the servers, as often as they may be asked, until most agree; none where they don't in
    /// time.
    pub fn measure(&mut self) -> Option<Measurement> {
        let give_up_at = clocks::raw() + ROUND_DEADLINE;
        loop {
            let now = clocks::raw();
            for server in &mut self.servers {
                server.ask(now, self.random);
            }
            self.await_answers(now + ANSWER_DEADLINE);
            if let Some(measurement) = self.agree() {
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

    /// Takes in answers until each server has answered, or the time is over.
    fn await_answers(&mut self, until: Raw) {
        loop {
            self.servers.iter_mut().for_each(Server::receive);
            let mut awaited: Vec<PollFd<'_>> = self
                .servers
                .iter()
                .filter_map(Server::awaited)
                .map(|socket| PollFd::new(socket, PollFlags::IN))
                .collect();
            let left = until - clocks::raw();
            if awaited.is_empty() || left <= Nanos::ZERO {
                break;
            }
            sleep(left, &mut awaited);
        }
        self.servers.iter_mut().for_each(Server::give_up);
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
