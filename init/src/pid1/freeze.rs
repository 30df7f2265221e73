//! The loop's part for the freeze for a snapshot.

use std::fs;

use noonmark_contract::record::{Cause, DetectedBy, DiskState, Event, ThawedBy};
use noonmark_contract::units::{Nanos, Raw};
use noonmark_linux::clocks;
use noonmark_sync::engine::Input;

use crate::machine::freeze::{Action, Facts};

use super::Pid1;

/// Where the kernel's driver of VM generation IDs has its devices: it is ACPI's up to Linux 6.9.
const GENERATION_ID: [&str; 2] = [
    "/sys/bus/acpi/drivers/vmgenid",
    "/sys/bus/platform/drivers/vmgenid",
];

/// How long a machine that has such a device may take to be told of a new one, upon which the kernel's
/// random numbers are new too (drivers/virt/vmgenid.c). One that was merely paused is told nothing, and
/// some kernels tell nobody.
const RESEED: Nanos = Nanos::from_millis(250);

impl Pid1 {
    /// Services and data disks are to stand still.
    ///
    /// # Errors
    /// Why they can't, in words.
    pub(super) fn begin_freeze(&mut self) -> Result<(), String> {
        if self.stopping.is_some() {
            return Err("the guest is shutting down".into());
        }
        if !self.ready {
            return Err("the guest is starting".into());
        }
        let mut actions = Vec::new();
        let begun = self.freeze.begin(clocks::raw(), &mut actions);
        self.carry_out_freeze(actions);
        begun.map_err(str::to_owned)
    }

    /// They are to go on, once the clock is right.
    pub(super) fn thaw(&mut self, by: ThawedBy) {
        let mut actions = Vec::new();
        self.freeze.thaw(by, clocks::raw(), &mut actions);
        self.carry_out_freeze(actions);
    }

    /// The machine was resumed, in whatever place: that is what a freeze waits for.
    pub(super) fn on_resume(&mut self) {
        if !self.freeze.is_thawed() {
            self.thaw(ThawedBy::Resume);
        }
    }

    /// The same, where the clock tells.
    pub(super) fn on_disrupted(&mut self, cause: Cause) {
        match cause {
            Cause::HostPause | Cause::HostPauseOrStep | Cause::HostRestore | Cause::HostStep => {
                self.on_resume();
            }
            Cause::Boot
            | Cause::GuestStep
            | Cause::GuestFrequency
            | Cause::SourceChange
            | Cause::Unknown => {}
        }
    }

    /// The machine was restored from a snapshot: the kernel says so, and has new random numbers.
    pub(super) fn on_new_generation(&mut self) {
        self.new_generation = Some(clocks::raw());
        self.discipline.drive(Input::Wake(DetectedBy::Vmgenid));
        self.on_resume();
        self.services.renew_leases();
    }

    /// Goes on with the freeze, and with what the agent has asked for.
    pub(super) fn proceed_freeze(&mut self) {
        let now = clocks::raw();
        if !self.freeze.is_thawed() {
            let mut actions = Vec::new();
            let (discipline, new_generation) = (&self.discipline, self.new_generation);
            let has_generation = self.has_generation;
            let reseeded = |since: Raw| {
                let is_new = |at: Raw| at + Nanos::from_secs(1) >= since;
                !has_generation || now >= since + RESEED || new_generation.is_some_and(is_new)
            };
            let facts = Facts {
                stand_still: self.services.stand_still(),
                disks: self.frozen_disks.take_outcome(),
                is_right_since: &|since| {
                    reseeded(since) && discipline.is_confirmed_since(since, now)
                },
            };
            self.freeze.proceed(now, facts, &mut actions);
            self.carry_out_freeze(actions);
        }
        self.answer_agent(now);
    }

    /// It ends at once.
    pub(super) fn abandon_freeze(&mut self) {
        let mut actions = Vec::new();
        self.freeze.abandon(&mut actions);
        self.carry_out_freeze(actions);
    }

    fn carry_out_freeze(&mut self, actions: Vec<Action>) {
        for action in actions {
            match action {
                Action::Hold(held) => {
                    self.has_generation = held && has_generation();
                    let events = &mut self.pending_events;
                    self.services.hold(held, clocks::raw(), events);
                }
                Action::Disks { freeze } => {
                    let disks = self.disks.status().iter();
                    let mounted = disks.filter(|disk| disk.state == DiskState::Mounted);
                    let folders = mounted.map(|disk| disk.path.clone()).collect();
                    self.frozen_disks.begin(folders, freeze);
                }
                Action::Look => self.discipline.drive(Input::Wake(DetectedBy::Kick)),
                Action::Report(event) => {
                    let frozen = matches!(event, Event::Frozen { .. });
                    if frozen || matches!(event, Event::Thawed { .. }) {
                        self.tell_agent(frozen);
                    }
                    self.pending_events.push(event);
                }
            }
        }
    }
}

/// Whether the machine has a VM generation ID: its driver has a device, which ACPI calls by a name and a
/// number.
fn has_generation() -> bool {
    GENERATION_ID.iter().any(|driver| {
        let entries = fs::read_dir(driver).into_iter().flatten().flatten();
        let mut names = entries.map(|entry| entry.file_name());
        names.any(|name| name.as_encoded_bytes().contains(&b':'))
    })
}
