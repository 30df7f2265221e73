//! What has to be known of a server before it can be asked: its addresses, and how its answers are
//! told from forgeries.

use std::io;
use std::net::{IpAddr, SocketAddr, ToSocketAddrs as _};

use noonmark_contract::config::network::Server as Name;
use noonmark_contract::units::Utc;

use super::random::Random;

/// What is known of a server.
pub struct Association {
    /// Where it can be asked, best first; at least one.
    pub addresses: Vec<SocketAddr>,
    /// What protects the exchange; none where an answer is believed that gives the cookie back.
    pub protection: Option<Box<dyn Protection>>,
}

/// Protection of requests and answers by something that only both ends know.
pub trait Protection: Send {
    /// Whether it takes a new association before anything more can be asked.
    fn is_spent(&self) -> bool;

    /// Adds to a request what shows the server who asks, and what its answer will be known by.
    ///
    /// # Errors
    /// There is no randomness, or nothing left to show.
    fn protect(&mut self, request: &mut Vec<u8>, random: Random) -> io::Result<()>;

    /// What a datagram is that gives the cookie of the last request back.
    fn check(&mut self, datagram: &[u8]) -> Authenticity;

    /// Whether the server may be believed when it says that it is `time`.
    fn is_valid_at(&self, time: Utc) -> bool;
}

/// What a datagram turned out to be.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Authenticity {
    /// The server's answer to the last request.
    Genuine,
    /// Anybody's.
    Unproven,
    /// It belongs to the last request, and says that the server knows nothing of this association
    /// any more: it takes a new one.
    Forgotten,
}

/// Why there is no association.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum SetupError {
    /// Nobody answered yet, as before the network is up: soon tried again.
    Unreached(String),
    /// The server did answer, and it won't do: tried again ever more seldom.
    Refused(String),
}

/// How an association with a server is made.
pub trait Setup: Send + Sync {
    /// What is known without asking anybody.
    fn at_once(&self, server: &Name) -> Option<Association>;

    /// What takes its time, on a thread of its own. `now` is the time as servers said it before;
    /// none where none has, for the guest's own clock may be decades off.
    ///
    /// # Errors
    /// [`SetupError`].
    fn set_up(&self, server: &Name, now: Option<Utc>) -> Result<Association, SetupError>;
}

/// NTP's UDP port, where the name has none.
const PORT: u16 = 123;

/// Unprotected NTP: all that is needed is the name's addresses.
pub struct Unprotected;

impl Setup for Unprotected {
    fn at_once(&self, server: &Name) -> Option<Association> {
        let address: IpAddr = server.host.parse().ok()?;
        Some(Association {
            addresses: vec![(address, server.port.unwrap_or(PORT)).into()],
            protection: None,
        })
    }

    fn set_up(&self, server: &Name, _: Option<Utc>) -> Result<Association, SetupError> {
        Ok(Association {
            addresses: resolve(&server.host, server.port.unwrap_or(PORT))?,
            protection: None,
        })
    }
}

/// The addresses of a name. This can take as long as the resolver's deadlines allow.
///
/// # Errors
/// [`SetupError::Unreached`].
pub fn resolve(host: &str, port: u16) -> Result<Vec<SocketAddr>, SetupError> {
    let none = || SetupError::Unreached(format!("the name {host} has no address"));
    let unreached =
        |error: io::Error| SetupError::Unreached(format!("the name {host} is not found: {error}"));
    let addresses: Vec<SocketAddr> = (host, port).to_socket_addrs().map_err(unreached)?.collect();
    (!addresses.is_empty())
        .then_some(addresses)
        .ok_or_else(none)
}
