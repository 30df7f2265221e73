//! PID 1's loop: waits, serves the clock first, then everybody else, and never ends.

mod agent;
mod configuration;
mod events;
mod freeze;
mod ntp;
mod reporting;
mod services;
mod vmclock;

use events::{Event, EventQueue, Watched};
use noonmark_contract::config::BootConfig;
use noonmark_contract::config::values::SysctlName;
use noonmark_contract::record::{self, DetectedBy, Seed, SeedState};
use noonmark_contract::units::{Nanos, Raw};
use noonmark_linux::clocks;
use noonmark_sync::engine::Input;
use rustix::io::Errno;

use crate::boot::disks::DataDisks;
use crate::boot::early::{self, Started};
use crate::boot::runtime_dir::RuntimeDir;
use crate::boot::{config, modules, mounts};
use crate::clock::clock_set::ClockSetTimer;
use crate::clock::discipline::Discipline;
use crate::instance::apply::Layers;
use crate::instance::search::SeedSearch;
use crate::machine::agent::Agent;
use crate::machine::button::Button;
use crate::machine::freeze::Freeze;
use crate::machine::freeze::disks::Disks;
use crate::machine::power;
use crate::machine::shutdown::Stopping;
use crate::machine::signals::Signals;
use crate::machine::uevents::{Uevent, Uevents};
use crate::machine::watchdog::Watchdog;
use crate::services::Services;
use crate::status::file::StatusFile;
use crate::status::port::StatusPort;
use crate::status::report::Reporter;

/// How long the first correction waits for the host's time channel to appear, where there is no
/// PHC: the port's driver probes in the background, which takes over a second on an emulated
/// machine whose host is busy, and the RTC, good to a second, would be the only other source.
const BOOT_WAIT: Nanos = Nanos::from_millis(2_500);

/// How many uevents one wake takes in.
const UEVENTS_PER_WAKE: u32 = 64;

/// PID 1's whole state.
struct Pid1 {
    discipline: Discipline,
    status: StatusPort,
    /// [`runtime_dir::FOLDER`]; none where it could not be made.
    runtime_dir: Option<RuntimeDir>,
    status_file: StatusFile,
    services: Services,
    reporter: Reporter,
    queue: EventQueue,
    clock_set: ClockSetTimer,
    signals: Signals,
    uevents: Option<Uevents>,
    button: Option<Button>,
    /// Events that are to be reported.
    pending_events: Vec<record::Event>,
    /// Until when the first correction may wait; none once it has been asked for.
    boot_wait: Option<Raw>,
    status_interval: Nanos,
    next_status: Raw,
    next_unread: Option<Raw>,
    reap_again: bool,
    stopping: Option<Stopping>,
    watchdog: Option<Watchdog>,
    /// The guest agent, in an image that has one.
    agent: Option<Agent>,
    freeze: Freeze,
    frozen_disks: Disks,
    /// Whether the machine has a VM generation ID, and when the kernel last told of a new one.
    has_generation: bool,
    new_generation: Option<Raw>,
    /// For the hardening: whether modules are locked, and the kernel settings that the configuration
    /// sets itself.
    hardening: (bool, Vec<SysctlName>),
    /// The image's configuration under the kernel command line.
    layers: Layers,
    seed_search: SeedSearch,
    disks: DataDisks,
    /// The configuration that is to be carried out once the data disks are there.
    configured: Option<BootConfig>,
    /// Whether all is set up, so that services may start.
    ready: bool,
}

/// Runs the machine from PID 1's first instruction to its end.
pub fn run(started: Started) -> ! {
    let mut problems = early::prepare();
    let (image, listed) = match config::read() {
        Ok(config) => (config, true),
        Err(error) => {
            problems.push(format!("{error}; going on with the defaults"));
            (config::fallback(), false)
        }
    };
    power::set_failure_action(image.on_failure);
    let unlimited = mounts::limit(&image.tmpfs);
    problems.extend(unlimited.iter().map(ToString::to_string));
    let (layers, wrong) = Layers::read(image);
    problems.extend(wrong);
    match Pid1::new(started, layers, listed, problems) {
        Ok(mut pid1) => pid1.run(),
        Err(error) => power::fail(format_args!("PID 1 can't start: {error}")),
    }
}

