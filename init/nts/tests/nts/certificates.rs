//! Certificates made for one test.

use noonmark_contract::units::Utc;
use rcgen::{
    BasicConstraints, CertificateParams, CertifiedIssuer, DnType, IsCa, KeyPair, KeyUsagePurpose,
};
use rustls::pki_types::CertificateDer;

/// An authority that the client trusts.
pub struct Authority {
    issuer: CertifiedIssuer<'static, KeyPair>,
}

/// Who a server is: its chain, and its key in PKCS #8.
pub struct Identity {
    pub chain: Vec<CertificateDer<'static>>,
    pub key: Vec<u8>,
}

impl Authority {
    pub fn new() -> Self {
        let mut params = CertificateParams::new(vec!["127.0.0.1".into()]).unwrap();
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        params.key_usages = vec![KeyUsagePurpose::KeyCertSign];
        params
            .distinguished_name
            .push(DnType::CommonName, "the test's authority");
        (params.not_before, params.not_after) = (
            rcgen::date_time_ymd(2000, 1, 1),
            rcgen::date_time_ymd(2200, 1, 1),
        );
        let key = KeyPair::generate().unwrap();
        Self {
            issuer: CertifiedIssuer::self_signed(params, key).unwrap(),
        }
    }

    /// The authority as a server of its own, as one has it who has but one certificate.
    pub fn itself(&self) -> Identity {
        Identity {
            chain: vec![self.issuer.der().clone()],
            key: self.issuer.key().serialize_der(),
        }
    }

    /// As a file of trusted certificates has it.
    pub fn pem(&self) -> String {
        self.issuer.pem()
    }

    /// A certificate for 127.0.0.1, valid from the first year's first day to the second's.
    pub fn identity(&self, from: i32, to: i32) -> Identity {
        let mut params = CertificateParams::new(vec!["127.0.0.1".into()]).unwrap();
        (params.not_before, params.not_after) = (
            rcgen::date_time_ymd(from, 1, 1),
            rcgen::date_time_ymd(to, 1, 1),
        );
        let key = KeyPair::generate().unwrap();
        let certificate = params.signed_by(&key, &self.issuer).unwrap();
        Identity {
            chain: vec![certificate.der().clone()],
            key: key.serialize_der(),
        }
    }
}

/// The first day of a year, on the proleptic calendar's average: near enough for these tests.
pub fn year(year: i64) -> Utc {
    Utc((year - 1970) * 31_556_952 * 1_000_000_000)
}
