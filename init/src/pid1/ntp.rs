//! PID 1 and the NTP client: the socket between them, and what comes by it.

use noonmark_contract::config::network::NTP_SERVICE;

use crate::clock::ntp_socket::NtpSocket;

use super::Pid1;
use super::events::Watched;

impl Pid1 {
    /// Opens the socket of an image that has the client, before that is started: each time that it is,
    /// it gets the same end.
    pub(super) fn open_ntp_socket(&mut self) {
        let opened = NtpSocket::open().map_err(|error| error.to_string());
        let watched = opened.and_then(|(samples, client)| {
            self.queue
                .watch(Watched::NtpSocket, samples.descriptor())
                .map_err(|errno| format!("waiting for samples: {errno}"))?;
            Ok((samples, client))
        });
        match watched {
            Ok((samples, client)) => {
                self.discipline.ntp_socket = Some(samples);
                self.services.inputs.give(NTP_SERVICE, client);
            }
            Err(what) => self.report_failure(what),
        }
    }

    pub(super) fn on_ntp_socket(&mut self) {
        let client = self.services.pid(NTP_SERVICE);
        if self.discipline.take_samples(client) {
            self.sources_changed();
        }
    }
}