impl Pid1 {
    fn new(
        started: Started,
        layers: Layers,
        listed: bool,
        problems: Vec<String>,
    ) -> Result<Self, Errno> {
        let now = clocks::raw();
        let (config, effective) = layers.effective(&[]);
        // Before the modules are loaded, so that no device that they bring is missed.
        let uevents = Uevents::open();
        let runtime_dir = RuntimeDir::open();
        let mut pid1 = Self {
            discipline: Discipline::new(config.clock, config.built, now),
            status: StatusPort::new(now),
            status_file: StatusFile::new(config.status.file && runtime_dir.is_ok()),
            runtime_dir: None,
            services: Services::new(Vec::new(), now),
            reporter: Reporter::new(started),
            queue: EventQueue::new()?,
            clock_set: ClockSetTimer::new()?,
            signals: Signals::open(now)?,
            uevents: None,
            button: None,
            pending_events: Vec::new(),
            boot_wait: Some(now + BOOT_WAIT),
            status_interval: config.status.interval.max(Nanos::from_millis(10)),
            next_status: now,
            next_unread: None,
            reap_again: false,
            stopping: None,
            watchdog: None,
            agent: None,
            freeze: Freeze::new(Nanos::from_secs(config.freeze_limit_s.into())),
            frozen_disks: Disks::default(),
            has_generation: false,
            new_generation: None,
            hardening: (config.lock_modules, Vec::new()),
            layers,
            seed_search: SeedSearch::new(&config.seed, now),
            disks: DataDisks::default(),
            configured: None,
            ready: false,
        };
        let mut seed = Seed::default();
        if config.seed.enabled {
            seed.state = SeedState::Looking;
        }
        pid1.reporter.configured(effective, seed);
        let failures = problems.into_iter();
        pid1.pending_events
            .extend(failures.map(|what| record::Event::Failure { what }));
        match runtime_dir {
            Ok(runtime_dir) => pid1.runtime_dir = Some(runtime_dir),
            Err(error) => pid1.report_failure(error.to_string()),
        }
        pid1.share_bound(&config.status);
        match uevents {
            Ok(uevents) => pid1.uevents = Some(uevents),
            Err(errno) => pid1.report_failure(format!("uevents: {errno}; hotplug goes unnoticed")),
        }
        match Button::open() {
            Ok(button) => pid1.button = button,
            Err(error) => pid1.report_failure(error.to_string()),
        }
        pid1.watch_all()?;
        if listed {
            pid1.load_modules(&config.modules);
        } else {
            let errors = modules::load_all();
            errors.iter().for_each(|error| pid1.on_module_error(error));
            pid1.discipline.rescan_phcs();
        }
        pid1.start_watchdog(config.watchdog_timeout_s);
        Ok(pid1)
    }

    fn run(&mut self) -> ! {
        self.rescan_vmclock();
        self.discipline.rescan_phcs();
        self.start_clock_when_ready(clocks::raw());
        self.rescan_ports();
        loop {
            self.expire(clocks::raw());
            self.update_services_clock();
            self.proceed_freeze();
            self.report();
            self.serve_services();
            self.watch_services();
            self.watch_agent();
            self.report();
            self.wait();
        }
    }

    fn watch_all(&self) -> Result<(), Errno> {
        self.queue
            .watch(Watched::ClockSet, self.clock_set.descriptor())?;
        self.queue
            .watch(Watched::Signals, self.signals.descriptor())?;
        if let Some(uevents) = &self.uevents {
            self.queue.watch(Watched::Uevents, uevents.descriptor())?;
        }
        if let Some(button) = &self.button {
            self.queue.watch(Watched::Button, button.descriptor())?;
        }
        Ok(())
    }

    /// Sleeps until something happens, and serves it.
    fn wait(&mut self) {
        let mut now = clocks::raw();
        let others = self.next_deadline(now);
        let count = loop {
            let tick = self.discipline.wake_at();
            let count = self.queue.wait(others.min(tick) - now);
            // A restored machine is seen at any wake: the marker is in memory.
            let disrupted = self.check_vmclock();
            if count > 0 || disrupted || others <= tick {
                break count;
            }
            // Nothing has happened in the meantime, so that the other deadlines still hold.
            match self.discipline.glance(tick) {
                Some(at) => now = at,
                None => break count,
            }
        };
        for index in 0..count {
            match self.queue.event(index) {
                Event::ClockSet => self.on_clock_set(),
                Event::VmClock => self.on_vmclock(),
                Event::Uevents => self.on_uevents(),
                Event::TimePort { connected } => self.on_time_port(connected),
                Event::NtpSocket => self.on_ntp_socket(),
                Event::Agent => self.on_agent(),
                Event::StatusPort { connected } => self.on_status_port(connected),
                Event::Signals => self.on_signals(),
                Event::Button => self.on_button(),
                Event::SeedReader => self.configure(clocks::raw()),
                Event::Output => self.services.relays.on_event(clocks::raw()),
                Event::Notify => self.services.hear(clocks::raw(), &mut self.pending_events),
            }
        }
    }

