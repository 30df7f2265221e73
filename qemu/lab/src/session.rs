//! A machine under experiment: what it is asked, and what it and its PID 1 tell.

use std::time::{Duration, Instant};

use noonmark_contract::record::{EventRecord, Record, Status};
use noonmark_contract::testport::{self, Answer, Ask, Observation, Outcome, Query, Request};
use noonmark_contract::units::{Nanos, Raw, Utc};
use noonmark_qemu::hub::Feed;
use noonmark_qemu::time_server::host_utc;
use noonmark_qemu::vm::error::MachineError;
use noonmark_qemu::vm::machine::Machine;

use super::account::Account;
use super::plan::Plan;
use super::run::{ExperimentError, Progress};

/// How long PID 1's records may come after the observer's answer. They are on their way by then,
/// so this only passes where there are none.
const RECORDS_DEADLINE: Duration = Duration::from_secs(2);

/// How long load takes to be under way.
pub(super) const LOAD_WARM_UP: Duration = Duration::from_secs(1);

/// Status records between the first sync and the faults, so that PID 1's idle cost is measured
/// over a whole interval.
const IDLE_RECORDS: u32 = 2;

/// The version of what goes over the test port.
const VERSION: u32 = 1;

/// Why a sample was not taken.
#[derive(Debug)]
pub(super) enum Trouble {
    /// The experiment can't go on.
    Fatal(ExperimentError),
    /// This fault can't be done here; why.
    Refused(String),
}

impl Trouble {
    /// The same where there is nothing else to go on with.
    pub(super) fn into_error(self) -> ExperimentError {
        match self {
            Self::Fatal(error) => error,
            Self::Refused(why) => ExperimentError::Refused(why),
        }
    }
}

impl<E: Into<ExperimentError>> From<E> for Trouble {
    fn from(error: E) -> Self {
        Self::Fatal(error.into())
    }
}

/// The guest's time, asked for and received at two instants of the host's.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Exchange {
    pub(super) sent: Utc,
    pub(super) received: Utc,
    pub(super) raw: Raw,
    pub(super) realtime: Utc,
    /// How far apart the guest's readings of its two clocks may be.
    pub(super) width: Nanos,
}

/// The machine and its lines to this program.
pub(super) struct Session<'a> {
    pub(super) machine: &'a mut Machine,
    pub(super) plan: &'a Plan,
    /// How long a clock is watched after a fault.
    pub(super) recovery: Duration,
    keeper: Keeper,
    feed: Feed,
    requests: u64,
}

/// Who keeps the guest's clock.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Keeper {
    /// PID 1, which tells of each repair.
    Init,
    /// Another program, of whose repairs nobody tells.
    Peer,
}

impl<'a> Session<'a> {
    pub(super) fn new(machine: &'a mut Machine, plan: &'a Plan) -> Self {
        Self {
            feed: machine.feed(),
            recovery: machine.patience().recovery(),
            machine,
            plan,
            keeper: Keeper::Init,
            requests: 0,
        }
    }

    /// With a peer in the guest, whose clock is watched for `recovery` after a fault. Requests are
    /// counted from `requests` on.
    pub(super) fn with_peer(
        machine: &'a mut Machine,
        plan: &'a Plan,
        recovery: Duration,
        requests: u64,
    ) -> Self {
        Self {
            recovery,
            keeper: Keeper::Peer,
            requests,
            ..Self::new(machine, plan)
        }
    }

    /// How many requests the fault program has had.
    pub(super) fn requests(&self) -> u64 {
        self.requests
    }

    /// Forgets a machine that another has taken the place of.
    pub(super) fn start_over(&mut self) {
        self.feed = self.machine.feed();
    }

