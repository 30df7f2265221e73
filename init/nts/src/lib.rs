//! Network Time Security (RFC 8915) for the NTP client: who a server is, it shows once by a
//! certificate over TLS, and after that each of its answers shows by a key that they agreed on.
//!
//! The client itself is `noonmark-ntp`'s, and this is how its associations are made in an image
//! that asks for it. TLS is rustls's, on RustCrypto's primitives: they need no C compiler, and run
//! on any processor. It is a program of its own because that makes it two and a half times as large:
//! 1,440,104 bytes, compressed 695,138, against 558,984 and 287,076.
//!
//! | module | what it is |
//! |---|---|
//! | [`record`] | the messages of the key establishment |
//! | [`trust`] | whether a certificate is good, also while nobody knows what time it is |
//! | [`establish`] | the key establishment: name, connection, TLS, records, keys |
//! | [`extension`] | extension fields of NTP's packets |
//! | [`session`] | what protects requests and answers: keys, cookies, identifiers |

pub mod establish;
pub mod extension;
pub mod record;
pub mod session;
pub mod trust;

use std::io;
use std::path::Path;
use std::sync::Arc;

use noonmark_contract::config::network::{NtpTask, Server};
use noonmark_contract::units::Utc;
use noonmark_ntp::association::{Association, Setup, SetupError};

use establish::establish;
use trust::Trust;

/// How an image's servers are authenticated.
pub struct Nts {
    trust: Arc<Trust>,
}

impl Nts {
    /// With the certificates that the task names.
    ///
    /// # Errors
    /// It names none, or they can't be read.
    pub fn new(task: &NtpTask) -> io::Result<Self> {
        let file = task.config.trusted_certs.as_deref();
        let file = file.ok_or_else(|| io::Error::other("no `trusted_certs`"))?;
        let trust = Trust::read(Path::new(file), task.built).map_err(io::Error::other)?;
        Ok(Self {
            trust: Arc::new(trust),
        })
    }
}

impl Setup for Nts {
    fn at_once(&self, _: &Server) -> Option<Association> {
        None
    }

    fn set_up(&self, server: &Server, now: Option<Utc>) -> Result<Association, SetupError> {
        establish(server, &self.trust, now)
    }
}