    /// When something other than the clock's own next look is due.
    fn next_deadline(&self, now: Raw) -> Raw {
        let mut next = self.next_status;
        let stop = self.stopping.as_ref().map(Stopping::deadline);
        let reap = self.reap_again.then_some(now);
        let channel = self.discipline.channel.deadline();
        let services = self.services.deadline();
        for deadline in [
            self.boot_wait,
            self.next_unread,
            self.signals.deadline(),
            stop,
            reap,
            channel,
            services,
            self.seed_search.deadline(),
            self.disks.deadline(),
            self.watchdog.as_ref().map(Watchdog::deadline),
            self.agent.as_ref().and_then(|agent| agent.deadline(now)),
            self.freeze.deadline(now),
        ] {
            next = deadline.map_or(next, |deadline| next.min(deadline));
        }
        next
    }

    /// Does what has become due.
    fn expire(&mut self, now: Raw) {
        if self.discipline.wake_at() <= now {
            self.discipline.drive(Input::Wake(DetectedBy::WatchTick));
        }
        if self
            .discipline
            .channel
            .deadline()
            .is_some_and(|at| at <= now)
        {
            self.discipline.proceed_channel();
        }
        if self.discipline.probing_mut().expire(now) {
            self.rescan_devices();
        }
        self.start_clock_when_ready(now);
        if self.next_unread.is_some_and(|at| at <= now) {
            self.receive(now);
        }
        self.watch_signals_again(now);
        if !self.ready {
            self.configure(now);
        }
        if self.reap_again {
            self.reap();
        }
        let down = self.services.are_down();
        if self
            .stopping
            .as_mut()
            .is_some_and(|stopping| stopping.expire(now, down))
        {
            self.end();
        }
        if let Some(watchdog) = &mut self.watchdog {
            watchdog.turn(now);
        }
        if self.next_status <= now {
            self.next_status = now + self.status_interval;
            self.reporter.declare(&self.discipline);
            self.send_status();
        }
    }

    /// Asks for the first correction once there is a source to take it from, or none is to be
    /// expected any more.
    fn start_clock_when_ready(&mut self, now: Raw) {
        let Some(until) = self.boot_wait else { return };
        let discipline = &self.discipline;
        let ready = discipline.has_phc() || discipline.channel.connected();
        if ready || !discipline.wants_host() || until <= now {
            self.boot_wait = None;
            self.discipline.drive(Input::Wake(DetectedBy::Boot));
        }
    }

    fn on_clock_set(&mut self) {
        if self.clock_set.take() && self.boot_wait.is_none() {
            self.discipline.distrust();
            self.discipline.drive(Input::Wake(DetectedBy::CancelOnSet));
        }
    }

    fn on_uevents(&mut self) {
        let Some(uevents) = &self.uevents else { return };
        let (mut generation, mut changed) = (false, false);
        let now = clocks::raw();
        let mut budget = UEVENTS_PER_WAKE;
        while let Some(uevent) = uevents.next(&mut budget) {
            match uevent {
                Uevent::NewGeneration => generation = true,
                Uevent::Ptp | Uevent::VirtioPort => changed = true,
                Uevent::PtpProbing { device, name } => {
                    self.discipline.probing_mut().add(device, name, now);
                }
                Uevent::Bound { device } => changed |= self.discipline.probing_mut().bound(&device),
            }
        }
        if generation {
            self.on_new_generation();
        }
        if changed {
            self.rescan_devices();
        }
    }

    fn rescan_devices(&mut self) {
        self.rescan_vmclock();
        self.discipline.rescan_phcs();
        self.rescan_ports();
        self.sources_changed();
    }

    fn on_time_port(&mut self, connected: bool) {
        let changed = self.discipline.channel.on_presence(connected);
        self.discipline.proceed_channel();
        if changed {
            self.sources_changed();
        }
    }

    fn sources_changed(&mut self) {
        self.start_clock_when_ready(clocks::raw());
        if self.boot_wait.is_none() {
            self.discipline.drive(Input::SourcesChanged);
        }
    }

    fn rescan_ports(&mut self) {
        let watched = match self.discipline.channel.rescan() {
            Ok(Some(port)) => self.queue.watch(Watched::TimePort, port.descriptor()),
            Ok(None) => Ok(()),
            Err(error) => return self.report_failure(error.to_string()),
        };
        let watched = watched.and_then(|()| match self.status.rescan() {
            Ok(Some(port)) => self.queue.watch(Watched::StatusPort, port.descriptor()),
            Ok(None) => Ok(()),
            Err(error) => {
                self.pending_events.push(record::Event::Failure {
                    what: error.to_string(),
                });
                Ok(())
            }
        });
        if let Err(errno) = watched {
            self.report_failure(format!("waiting for a port: {errno}"));
        }
        self.services.relays.rescan();
        self.rescan_agent();
    }

    fn report_failure(&mut self, what: String) {
        self.pending_events.push(record::Event::Failure { what });
    }
}