    /// Waits for the first sync, the fault program, and a quiet moment.
    pub(super) fn wait_ready(
        &mut self,
        progress: &mut dyn FnMut(Progress<'_>),
    ) -> Result<Status, ExperimentError> {
        let mut status = self
            .machine
            .wait_synced(&self.feed, |record| progress(Progress::Booting(record)))?;
        progress(Progress::Synced(&status));
        let deadline = Instant::now() + self.machine.patience().sync();
        let awaited = "the fault program's greeting";
        while self.machine.test_answer(awaited, deadline)?.outcome != Outcome::Ready {}
        for _ in 0..IDLE_RECORDS {
            status = self.next_status(deadline)?;
        }
        Ok(status)
    }

    pub(super) fn next_status(&mut self, deadline: Instant) -> Result<Status, MachineError> {
        loop {
            let awaited = "the next status record";
            match self.machine.record(&self.feed, awaited, deadline)? {
                Record::Status(status) => return Ok(status),
                Record::Event(_) => {}
            }
        }
    }

    /// Forgets the records that have come so far: they belong to no sample.
    pub(super) fn forget_records(&mut self) {
        while self.feed.next(Instant::now()).is_ok() {}
    }

    /// An event that has come, if there is one.
    pub(super) fn event(&mut self) -> Option<EventRecord> {
        while let Ok(record) = self.feed.next(Instant::now()) {
            if let Record::Event(event) = record {
                return Some(event);
            }
        }
        None
    }

    /// PID 1's records of the disruption just done; nothing where it does not keep the clock.
    pub(super) fn account(&mut self) -> Result<Account, MachineError> {
        let mut account = Account::default();
        if self.keeper == Keeper::Peer {
            return Ok(account);
        }
        let deadline = Instant::now() + RECORDS_DEADLINE;
        while !account.is_complete() {
            let record = match self.machine.record(&self.feed, "PID 1's record", deadline) {
                // That there is no record is a finding, not a failure.
                Err(MachineError::Deadline { .. }) => break,
                other => other?,
            };
            if let Record::Event(event) = record {
                account.take(&event.event);
            }
        }
        Ok(account)
    }

    /// Has the fault program disturb the clock and watch it for `settle` once it is right.
    pub(super) fn observe(
        &mut self,
        fault: testport::Fault,
        settle: Nanos,
    ) -> Result<Observation, Trouble> {
        self.requests += 1;
        let recovery = self.recovery;
        self.machine.send_test(&Request {
            v: VERSION,
            id: self.requests,
            fault,
            tolerance_ns: self.plan.tolerance,
            settle_ns: settle,
            deadline_ms: u64::try_from(recovery.as_millis()).unwrap_or(u64::MAX),
        })?;
        match self.answer(recovery)? {
            Outcome::Observed(observation) => Ok(observation),
            other => Err(unexpected(other)),
        }
    }

    /// Asks the fault program for something that it does at once.
    pub(super) fn ask(&mut self, ask: Ask) -> Result<Outcome, Trouble> {
        self.requests += 1;
        self.machine.send_query(&Query {
            v: VERSION,
            id: self.requests,
            ask,
        })?;
        self.answer(Duration::ZERO)
    }

    /// Gives the fault program an order.
    pub(super) fn order(&mut self, ask: Ask) -> Result<(), Trouble> {
        match self.ask(ask)? {
            Outcome::Done => Ok(()),
            other => Err(unexpected(other)),
        }
    }

    /// Ends a vigil.
    pub(super) fn end_vigil(&mut self) -> Result<testport::Vigil, Trouble> {
        match self.ask(Ask::EndVigil)? {
            Outcome::Kept(vigil) => Ok(vigil),
            other => Err(unexpected(other)),
        }
    }

    /// What the guest's clocks say, between two instants of the host's.
    pub(super) fn exchange(&mut self) -> Result<Exchange, Trouble> {
        let sent = host_utc();
        let outcome = self.ask(Ask::Time)?;
        let received = host_utc();
        match outcome {
            Outcome::Time(clocks) => Ok(Exchange {
                sent,
                received,
                raw: clocks.raw,
                realtime: clocks.realtime,
                width: clocks.width_ns,
            }),
            other => Err(unexpected(other)),
        }
    }

    /// The answer to the last request, which takes `at_least` so long.
    fn answer(&mut self, at_least: Duration) -> Result<Outcome, Trouble> {
        let deadline = Instant::now() + at_least + self.machine.patience().answer();
        let awaited = "the fault program's answer";
        let Answer { id, outcome, .. } = self.machine.test_answer(awaited, deadline)?;
        if id != self.requests {
            return Err(ExperimentError::WrongAnswer {
                expected: self.requests,
                got: id,
            }
            .into());
        }
        Ok(outcome)
    }
}

/// An answer that does not fit what was asked.
pub(super) fn unexpected(outcome: Outcome) -> Trouble {
    Trouble::Refused(match outcome {
        Outcome::Error(why) => why,
        Outcome::Ready => "the fault program started over in the middle of it".to_owned(),
        other => format!("the fault program answered something else: {other:?}"),
    })
}
