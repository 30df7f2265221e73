//! PID 1 before the first service: modules are loaded, the seed is waited for, and the
//! configuration that comes of it is put to use.

use noonmark_sync::config::Module;
use noonmark_sync::record::Event as Told;
use noonmark_sync::units::{Nanos, Raw};

use super::Pid1;
use crate::events::Watched;
use crate::modules::{self, ModuleError};
use crate::seed::verdict::Verdict;
use crate::services::Services;
use crate::setup::Found;
use crate::setup::apply::Applied;
use crate::{boot, clocks, handover};

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
        self.ready = true;
        self.told.extend(events);
        boot::set_hostname(&config);
        let problems = handover::write(&config);
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
        self.bolts = (config.lock_modules, config.sysctl.into_keys().collect());
        self.services = Services::new(config.services, now);
        self.open_for_services();
    }
}
