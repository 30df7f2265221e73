//! A machine under experiment: what it is asked, and what it and its PID 1 tell.

use std::time::{Duration, Instant};

use noonmark_contract::record::{EventRecord, Record, Status};
use noonmark_contract::testport::{
    self, Answer, Ask, Observation, Outcome, Query, Request, Steady, Watch,
};
use noonmark_contract::units::{Nanos, Raw, Utc};
use noonmark_qemu::time_server::host_utc;
use noonmark_qemu::{Machine, MachineError, Subscription};

use crate::fault::Plan;

use super::outcome::{ExperimentError, Progress, SampleError};
use super::repair::RepairRecord;

/// How long PID 1's records may come after the observer's answer. They are on their way by then,
/// so this only passes where there are none.
const RECORDS_DEADLINE: Duration = Duration::from_secs(2);

/// How long load takes to be under way.
pub(crate) const LOAD_WARM_UP: Duration = Duration::from_secs(1);

/// Status records between the first sync and the faults, so that PID 1's idle cost is measured
/// over a whole interval.
const IDLE_RECORDS: u32 = 2;

/// What is waited for after most requests.
const ANSWER: &str = "the fault program's answer";

/// The version of what goes over the test port.
const VERSION: u32 = 1;

/// The guest's time, asked for and received at two instants of the host's.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Exchange {
    pub(crate) sent: Utc,
    pub(crate) received: Utc,
    pub(crate) raw: Raw,
    pub(crate) realtime: Utc,
    /// How far apart the guest's readings of its two clocks may be.
    pub(crate) width: Nanos,
}

/// The machine and its lines to this program.
pub(crate) struct Session<'a> {
    pub(crate) machine: &'a mut Machine,
    pub(crate) plan: &'a Plan,
    /// How long a clock is watched after a fault.
    pub(crate) recovery: Duration,
    /// Whether PID 1 keeps the clock, and so tells of each repair.
    kept_by_init: bool,
    records: Subscription,
    requests: u64,
}

impl<'a> Session<'a> {
    pub(crate) fn new(machine: &'a mut Machine, plan: &'a Plan) -> Self {
        Self {
            records: machine.subscribe(),
            recovery: machine.timeouts().recovery(),
            machine,
            plan,
            kept_by_init: true,
            requests: 0,
        }
    }

    /// With a peer in the guest, whose clock is watched for `recovery` after a fault. Requests are
    /// counted from `requests` on.
    pub(crate) fn with_peer(
        machine: &'a mut Machine,
        plan: &'a Plan,
        recovery: Duration,
        requests: u64,
    ) -> Self {
        Self {
            recovery,
            kept_by_init: false,
            requests,
            ..Self::new(machine, plan)
        }
    }

    /// How many requests the fault program has had.
    pub(crate) fn requests(&self) -> u64 {
        self.requests
    }

    /// Forgets a machine that another has taken the place of.
    pub(crate) fn start_over(&mut self) {
        self.records = self.machine.subscribe();
    }

