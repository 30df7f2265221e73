//! PID 1 and the guest agent: the socket between them, and what comes by it.

use noonmark_contract::agent::{Ask, SERVICE};
use noonmark_contract::record::{DetectedBy, ThawedBy};
use noonmark_contract::units::{Nanos, Raw};
use noonmark_linux::clocks;
use noonmark_sync::engine::Input;

use crate::machine::agent::Agent;

use super::Pid1;
use super::events::Watched;

/// How long the clock may take to be found right before the agent is told that it isn't.
const VERIFYING: Nanos = Nanos::from_secs(10);

impl Pid1 {
    /// Opens the socket of an image that has the agent, before that is started: each time that it is, it
    /// gets the same end. It is started once there is a port for it.
    pub(super) fn open_agent(&mut self) {
        if !self.services.has(SERVICE) {
            return;
        }
        match Agent::open() {
            Ok((agent, end)) => {
                self.agent = Some(agent);
                self.services.inputs.give(SERVICE, end);
            }
            Err(error) => self.report_failure(error.to_string()),
        }
        self.rescan_agent();
    }

    /// Looks for its port after something was plugged in or out.
    pub(super) fn rescan_agent(&mut self) {
        let Some(agent) = &mut self.agent else { return };
        match agent.rescan() {
            Ok(there) => self.services.set_absent(SERVICE, !there),
            Err(error) => self.report_failure(error.to_string()),
        }
    }

    /// The agent has sent something.
    pub(super) fn on_agent(&mut self) {
        let (process, now) = (self.services.pid(SERVICE), clocks::raw());
        let frozen = self.freeze.frozen().is_some();
        let Some(agent) = &mut self.agent else { return };
        let done = match agent.take(process, frozen, now) {
            None => return,
            Some(Ask::Verify) if self.discipline.leaves_clock_alone() => Some(Err(
                "the image leaves the clock to a program of its own".into(),
            )),
            Some(Ask::Verify) => {
                if self.boot_wait.is_none() {
                    self.discipline.drive(Input::Wake(DetectedBy::Kick));
                }
                None
            }
            Some(Ask::Freeze) => self.begin_freeze().err().map(Err),
            Some(Ask::Thaw) if self.freeze.is_thawed() => Some(Ok(0)),
            Some(Ask::Thaw) => {
                self.thaw(ThawedBy::Host);
                None
            }
            Some(Ask::Shutdown(how)) => {
                self.shut_down(how, "the host asked the guest agent for it");
                Some(Ok(0))
            }
        };
        if let (Some(outcome), Some(agent)) = (done, &mut self.agent) {
            agent.answer(outcome);
        }
    }

    /// Answers what it has asked for, once that is done or can't be.
    pub(super) fn answer_agent(&mut self, now: Raw) {
        let Some(agent) = &mut self.agent else { return };
        let Some((ask, since)) = agent.asked() else {
            return;
        };
        let outcome = match ask {
            Ask::Verify if self.discipline.is_confirmed_since(since, now) => Some(Ok(0)),
            Ask::Verify => (now >= since + VERIFYING).then(|| {
                Err(format!(
                    "no source of the guest's clock has shown within {VERIFYING} that it is right; its \
                     status record says why"
                ))
            }),
            Ask::Freeze => match self.freeze.frozen() {
                Some(count) => Some(Ok(count)),
                None => self.freeze.is_thawed().then(|| {
                    let why = self.freeze.problem();
                    Err(why.unwrap_or("it was thawed again").to_owned())
                }),
            },
            Ask::Thaw => {
                let thawed = self.freeze.is_thawed();
                thawed.then(|| Ok(self.freeze.file_systems()))
            }
            Ask::Shutdown(_) => None,
        };
        if let Some(outcome) = outcome {
            agent.answer(outcome);
        }
    }

    /// Says whether the guest is frozen.
    pub(super) fn tell_agent(&self, frozen: bool) {
        if let Some(agent) = &self.agent {
            agent.tell_frozen(frozen);
        }
    }

    /// Waits for its next question, once it is time.
    pub(super) fn watch_agent(&mut self) {
        let agent = self.agent.as_mut();
        let Some(socket) = agent.and_then(|agent| agent.wait_on(clocks::raw())) else {
            return;
        };
        if let Err(errno) = self.queue.watch_again(Watched::Agent, socket) {
            self.report_failure(format!("waiting for the guest agent: {errno}"));
        }
    }
}
