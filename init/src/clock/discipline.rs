//! Carries out what the engine wants done to the clock: readings, steps, frequency.

mod outside;

use std::mem;
use std::path::Path;

use noonmark_contract::config::ClockConfig;
use noonmark_contract::record::Event;
use noonmark_contract::sample::{Local, ReadFailure, Reading, Source};
use noonmark_contract::units::{Nanos, Raw, Utc};
use noonmark_linux::clocks::{self, Sandwich};
use noonmark_linux::log;
use noonmark_linux::phc::probing::Probing;
use noonmark_linux::phc::{self, Phc};
use noonmark_linux::sys;
use noonmark_sync::engine::{Action, Engine, Glimpse, Input};
use rustix::io::Errno;
use rustix::process::Pid;

use crate::boot::modules::ModuleError;
use crate::status::clockbound::ClockBound;

use super::kernel;
use super::ntp_socket::{Datagram, NtpSocket};
use super::rtc;
use super::timechannel::TimeChannel;
use super::vmclock::{ScaleError, VmClock};

/// Where the kernel makes device files.
const DEV: &str = "/dev";

/// How many rounds of actions and their outcomes one input may lead to. A repair takes a handful.
const ROUNDS_MAX: usize = 64;

/// When the clock is looked at again after more rounds than that.
const RETRY: Nanos = Nanos::from_millis(20);

/// Room for actions, so that no tick allocates.
const ACTIONS: usize = 16;

/// A guest clock is read this often for [`Action::ReadLocal`], and the tightest counts.
const LOCAL_READS: usize = 3;

/// The engine, and everything that it can reach.
#[derive(Debug)]
pub struct Discipline {
    engine: Engine,
    ladder: Vec<Source>,
    /// The source followed last.
    followed: Option<Source>,
    rtcsync: bool,
    phc_tai_offset_s: i32,
    phcs: Vec<Phc>,
    /// PHCs that are not to be read yet.
    probing: Probing,
    vmclock: Option<VmClock>,
    /// The host's time channel.
    pub channel: TimeChannel,
    /// The NTP client's samples, in an image that has one.
    pub ntp_socket: Option<NtpSocket>,
    /// Where programs of the guest find the time's bound, in an image that wants that.
    clockbound: Option<ClockBound>,
    /// Sources whose driver did not load, and why.
    refusals: Vec<(Source, String)>,
    actions: Vec<Action>,
    batch: Vec<Action>,
    emitted: Vec<Event>,
    wake_at: Raw,
    synced_at: Option<Raw>,
}

impl Discipline {
    /// Nothing is read yet.
    #[must_use]
    pub fn new(config: ClockConfig, built: Utc, now: Raw) -> Self {
        Self {
            ladder: config.sources.clone(),
            followed: None,
            rtcsync: config.rtcsync,
            phc_tai_offset_s: config.phc_tai_offset_s,
            engine: Engine::new(config, built, now),
            phcs: Vec::new(),
            probing: Probing::default(),
            vmclock: None,
            channel: TimeChannel::new(built, now),
            ntp_socket: None,
            clockbound: None,
            refusals: Vec::new(),
            actions: Vec::with_capacity(ACTIONS),
            batch: Vec::with_capacity(ACTIONS),
            emitted: Vec::with_capacity(ACTIONS),
            wake_at: Raw(i64::MAX),
            synced_at: None,
        }
    }

    /// Changes the engine's step threshold, its watch interval and the least and the most time
    /// between two polls of time servers; the ladder stays.
    pub fn set_pace(&mut self, step: Nanos, watch: Nanos, polls: [Nanos; 2]) {
        self.engine.set_pace(step, watch);
        self.engine.set_polls(polls[0], polls[1]);
    }

    /// The engine, to report from.
    #[must_use]
    pub fn engine(&self) -> &Engine {
        &self.engine
    }

    /// Whether the ladder names a PHC that is there.
    #[must_use]
    pub fn has_phc(&self) -> bool {
        !self.phcs.is_empty()
    }

    /// Whether the ladder names the host's time channel.
    #[must_use]
    pub fn wants_host(&self) -> bool {
        self.ladder.contains(&Source::Host)
    }

    /// Why a source's driver did not load, if it didn't.
    #[must_use]
    pub fn refusal(&self, source: &Source) -> Option<&str> {
        let found = self.refusals.iter().find(|(refused, _)| refused == source);
        found.map(|(_, why)| why.as_str())
    }

    /// Remembers why a module is not in, for the source that it would have served.
    pub fn note_module_error(&mut self, error: &ModuleError) {
        if let Some(source) = Source::served_by(error.module()) {
            self.note_refusal(source, error.to_string());
        }
    }

    fn note_refusal(&mut self, source: Source, why: String) {
        if self.refusal(&source) != Some(why.as_str()) {
            log!(Warning, "source {source}: {why}");
            self.refusals.retain(|(refused, _)| *refused != source);
            self.refusals.push((source, why));
        }
    }

    /// PHCs that are not to be read yet.
    pub fn probing_mut(&mut self) -> &mut Probing {
        &mut self.probing
    }

