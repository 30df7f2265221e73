//! Whether a server's certificate is good, also while nobody knows what time it is.
//!
//! A certificate is valid for a time, and it is the time that is asked for. Before any server has
//! said it, all that is known is that it is no earlier than the image's source date; the guest's
//! own clock counts for nothing, as an RTC may be decades off. So at first
//!
//! - there has to be an instant since the source date at which the whole chain is valid, so that a
//!   certificate that had expired by then is never taken, and
//! - each answer has to say a time at which the chain is valid ([`Chain::is_valid_at`]).
//!
//! What remains is that who holds the key of a certificate that was valid at some time since the
//! source date can make the guest believe that it is that time, as with chrony's `nocerttimecheck`
//! (RFC 8915, 8.5, discusses this); other servers, and a newer source date, are what helps. Once the
//! time is known, certificates have to be valid at that time.

use std::path::Path;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use noonmark_contract::units::Utc;
use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::client::{WebPkiServerVerifier, verify_server_name};
use rustls::crypto::CryptoProvider;
use rustls::pki_types::pem::PemObject as _;
use rustls::pki_types::{CertificateDer, ServerName, UnixTime};
use rustls::{CertificateError, DigitallySignedStruct, Error, RootCertStore, SignatureScheme};
use thiserror::Error as ThisError;

/// A chain has no more certificates than this, each of which may move the instant looked for.
const CHAIN_MAX: usize = 8;

/// Why there is nobody to trust.
#[derive(Debug, ThisError)]
pub enum TrustError {
    /// The file can't be read, or is no PEM.
    #[error("{0}: {1}; `[ntp] trusted_certs` has to name a [[file]] with certificates in PEM")]
    File(String, String),
    /// rustls doesn't take them.
    #[error("{0}: {1}")]
    Certificates(String, String),
}

/// Who is trusted, and since when.
#[derive(Debug)]
pub struct Trust {
    anchors: Arc<Anchors>,
    provider: Arc<CryptoProvider>,
    built: Utc,
}

/// The certificates that are trusted.
#[derive(Debug)]
struct Anchors {
    verifier: Arc<WebPkiServerVerifier>,
    certificates: Vec<CertificateDer<'static>>,
}

impl Anchors {
    /// Whether a server of this name is who it says at this time.
    fn check(
        &self,
        own: &CertificateDer<'_>,
        others: &[CertificateDer<'_>],
        name: &ServerName<'_>,
        at: UnixTime,
    ) -> Result<ServerCertVerified, Error> {
        let checked = self.verifier.verify_server_cert(own, others, name, &[], at);
        match checked {
            // A server that shows a trusted certificate itself, made as `openssl req -x509` does: to
            // webpki it is an authority's, which no server may show. Its time was checked before that
            // (webpki's `check_issuer_independent_properties`), its name was not.
            Err(Error::InvalidCertificate(CertificateError::Other(_)))
                if self.certificates.iter().any(|trusted| trusted == own) =>
            {
                verify_server_name(&own.try_into()?, name)?;
                Ok(ServerCertVerified::assertion())
            }
            checked => checked,
        }
    }
}

impl Trust {
    /// The certificates of a PEM file; one that a server is to show itself need not be a CA's.
    ///
    /// # Errors
    /// [`TrustError`].
    pub fn read(file: &Path, built: Utc) -> Result<Self, TrustError> {
        let text = std::fs::read(file);
        let name = file.display().to_string();
        let text = text.map_err(|error| TrustError::File(name.clone(), error.to_string()))?;
        Self::of(&text, &name, built)
    }

