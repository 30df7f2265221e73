//! What PID 1 tells of itself: to the log, to the host, to the guest's own programs.

use noonmark_contract::record::Event as Told;

use crate::status::log;

use super::Pid1;

impl Pid1 {
    /// Tells the log and the host what happened. Comes after the clock's own work: what is written
    /// here delays no correction.
    pub(super) fn tell(&mut self) {
        self.discipline.take_emitted(&mut self.told);
        if self.told.is_empty() {
            return;
        }
        while !self.told.is_empty() {
            for event in std::mem::take(&mut self.told) {
                self.tell_one(event);
            }
        }
        self.status.flush();
    }

    fn tell_one(&mut self, event: Told) {
        let synced = matches!(event, Told::Synced { .. });
        if synced || matches!(event, Told::Recovered { .. }) {
            self.reporter.declare(&self.discipline);
        }
        let changed = matches!(
            event,
            Told::Disrupted { .. } | Told::Recovered { .. } | Told::Source { .. }
        );
        log::write(&event);
        self.status.queue(self.reporter.event(event));
        if synced {
            // Before the services that it is for: they are started after what is told.
            self.tell_status();
        } else if changed && self.status_file.is_wanted() {
            self.tell_status();
        }
    }

    /// Sends a status record to whoever wants one now: the host, if it listens (one that comes later
    /// wants a fresh record), and the guest's own programs.
    pub(super) fn tell_status(&mut self) {
        let listens = self.status.connected();
        if !listens && !self.status_file.is_wanted() {
            return;
        }
        let services = self.services.status();
        let line = self
            .reporter
            .status(&self.discipline, &self.status, services);
        if let Some(what) = self.status_file.write(&line) {
            self.fail_softly(what);
        }
        if listens {
            self.status.queue(line);
            self.status.flush();
        }
    }
}