    /// Looks for PHCs again.
    pub fn rescan_phcs(&mut self) {
        let (class, dev) = (Path::new(phc::CLASS), Path::new(DEV));
        let (found, problems) = phc::discover(class, dev, &self.ladder, &self.probing);
        for problem in problems {
            log!(Warning, "PHC {problem}");
        }
        for phc in &found {
            if !self.phcs.iter().any(|old| old.node() == phc.node()) {
                log!(
                    Info,
                    "source {}: {} ({})",
                    phc.source(),
                    phc.node(),
                    phc.name()
                );
            }
        }
        self.phcs = found;
    }

    /// Looks for a VMClock; gives it where it is new.
    pub fn rescan_vmclock(&mut self) -> Option<&VmClock> {
        if self.vmclock.is_some() {
            return None;
        }
        match VmClock::find(Path::new(DEV)) {
            Ok(found) => self.vmclock = found,
            Err(why) => self.note_refusal(Source::Vmclock, why),
        }
        let vmclock = self.vmclock.as_mut()?;
        if self.clockbound.is_some()
            && let Err(error) = vmclock.share()
        {
            log!(
                Warning,
                "{}: {error}; no service can read it",
                vmclock.node()
            );
        }
        log!(Info, "{}: its disruption marker is watched", vmclock.node());
        self.vmclock.as_ref()
    }

    /// The machine's VMClock, if it has one.
    pub fn vmclock_mut(&mut self) -> Option<&mut VmClock> {
        self.vmclock.as_mut()
    }

    /// When the engine wants to be woken, or a PHC may be read that had begun before.
    #[must_use]
    pub fn wake_at(&self) -> Raw {
        self.probing
            .deadline()
            .map_or(self.wake_at, |at| at.min(self.wake_at))
    }

    /// When the clock was first verified to be right; none before that.
    #[must_use]
    pub fn synced_at(&self) -> Option<Raw> {
        self.synced_at
    }

    /// The events that the engine has emitted since the last call.
    pub fn take_emitted(&mut self, into: &mut Vec<Event>) {
        into.append(&mut self.emitted);
    }

    /// Tells the engine what happened and carries out all that follows from it.
    pub fn drive(&mut self, input: Input) {
        // An image without sources leaves the clock to another program: nothing is read, set, or
        // woken up for.
        if self.ladder.is_empty() {
            return;
        }
        self.run_engine(input);
        let now = clocks::raw();
        self.channel.ask_clock(now, false);
        self.publish_bound(now);
    }

    fn run_engine(&mut self, input: Input) {
        let now = clocks::raw();
        self.engine.note_ticks(now, sys::counter());
        self.engine.handle(now, input, &mut self.actions);
        for _ in 0..ROUNDS_MAX {
            if self.actions.is_empty() {
                return;
            }
            mem::swap(&mut self.actions, &mut self.batch);
            let mut batch = mem::take(&mut self.batch);
            for action in batch.drain(..) {
                if let Some(outcome) = self.carry_out(action) {
                    self.engine
                        .handle(clocks::raw(), outcome, &mut self.actions);
                }
            }
            self.batch = batch;
        }
        self.give_up();
    }

    /// Lets go of actions that are not to be carried out any more; what they were for is begun anew at
    /// the next tick.
    fn give_up(&mut self) {
        for action in self.actions.drain(..) {
            if let Action::Emit(event) = action {
                self.emitted.push(event);
            }
        }
        let now = clocks::raw();
        self.engine.abandon(now);
        self.wake_at = now + RETRY;
        self.emitted.push(Event::Failure {
            what: format!("the clock logic asked for more than {ROUNDS_MAX} rounds of actions"),
        });
    }

    /// Takes a watch tick that comes at `now` by a glance. Gives its instant if all is as expected, and
    /// nothing else is to be done; none where the tick takes [`Discipline::drive`].
    pub fn glance(&mut self, now: Raw) -> Option<Raw> {
        let (at, next) = match self.engine.glimpse(now)? {
            Glimpse::Local => {
                let local = local();
                (local.raw, self.engine.glance_local(&local)?)
            }
            Glimpse::Reading(source) => {
                let reading = self.read_phc(&source, now).ok()?;
                (reading.raw, self.engine.glance(&reading)?)
            }
        };
        self.wake_at = next;
        Some(at)
    }

    /// Lets the time channel go on; what comes of it goes to the engine.
    pub fn proceed_channel(&mut self) {
        if let Some(outcome) = self.channel.proceed() {
            self.drive(Input::Read(Source::Host, outcome));
        }
    }

    /// Takes in what the NTP client, which is process `client`, has sent; true where it has just
    /// come, so that the source can be tried.
    pub fn take_samples(&mut self, client: Option<Pid>) -> bool {
        let mut has_come = false;
        if let Some(socket) = &mut self.ntp_socket {
            socket.begin();
        }
        while let Some(datagram) = self
            .ntp_socket
            .as_mut()
            .and_then(|socket| socket.next(client))
        {
            match datagram {
                Datagram::Hello => has_come = true,
                Datagram::Sample(reading) => self.drive(Input::Read(Source::Ntp, Ok(reading))),
                Datagram::Invalid => {}
            }
        }
        has_come
    }

