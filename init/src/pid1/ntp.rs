//! PID 1 and the NTP client: the socket between them, and what comes by it.

use noonmark_contract::config::network::NTP_SERVICE;

use crate::clock::ntp_socket::Samples;

use super::Pid1;
use super::events::Watched;

impl Pid1 {
    /// Opens the socket of an image that has the client: once its folder is there, before the client
    /// is started.
    pub(super) fn open_samples(&mut self) {
        let opened = Samples::open().map_err(|error| error.to_string());
        let watched = opened.and_then(|samples| {
            self.queue
                .watch(Watched::Samples, samples.descriptor())
                .map_err(|errno| format!("waiting for samples: {errno}"))?;
            Ok(samples)
        });
        match watched {
            Ok(samples) => self.discipline.samples = Some(samples),
            Err(what) => self.fail_softly(what),
        }
    }

    pub(super) fn on_samples(&mut self) {
        let client = self.services.pid(NTP_SERVICE);
        if self.discipline.take_samples(client) {
            self.sources_changed();
        }
    }
}
