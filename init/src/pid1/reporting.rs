//! The loop's part for reports, to the kernel's log, to the host, to the guest's own programs; and for what
//! the host wants.

use noonmark_contract::record::{self, DetectedBy, ThawedBy};
use noonmark_contract::units::{Nanos, Raw};
use noonmark_linux::clocks;
use noonmark_sync::engine::Input;

use crate::status::log;

use super::Pid1;

/// How soon a host that has written more than it may is read from again.
const UNREAD_RETRY: Nanos = Nanos::from_millis(20);

impl Pid1 {
    pub(super) fn on_status_port(&mut self, connected: bool) {
        if self.status.on_presence(connected) {
            self.next_status = clocks::raw();
        }
        self.receive(clocks::raw());
        self.status.flush();
    }

    /// Reads the host's commands, as far as they are allowed now, and carries them out.
    pub(super) fn receive(&mut self, now: Raw) {
        let wanted = self.status.receive(now);
        self.next_unread = self.status.unread().then(|| now + UNREAD_RETRY);
        if wanted.kick && self.boot_wait.is_none() {
            self.discipline.drive(Input::Wake(DetectedBy::Kick));
            self.on_resume();
        }
        if wanted.freeze
            && let Err(why) = self.begin_freeze()
        {
            self.report_failure(format!("freeze: {why}"));
        }
        if wanted.thaw {
            self.thaw(ThawedBy::Host);
        }
        if wanted.status {
            self.send_status();
        }
        if let Some(how) = wanted.shutdown {
            self.shut_down(how, "the host asked for it");
        }
    }

    /// Reports what happened to the log and the host. Comes after the clock's own work: what is written
    /// here delays no correction.
    pub(super) fn report(&mut self) {
        self.discipline.take_emitted(&mut self.pending_events);
        if self.pending_events.is_empty() {
            return;
        }
        while !self.pending_events.is_empty() {
            for event in std::mem::take(&mut self.pending_events) {
                self.report_event(event);
            }
        }
        self.status.flush();
    }

    fn report_event(&mut self, event: record::Event) {
        if let record::Event::Disrupted { cause, .. } = &event {
            self.on_disrupted(*cause);
        }
        let synced = matches!(event, record::Event::Synced { .. });
        if synced || matches!(event, record::Event::Recovered { .. }) {
            self.reporter.declare(&self.discipline);
        }
        let changed = matches!(
            event,
            record::Event::Disrupted { .. }
                | record::Event::Recovered { .. }
                | record::Event::Source { .. }
                | record::Event::Frozen { .. }
                | record::Event::Thawed { .. }
        );
        log::write(&event);
        self.status.queue(self.reporter.event(event));
        if synced {
            // Before the services that it is for: they are started once this is reported.
            self.send_status();
        } else if changed && self.status_file.is_wanted() {
            self.send_status();
        }
    }

    /// Sends a status record to those that read one now: the host, if it listens (one that comes later
    /// wants a fresh record), and the guest's own programs.
    pub(super) fn send_status(&mut self) {
        let listens = self.status.connected();
        if !listens && !self.status_file.is_wanted() {
            return;
        }
        let services = self.services.status();
        let frozen = self.freeze.frozen().is_some();
        let line = self
            .reporter
            .status(&self.discipline, &self.status, services, frozen);
        if let Some(what) = self.status_file.write(self.runtime_dir.as_ref(), &line) {
            self.report_failure(what);
        }
        if listens {
            self.status.queue(line);
            self.status.flush();
        }
    }
}