    fn carry_out(&mut self, action: Action) -> Option<Input> {
        match action {
            Action::Read(source) => self.read(source),
            Action::ReadLocal => Some(Input::Local(local())),
            Action::ReadKernel => Some(Input::Kernel(kernel::read())),
            Action::Step(offset) => {
                self.distrust();
                Some(Input::Adjusted(kernel::step(offset)))
            }
            Action::SetFrequency(clock) => Some(Input::Adjusted(kernel::set_frequency(clock))),
            Action::WakeAt(at) => {
                self.wake_at = at;
                None
            }
            Action::Emit(event) => {
                match &event {
                    Event::Synced { source, .. } => {
                        self.synced_at.get_or_insert_with(clocks::raw);
                        self.followed = Some(source.clone());
                    }
                    Event::Source { to, .. } => self.followed = to.clone().or(self.followed.take()),
                    // A host that has set its clock, or another host, has something new to say.
                    Event::Recovered { .. } => self.channel.ask_clock(clocks::raw(), true),
                    _ => {}
                }
                self.emitted.push(event);
                None
            }
        }
    }

    fn read(&mut self, source: Source) -> Option<Input> {
        let outcome = match source {
            Source::Host => {
                let exchanges = self.engine.burst_exchanges();
                self.channel.start(exchanges, clocks::raw());
                self.channel.proceed()?
            }
            Source::Rtc => rtc::read(),
            // The answer comes as a sample, which is a reading like any other, or not at all, and
            // then the engine's own deadline tells.
            Source::Ntp => match self.ntp_socket.as_mut().map(NtpSocket::ask) {
                Some(Ok(())) => return None,
                Some(Err(why)) => Err(why),
                None => Err(ReadFailure::Absent),
            },
            ref phc => self.read_phc(phc, clocks::raw()),
        };
        Some(Input::Read(source, outcome))
    }

    fn read_phc(&mut self, source: &Source, now: Raw) -> Result<Reading, ReadFailure> {
        let phc = self.phcs.iter_mut().find(|phc| phc.source() == source);
        let reading = phc.ok_or(ReadFailure::Absent)?.read(now)?;
        if *source == Source::Vmclock {
            return self.put_on_utc(reading);
        }
        if matches!(source, Source::Phc(_)) {
            let ahead = Nanos::from_secs(self.phc_tai_offset_s.into());
            return Ok(Reading {
                reference: reading.reference - ahead,
                ..reading
            });
        }
        Ok(reading)
    }

    /// A VMClock's PHC counts TAI on some kernels and UTC on others; which, tells the device's page.
    fn put_on_utc(&mut self, reading: Reading) -> Result<Reading, ReadFailure> {
        let utc = match &self.vmclock {
            Some(vmclock) => vmclock.utc(Nanos(reading.reference.0)),
            None => Err(ScaleError::NoPage),
        };
        match utc {
            Ok(reference) => Ok(Reading {
                reference,
                ..reading
            }),
            Err(why) => {
                self.note_refusal(Source::Vmclock, why.to_string());
                Err(ReadFailure::Refused(Errno::OPNOTSUPP.raw_os_error()))
            }
        }
    }
}

fn local() -> Local {
    let sandwich = Sandwich::tightest(LOCAL_READS);
    Local {
        realtime: sandwich.realtime,
        raw: sandwich.raw(),
        bound: Nanos(sandwich.width().0 / 2 + 1),
    }
}

#[cfg(test)]
mod tests {
    use noonmark_contract::record::DetectedBy;

    use super::*;

    #[test]
    fn a_source_without_device_is_absent() {
        let mut discipline = Discipline::new(ClockConfig::default(), Utc(0), Raw(0));
        let answer = discipline.carry_out(Action::Read(Source::Kvm));
        assert_eq!(
            answer,
            Some(Input::Read(Source::Kvm, Err(ReadFailure::Absent)))
        );
    }

    #[test]
    fn without_sources_the_clock_is_left_alone() {
        let config = ClockConfig {
            sources: Vec::new(),
            ..ClockConfig::default()
        };
        let mut discipline = Discipline::new(config, Utc(0), Raw(0));
        discipline.drive(Input::Wake(DetectedBy::Boot));
        discipline.drive(Input::Wake(DetectedBy::CancelOnSet));
        assert_eq!(discipline.wake_at(), Raw(i64::MAX));
        assert_eq!(discipline.emitted, []);
    }

    #[test]
    fn a_module_that_did_not_load_explains_its_source() {
        let mut discipline = Discipline::new(ClockConfig::default(), Utc(0), Raw(0));
        discipline.note_module_error(&ModuleError::Refused {
            name: "ptp_kvm".into(),
            errno: Errno::OPNOTSUPP,
        });
        let why = discipline.refusal(&Source::Kvm).unwrap();
        assert!(why.contains("not a KVM guest"), "{why}");
        assert_eq!(discipline.refusal(&Source::Host), None);
    }
}
