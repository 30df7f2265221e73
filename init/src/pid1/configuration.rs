//! PID 1 before the first service: modules are loaded, the seed is waited for, and the
//! configuration that comes of it is put to use.

use noonmark_contract::config::network::{NET_SERVICE, NtpConfig};
use noonmark_contract::config::{Module, StatusConfig};
use noonmark_contract::record::{self, Alert};
use noonmark_contract::sample::Source;
use noonmark_contract::seed::verdict::Verdict;
use noonmark_contract::units::{Nanos, Raw};
use noonmark_linux::clocks;

use crate::boot::disks::DataDisks;
use crate::boot::early;
use crate::boot::modules::{self, ModuleError};
use crate::boot::runtime_dir::RuntimeDir;
use crate::instance::apply::Applied;
use crate::instance::search::SearchProgress;
use crate::machine::power;
use crate::machine::watchdog::Watchdog;
use crate::services::Services;
use crate::status::clockbound::ClockBound;

use super::Pid1;
use super::events::Watched;

impl Pid1 {
    /// Loads the image's modules in their order. The clock is corrected as soon as its driver is
    /// in, because what comes after it can take much longer.
    pub(super) fn load_modules(&mut self, modules: &[Module]) {
        let command_line = modules::command_line();
        for module in modules {
            match modules::load(module, &command_line) {
                Ok(()) if Source::served_by(&module.name).is_some() => {
                    self.rescan_vmclock();
                    self.discipline.rescan_phcs();
                    if self.discipline.has_phc() {
                        self.start_clock_when_ready(clocks::raw());
                    }
                }
                Ok(()) => {}
                Err(error) => self.on_module_error(&error),
            }
        }
    }

    /// Tells programs of the guest the time's bound, where the image wants that. Before there is any
    /// program that could take the place, and before there is a source.
    pub(super) fn share_bound(&mut self, wanted: &StatusConfig) {
        if wanted.clockbound {
            match ClockBound::open() {
                Ok(clockbound) => self.discipline.share_bound(clockbound),
                Err(error) => self.report_failure(error.to_string()),
            }
        }
    }

    /// From here on the machine is reset when the loop stands still, where the image wants that. Its
    /// driver is among the modules.
    pub(super) fn start_watchdog(&mut self, timeout_s: Option<u32>) {
        let now = clocks::raw();
        match timeout_s.map(|timeout_s| Watchdog::open(timeout_s, now)) {
            Some(Ok(watchdog)) => self.watchdog = Some(watchdog),
            Some(Err(error)) => self.report_failure(error.to_string()),
            None => {}
        }
    }

    pub(super) fn on_module_error(&mut self, error: &ModuleError) {
        self.discipline.note_module_error(error);
        self.report_failure(error.to_string());
    }

    /// Goes on with the search for a seed; once it is over, everything is set up and the services
    /// may start.
    pub(super) fn configure(&mut self, now: Raw) {
        // A machine that goes down starts nothing any more.
        if self.stopping.is_some() {
            self.seed_search.cancel();
            self.ready = true;
            return;
        }
        if self.configured.is_some() {
            self.start_services_once_mounted(now);
            return;
        }
        let found = match self.seed_search.poll(now) {
            SearchProgress::Finished(verdict) => verdict,
            SearchProgress::Pending if self.ready || self.seed_search.deadline().is_some() => {
                return;
            }
            // The image looks for no seed.
            SearchProgress::Pending => Ok(Verdict::default()),
            SearchProgress::ReaderStarted => {
                let watched = self
                    .seed_search
                    .output()
                    .map(|output| self.queue.watch(Watched::SeedReader, output));
                if let Some(Err(errno)) = watched {
                    // Its deadline comes all the same.
                    self.report_failure(format!("waiting for the seed's reader: {errno}"));
                }
                return;
            }
        };
        let Applied {
            config,
            effective,
            seed,
            events,
        } = self.layers.apply(found);
        self.pending_events.extend(events);
        early::set_hostname(&config);
        let problems = self.runtime_dir.as_mut().map(|dir| dir.write(&config));
        for problem in problems.into_iter().flatten() {
            self.report_failure(problem.to_string());
        }
        let polls = [config.ntp.min_poll, config.ntp.max_poll].map(NtpConfig::poll);
        self.discipline
            .set_pace(config.clock.step, config.clock.watch, polls);
        self.status_interval = config.status.interval.max(Nanos::from_millis(10));
        self.reporter.configured(effective, seed);
        let paths = config.mounts.iter().map(|disk| disk.path.as_str().into());
        power::set_data_disks(paths.collect());
        self.disks = DataDisks::begin(config.mounts.clone(), now);
        self.reporter.mounted(self.disks.status());
        self.configured = Some(config);
        self.start_services_once_mounted(now);
    }

    /// Goes on with the data disks; once that is over, the services may start. Without a disk that
    /// the image requires, PID 1 does what the image says of its failure.
    fn start_services_once_mounted(&mut self, now: Raw) {
        if !self.disks.proceed(now) {
            return;
        }
        let Some(config) = self.configured.take() else {
            return;
        };
        self.ready = true;
        self.reporter.mounted(self.disks.status());
        let missing: Vec<(bool, String)> = self.disks.missing().collect();
        for (required, why) in missing {
            if required {
                self.pending_events
                    .push(record::Event::Shutdown { why: why.clone() });
                self.report();
                power::fail(format_args!("{why}; the image requires it"));
            }
            self.pending_events.push(record::Event::Alert {
                alert: Alert::DiskMissing,
                standing: true,
                why,
            });
        }
        self.hardening = (config.lock_modules, config.sysctl.into_keys().collect());
        self.services = Services::new(config.services, now);
        if !config.ntp.servers.is_empty() {
            self.open_ntp_socket();
        }
        if let Some(folder) = self.runtime_dir.as_mut().and_then(RuntimeDir::take_network) {
            self.services.inputs.give(NET_SERVICE, folder);
        }
        self.open_agent();
        self.prepare_services();
    }
}
