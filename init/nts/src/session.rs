//! What protects requests and answers (RFC 8915, 5): the keys, the cookies by which the server knows
//! them again, and the identifier by which an answer belongs to its request.

use std::collections::VecDeque;
use std::io;

use aes_siv::KeyInit as _;
use aes_siv::siv::Aes128Siv;
use noonmark_contract::ntp::packet::PACKET_LEN;
use noonmark_contract::units::Utc;
use noonmark_ntp::association::{Authenticity, Protection};
use noonmark_ntp::random::Random;

use super::extension::{self, COOKIE, COOKIE_PLACEHOLDER, UNIQUE_IDENTIFIER};
use super::record::COOKIES;
use super::trust::Chain;

/// The length of a key of AEAD_AES_SIV_CMAC_256, in bytes.
pub const KEY_LEN: usize = 32;

/// The length of an identifier (RFC 8915, 5.3).
const IDENTIFIER_LEN: usize = 32;

/// The length of a request's nonce.
const NONCE_LEN: usize = 16;

/// A request stays below what any network carries in one piece; placeholders are left out for that.
const REQUEST_MAX: usize = 1_200;

/// The two keys, one each way.
pub struct Keys {
    /// From the client to the server.
    pub c2s: [u8; KEY_LEN],
    /// From the server to the client.
    pub s2c: [u8; KEY_LEN],
}

/// One association's protection.
pub struct Session {
    c2s: Aes128Siv,
    s2c: Aes128Siv,
    /// The oldest first. Each is shown once, so that nobody can tell by it who asks.
    cookies: VecDeque<Vec<u8>>,
    /// That of the open request; none where it was answered.
    identifier: Option<[u8; IDENTIFIER_LEN]>,
    chain: Chain,
}

impl Session {
    /// With what a key establishment brought.
    #[must_use]
    pub fn new(keys: &Keys, cookies: Vec<Vec<u8>>, chain: Chain) -> Self {
        Self {
            c2s: Aes128Siv::new(&keys.c2s.into()),
            s2c: Aes128Siv::new(&keys.s2c.into()),
            cookies: cookies.into(),
            identifier: None,
            chain,
        }
    }

    /// Takes in the cookies of a genuine answer.
    fn keep(&mut self, plaintext: &[u8]) {
        for cookie in extension::cookies(plaintext).unwrap_or_default() {
            let fits = !cookie.is_empty() && cookie.len() < REQUEST_MAX / 2;
            if fits && self.cookies.len() < COOKIES {
                self.cookies.push_back(cookie.to_vec());
            }
        }
    }
}

impl Protection for Session {
    fn is_spent(&self) -> bool {
        self.cookies.is_empty()
    }

    fn protect(&mut self, request: &mut Vec<u8>, random: Random) -> io::Result<()> {
        let mut identifier = [0; IDENTIFIER_LEN];
        random(&mut identifier)?;
        let mut nonce = [0; NONCE_LEN];
        random(&mut nonce)?;
        let no_cookie = || io::Error::other("all cookies are used up");
        let cookie = self.cookies.pop_front().ok_or_else(no_cookie)?;
        extension::push(request, UNIQUE_IDENTIFIER, &identifier);
        extension::push(request, COOKIE, &cookie);
        // An answer brings one cookie, and one more for each placeholder of that length.
        let placeholder = vec![0; cookie.len()];
        for _ in self.cookies.len() + 1..COOKIES {
            if request.len() + 2 * cookie.len() > REQUEST_MAX {
                break;
            }
            extension::push(request, COOKIE_PLACEHOLDER, &placeholder);
        }
        let sealed = self.c2s.encrypt([&request[..], &nonce[..]], &[]);
        let tag = sealed.map_err(|_| io::Error::other("the request can't be sealed"))?;
        extension::push_authenticator(request, &nonce, &tag);
        self.identifier = Some(identifier);
        Ok(())
    }

    fn check(&mut self, datagram: &[u8]) -> Authenticity {
        let Some(fields) = extension::fields(datagram) else {
            return Authenticity::Unproven;
        };
        let belongs = match (&self.identifier, fields.unique_identifier) {
            (Some(own), Some(theirs)) => own == theirs,
            _ => false,
        };
        if !belongs {
            return Authenticity::Unproven;
        }
        let Some(sealed) = fields.authenticator else {
            // A kiss-o'-death that says that the server can't read the cookie (RFC 8915, 5.7).
            let nak = datagram[1] == 0 && datagram[12..16] == *b"NTSN";
            return if nak {
                Authenticity::Forgotten
            } else {
                Authenticity::Unproven
            };
        };
        debug_assert!(sealed.covered.len() >= PACKET_LEN);
        match self
            .s2c
            .decrypt([sealed.covered, sealed.nonce], sealed.ciphertext)
        {
            Ok(plaintext) => {
                self.identifier = None;
                self.keep(&plaintext);
                Authenticity::Genuine
            }
            Err(_) => Authenticity::Unproven,
        }
    }

    fn is_valid_at(&self, time: Utc) -> bool {
        self.chain.is_valid_at(time)
    }
}