    /// Waits for the first sync, the fault program, and a quiet moment.
    pub(crate) fn wait_ready(
        &mut self,
        progress: &mut dyn FnMut(Progress<'_>),
    ) -> Result<Status, ExperimentError> {
        let mut status = self
            .machine
            .wait_synced(&self.records, |record| progress(Progress::Booting(record)))?;
        progress(Progress::Synced(&status));
        let deadline = Instant::now() + self.machine.timeouts().sync();
        let awaited = "the fault program's greeting";
        while self.machine.test_answer(awaited, deadline)?.outcome != Outcome::Ready {}
        for _ in 0..IDLE_RECORDS {
            status = self.next_status(deadline)?;
        }
        Ok(status)
    }

    pub(crate) fn next_status(&mut self, deadline: Instant) -> Result<Status, MachineError> {
        loop {
            let awaited = "the next status record";
            match self.machine.record(&self.records, awaited, deadline)? {
                Record::Status(status) => return Ok(status),
                Record::Event(_) => {}
            }
        }
    }

    /// Forgets the records that have come so far: they belong to no sample.
    pub(crate) fn forget_records(&mut self) {
        while self.records.next(Instant::now()).is_ok() {}
    }

    /// An event that has come, if there is one.
    pub(crate) fn event(&mut self) -> Option<EventRecord> {
        while let Ok(record) = self.records.next(Instant::now()) {
            if let Record::Event(event) = record {
                return Some(event);
            }
        }
        None
    }

    /// PID 1's records of the disruption just done; nothing where it does not keep the clock.
    pub(crate) fn repair_record(&mut self) -> Result<RepairRecord, MachineError> {
        let mut repair = RepairRecord::default();
        if !self.kept_by_init {
            return Ok(repair);
        }
        let deadline = Instant::now() + RECORDS_DEADLINE;
        while !repair.is_complete() {
            let record = match self
                .machine
                .record(&self.records, "PID 1's record", deadline)
            {
                // That there is no record is a finding, not a failure.
                Err(MachineError::Deadline { .. }) => break,
                other => other?,
            };
            if let Record::Event(event) = record {
                repair.take(&event.event);
            }
        }
        Ok(repair)
    }

    /// Has the fault program disturb the clock and watch it for `settle` once it is right.
    pub(crate) fn observe(
        &mut self,
        fault: testport::Fault,
        settle: Nanos,
    ) -> Result<Observation, SampleError> {
        self.requests += 1;
        let recovery = self.recovery;
        self.machine.send_test(&Request {
            v: VERSION,
            id: self.requests,
            fault,
            tolerance_ns: self.plan.tolerance,
            settle_ns: settle,
            deadline_ms: millis(recovery),
        })?;
        match self.answer(ANSWER, recovery)? {
            Outcome::Observed(observation) => Ok(observation),
            other => Err(unexpected(other)),
        }
    }

    /// Has the fault program compare the undisturbed clock with ptp_kvm's for `span`.
    pub(crate) fn watch(&mut self, span: Duration, every: Duration) -> Result<Steady, SampleError> {
        self.requests += 1;
        self.machine.send_test(&Request {
            v: VERSION,
            id: self.requests,
            fault: testport::Fault::Watch(Watch {
                span_ms: millis(span),
                every_ms: millis(every),
            }),
            tolerance_ns: Nanos::ZERO,
            settle_ns: Nanos::ZERO,
            deadline_ms: 0,
        })?;
        match self.answer("what the clock's observer has seen", span)? {
            Outcome::Steady(seen) => Ok(seen),
            other => Err(unexpected(other)),
        }
    }

    /// Asks the fault program for something that it does at once.
    pub(crate) fn ask(&mut self, ask: Ask) -> Result<Outcome, SampleError> {
        self.requests += 1;
        self.machine.send_query(&Query {
            v: VERSION,
            id: self.requests,
            ask,
        })?;
        self.answer(ANSWER, Duration::ZERO)
    }

    /// Gives the fault program an order.
    pub(crate) fn order(&mut self, ask: Ask) -> Result<(), SampleError> {
        match self.ask(ask)? {
            Outcome::Done => Ok(()),
            other => Err(unexpected(other)),
        }
    }

    /// Ends a vigil.
    pub(crate) fn end_vigil(&mut self) -> Result<testport::Vigil, SampleError> {
        match self.ask(Ask::EndVigil)? {
            Outcome::Kept(vigil) => Ok(vigil),
            other => Err(unexpected(other)),
        }
    }

    /// What the guest's clocks say, between two instants of the host's.
    pub(crate) fn exchange(&mut self) -> Result<Exchange, SampleError> {
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
    fn answer(
        &mut self,
        awaited: &'static str,
        at_least: Duration,
    ) -> Result<Outcome, SampleError> {
        let deadline = Instant::now() + at_least + self.machine.timeouts().answer();
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

fn millis(span: Duration) -> u64 {
    u64::try_from(span.as_millis()).unwrap_or(u64::MAX)
}

/// An answer that does not fit what was asked.
pub(crate) fn unexpected(outcome: Outcome) -> SampleError {
    SampleError::Refused(match outcome {
        Outcome::Error(why) => why,
        Outcome::Ready => "the fault program started over in the middle of it".to_owned(),
        other => format!("the fault program answered something else: {other:?}"),
    })
}
