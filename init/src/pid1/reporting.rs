//! The loop's part for reports: to the kernel's log, to the host, to the guest's own programs.

use noonmark_contract::record;

use crate::status::log;

use super::Pid1;

impl Pid1 {
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
        let synced = matches!(event, record::Event::Synced { .. });
        if synced || matches!(event, record::Event::Recovered { .. }) {
            self.reporter.declare(&self.discipline);
        }
        let changed = matches!(
            event,
            record::Event::Disrupted { .. }
                | record::Event::Recovered { .. }
                | record::Event::Source { .. }
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
        let line = self
            .reporter
            .status(&self.discipline, &self.status, services);
        if let Some(what) = self.status_file.write(self.runtime_dir.as_ref(), &line) {
            self.report_failure(what);
        }
        if listens {
            self.status.queue(line);
            self.status.flush();
        }
    }
}