    /// The same of a PEM file's text; `name` is for messages.
    ///
    /// # Errors
    /// [`TrustError`].
    pub fn of(pem: &[u8], name: &str, built: Utc) -> Result<Self, TrustError> {
        let mut roots = RootCertStore::empty();
        let mut certificates = Vec::new();
        for certificate in CertificateDer::pem_slice_iter(pem) {
            let certificate =
                certificate.map_err(|error| TrustError::File(name.into(), error.to_string()))?;
            certificates.push(certificate.clone());
            roots
                .add(certificate)
                .map_err(|error| TrustError::Certificates(name.into(), error.to_string()))?;
        }
        let provider = Arc::new(rustls_rustcrypto::provider());
        let verifier =
            WebPkiServerVerifier::builder_with_provider(Arc::new(roots), Arc::clone(&provider))
                .build()
                .map_err(|error| TrustError::Certificates(name.into(), error.to_string()))?;
        Ok(Self {
            anchors: Arc::new(Anchors {
                verifier,
                certificates,
            }),
            provider,
            built,
        })
    }

    /// The primitives that TLS goes by.
    #[must_use]
    pub fn provider(&self) -> Arc<CryptoProvider> {
        Arc::clone(&self.provider)
    }

    /// A verifier for one handshake; `now` is the time as servers have said it, if any has.
    #[must_use]
    pub fn verifier(&self, now: Option<Utc>) -> Arc<dyn ServerCertVerifier> {
        Arc::new(Verifier {
            anchors: Arc::clone(&self.anchors),
            built: self.built,
            now,
        })
    }

    /// The chain that a server has shown.
    #[must_use]
    pub fn chain(&self, shown: &[CertificateDer<'_>], name: ServerName<'static>) -> Chain {
        Chain {
            anchors: Arc::clone(&self.anchors),
            shown: shown
                .iter()
                .cloned()
                .map(CertificateDer::into_owned)
                .collect(),
            name,
            proven: Mutex::new(None),
        }
    }
}

/// The certificates that one server has shown, its own first.
#[derive(Debug)]
pub struct Chain {
    anchors: Arc<Anchors>,
    shown: Vec<CertificateDer<'static>>,
    name: ServerName<'static>,
    /// Two instants between which they are known to be valid.
    proven: Mutex<Option<(Utc, Utc)>>,
}

impl Chain {
    /// Whether they are valid at this time. It takes some signatures' checks, but where it lies
    /// between two at which they were.
    #[must_use]
    pub fn is_valid_at(&self, time: Utc) -> bool {
        let Ok(mut proven) = self.proven.lock() else {
            return false;
        };
        if proven.is_some_and(|(from, to)| (from..=to).contains(&time)) {
            return true;
        }
        let Some((own, others)) = self.shown.split_first() else {
            return false;
        };
        let checked = self.anchors.check(own, others, &self.name, unix(time));
        if checked.is_err() {
            return false;
        }
        let (from, to) = proven.unwrap_or((time, time));
        *proven = Some((from.min(time), to.max(time)));
        true
    }
}

/// rustls's own verifier, with another clock.
#[derive(Debug)]
struct Verifier {
    anchors: Arc<Anchors>,
    built: Utc,
    now: Option<Utc>,
}

impl ServerCertVerifier for Verifier {
    fn verify_server_cert(
        &self,
        end_entity: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        name: &ServerName<'_>,
        _: &[u8],
        _: UnixTime,
    ) -> Result<ServerCertVerified, Error> {
        let check = |at| self.anchors.check(end_entity, intermediates, name, at);
        if let Some(now) = self.now {
            return check(unix(now));
        }
        // The first instant since the source date at which all of them have begun to be valid. If
        // one has ended by then, there is none.
        let mut at = unix(self.built);
        for _ in 0..CHAIN_MAX {
            match check(at) {
                Err(Error::InvalidCertificate(CertificateError::NotValidYetContext {
                    not_before,
                    ..
                })) if not_before > at => at = not_before,
                checked => return checked,
            }
        }
        check(at)
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        self.anchors
            .verifier
            .verify_tls12_signature(message, certificate, signature)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        self.anchors
            .verifier
            .verify_tls13_signature(message, certificate, signature)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.anchors.verifier.supported_verify_schemes()
    }
}

fn unix(time: Utc) -> UnixTime {
    UnixTime::since_unix_epoch(Duration::from_nanos(u64::try_from(time.0).unwrap_or(0)))
}
