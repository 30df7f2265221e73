//! The loop's part for services: starting them on a hardened machine, reaping, and going down.

use noonmark_contract::record::{self, Shutdown, State};
use noonmark_contract::units::Raw;
use noonmark_linux::clocks;
use rustix::io::Errno;

use crate::boot::hardening;
use crate::boot::runtime_dir::RuntimeDir;
use crate::machine::button::Button;
use crate::machine::power;
use crate::machine::shutdown::Stopping;
use crate::machine::signals::{self, Signal};
use crate::services::Reaped;
use crate::services::devices;
use crate::services::notify::NotifySockets;
use crate::services::relay::Wait;
use crate::services::supervisor::Clock;

use super::Pid1;
use super::events::Watched;

impl Pid1 {
    /// Sets the machine up for services, and locks it against them.
    pub(super) fn prepare_services(&mut self) {
        self.services.open(&mut self.pending_events);
        let folder = self.runtime_dir.as_ref().map(RuntimeDir::share);
        match folder.map(|folder| folder.and_then(NotifySockets::new)) {
            Some(Ok(sockets)) => self.services.notify = Some(sockets),
            Some(Err(errno)) => self.report_failure(format!("NOTIFY_SOCKET: {errno}")),
            None => {}
        }
        if let Err(errno) = devices::prepare() {
            self.report_failure(format!(
                "private_devices: {errno}; only services without it can be started"
            ));
        }
        let (lock_modules, sysctl) = &self.hardening;
        let namespaces = self.services.want_namespaces();
        let is_set = |name: &str| {
            let wanted = namespaces && name == hardening::USER_NAMESPACES;
            wanted || sysctl.iter().any(|set| set.as_str() == name)
        };
        for error in hardening::apply(*lock_modules, is_set) {
            self.pending_events.push(record::Event::Failure {
                what: error.to_string(),
            });
        }
    }

    /// Freezes, thaws and signals. Comes after the clock's own work, so that it delays no repair (a
    /// clock that is right again by now froze nobody: a PHC answers sooner than a control group
    /// stands still), and before the events are reported, which takes longer.
    pub(super) fn update_services_clock(&mut self) {
        let now = clocks::raw();
        let engine = self.discipline.engine();
        let clock = Clock {
            synced: self.discipline.synced_at().is_some(),
            doubtful: engine.state() == State::Disrupted || engine.suspects_clock(now),
            repairs: engine.repairs(),
        };
        self.services
            .set_clock(clock, now, &mut self.pending_events);
    }

    /// Starts and stops what is due.
    pub(super) fn serve_services(&mut self) {
        self.services.turn(clocks::raw(), &mut self.pending_events);
    }

    /// Waits for the output of services that go to virtio-serial ports, for these ports, and for what
    /// services say of themselves.
    pub(super) fn watch_services(&mut self) {
        let Self {
            services,
            queue,
            pending_events,
            ..
        } = self;
        let mut check = |watched: Result<(), Errno>| {
            if let Err(errno) = watched {
                let what = format!("waiting for services: {errno}");
                pending_events.push(record::Event::Failure { what });
            }
        };
        services.relays.wait_on(|wait| {
            check(match wait {
                Wait::Pipe(pipe) => queue.watch_again(Watched::OutputPipe, pipe),
                Wait::Port(port) => queue.watch(Watched::OutputPort, port),
            });
        });
        let notify = services.notify.as_mut();
        if let Some(sockets) = notify.and_then(|notify| notify.wait_on(clocks::raw())) {
            check(queue.watch_again(Watched::Notify, sockets));
        }
    }

    pub(super) fn on_signals(&mut self) {
        let now = clocks::raw();
        self.signals.begin(now);
        while let Some(signal) = self.signals.take_next() {
            match signal {
                Signal::Child => self.reap_again = true,
                Signal::PowerOff { by: None } => {
                    self.shut_down(Shutdown::Poweroff, "the kernel asked for it");
                }
                Signal::PowerOff { by: Some(pid) } if signals::may_end_machine(pid) => {
                    self.shut_down(Shutdown::Poweroff, "a program asked for it");
                }
                Signal::PowerOff { by: Some(pid) } => {
                    if let Some(what) = self.signals.refuse(pid, now) {
                        self.report_failure(what);
                    }
                }
            }
        }
    }

    /// Waits for signals again, once they have waited long enough.
    pub(super) fn watch_signals_again(&mut self, now: Raw) {
        if self.signals.take_due(now)
            && let Err(errno) = self
                .queue
                .watch_again(Watched::Signals, self.signals.descriptor())
        {
            self.report_failure(format!("waiting for signals: {errno}"));
        }
    }

    pub(super) fn on_button(&mut self) {
        if self.button.as_ref().is_some_and(Button::take_press) {
            self.shut_down(Shutdown::Poweroff, "the power button was pressed");
        }
    }

    pub(super) fn reap(&mut self) {
        let reaped = self.services.reap(clocks::raw(), &mut self.pending_events);
        self.reap_again = reaped == Reaped::Some;
        let killed = self.stopping.as_ref().is_some_and(Stopping::killed);
        if reaped == Reaped::NoChildren && killed {
            self.end();
        }
    }

    pub(super) fn shut_down(&mut self, how: Shutdown, why: &str) {
        if self.stopping.is_some() {
            return;
        }
        self.pending_events
            .push(record::Event::Shutdown { why: why.into() });
        // What stands still can't end.
        self.abandon_freeze();
        self.report();
        let grace = self.services.stop();
        self.stopping = Some(Stopping::begin(how, grace, clocks::raw()));
    }

    pub(super) fn end(&mut self) -> ! {
        let how = self
            .stopping
            .as_ref()
            .map_or(Shutdown::Poweroff, Stopping::how);
        self.report();
        // File systems may take longer; if they hang, that is bounded by itself.
        if let Some(watchdog) = self.watchdog.take() {
            watchdog.end();
        }
        power::end(how)
    }
}
