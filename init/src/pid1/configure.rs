//! PID 1 before the first service: modules are loaded, the seed is waited for, and the
//! configuration that comes of it is put to use.

use noonmark_contract::config::Module;
use noonmark_contract::record::{Alert, Event as Told};
use noonmark_contract::seed::verdict::Verdict;
use noonmark_contract::units::{Nanos, Raw};
use noonmark_linux::clocks;

use crate::boot::disks::DataDisks;
use crate::boot::modules::{self, ModuleError};
use crate::boot::{early, runtime_dir};
use crate::instance::apply::Applied;
use crate::instance::search::Found;
use crate::machine::power;
use crate::services::Services;

use super::Pid1;
use super::events::Watched;

impl Pid1 {
    /// Loads the image's modules in their order. The clock is corrected as soon as its driver is
    /// in, because what comes after it can take much longer.
    pub(super) fn load_modules(&mut self, modules: &[Module]) {
        for module in modules {
            match modules::load(module) {
                Ok(()) if modules::source_served(&module.name).is_some() => {
                    self.rescan_vmclock();
                    self.discipline.rescan_phcs();
                    if self.discipline.has_phc() {
                        self.begin_when_ready(clocks::raw());
                    }
                }
                Ok(()) => {}
                Err(error) => self.on_module_error(&error),
            }
        }
    }

    pub(super) fn on_module_error(&mut self, error: &ModuleError) {
        self.discipline.note_module_error(error);
        self.fail_softly(error.to_string());
    }

    /// Goes on with the search for a seed; once it is over, everything is set up and the services
    /// may start.
    pub(super) fn set_up(&mut self, now: Raw) {
        // A machine that goes down starts nothing any more.
        if self.stopping.is_some() {
            self.setup.abandon();
            self.ready = true;
            return;
        }
        if self.configured.is_some() {
            self.open_once_mounted(now);
            return;
        }
        let found = match self.setup.proceed(now) {
            Found::Over(found) => found,
            Found::NotYet if self.ready || self.setup.deadline().is_some() => return,
            // The image looks for no seed.
            Found::NotYet => Ok(Verdict::default()),
            Found::Started => {
                let watched = self
                    .setup
                    .output()
                    .map(|output| self.queue.watch(Watched::Setup, output));
                if let Some(Err(errno)) = watched {
                    // Its deadline comes all the same.
                    self.fail_softly(format!("waiting for the seed's reader: {errno}"));
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
        self.told.extend(events);
        early::set_hostname(&config);
        let problems = runtime_dir::write(&config);
        self.told
            .extend(problems.iter().map(|problem| Told::Failure {
                what: problem.to_string(),
            }));
        if !config.ntp.servers.is_empty() {
            self.open_samples();
        }
        self.discipline
            .set_pace(config.clock.step, config.clock.watch);
        self.status_interval = config.status.interval.max(Nanos::from_millis(10));
        self.reporter.configured(effective, seed);
        let paths = config.mounts.iter().map(|disk| disk.path.as_str().into());
        power::set_data_disks(paths.collect());
        self.disks = DataDisks::begin(config.mounts.clone(), now);
        self.reporter.mounted(self.disks.status());
        self.configured = Some(config);
        self.open_once_mounted(now);
    }

    /// Goes on with the data disks; once that is over, the services may start. Without a disk that
    /// the image requires, PID 1 does what the image says of its failure.
    fn open_once_mounted(&mut self, now: Raw) {
        if !self.disks.proceed(now) {
            return;
        }
        let Some(config) = self.configured.take() else {
            return;
        };
        self.ready = true;
        self.reporter.mounted(self.disks.status());
        let lacking: Vec<(bool, String)> = self.disks.lacking().collect();
        for (required, why) in lacking {
            if required {
                self.told.push(Told::Shutdown { why: why.clone() });
                self.tell();
                power::fail(format_args!("{why}; the image requires it"));
            }
            self.told.push(Told::Alert {
                alert: Alert::DiskMissing,
                standing: true,
                why,
            });
        }
        self.bolts = (config.lock_modules, config.sysctl.into_keys().collect());
        self.services = Services::new(config.services, now);
        self.open_for_services();
    }
}
