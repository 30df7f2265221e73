//! The key establishment (RFC 8915, 4): one TLS connection, in which the server shows a certificate
//! and hands out cookies, and from which both ends derive the same keys.

use std::io::{self, Read as _, Write as _};
use std::net::{SocketAddr, TcpStream};
use std::sync::Arc;
use std::time::{Duration, Instant};

use noonmark_contract::config::network::Server;
use noonmark_contract::units::Utc;
use noonmark_ntp::association::{Association, SetupError, resolve};
use rustls::pki_types::ServerName;
use rustls::{ClientConfig, ClientConnection, StreamOwned};
use thiserror::Error;

use super::record::{self, AES_SIV_CMAC_256, Established, NTPV4, RecordError};
use super::session::{KEY_LEN, Keys, Session};
use super::trust::Trust;

/// The TCP port where none is named (RFC 8915, 4; IANA's `ntske`).
pub const PORT: u16 = 4_460;

/// NTP's, where the server names none.
const NTP_PORT: u16 = 123;

/// What the protocol is called in TLS (RFC 8915, 4).
const ALPN: &[u8] = b"ntske/1";

/// What the keys are derived from the connection's secret by (RFC 8915, 5.1).
const EXPORTER: &[u8] = b"EXPORTER-network-time-security";

/// How long connecting to one address may take, and all of it.
const CONNECT: Duration = Duration::from_secs(3);
const WHOLE: Duration = Duration::from_secs(10);

/// Why there are no keys.
#[derive(Debug, Error)]
enum EstablishError {
    #[error("{0} is no name that a certificate could be for")]
    Name(String),
    #[error("key establishment with {0}: {1}")]
    Connect(SocketAddr, io::Error),
    #[error("key establishment: {0}")]
    Tls(#[from] rustls::Error),
    #[error("key establishment: {0}")]
    Io(#[from] io::Error),
    #[error("key establishment: it doesn't speak ntske/1")]
    Protocol,
    #[error("key establishment: {0}")]
    Record(#[from] RecordError),
    #[error("key establishment: its answer is longer than 16 KiB")]
    TooLong,
}

/// Establishes keys with a server, and finds out whom to ask for the time. This can take as long as
/// its deadlines allow.
///
/// # Errors
/// [`SetupError`]: `Unreached` where no connection came about, `Refused` from there on.
pub fn establish(
    server: &Server,
    trust: &Trust,
    now: Option<Utc>,
) -> Result<Association, SetupError> {
    let port = server.port.unwrap_or(PORT);
    let addresses = resolve(&server.host, port)?;
    let stream = connect(&addresses)?;
    let peer = stream.peer_addr().map_err(|error| refused(error.into()))?;
    let (established, session) = talk(stream, server, trust, now).map_err(refused)?;
    let port = established.port.unwrap_or(NTP_PORT);
    let addresses = match &established.server {
        Some(other) => resolve(other, port)?,
        // The same host, and of its addresses the one that has the keys.
        None => vec![SocketAddr::new(peer.ip(), port)],
    };
    Ok(Association {
        addresses,
        protection: Some(Box::new(session)),
    })
}

fn refused(error: EstablishError) -> SetupError {
    SetupError::Refused(error.to_string())
}

fn connect(addresses: &[SocketAddr]) -> Result<TcpStream, SetupError> {
    let mut last = None;
    for address in addresses {
        match TcpStream::connect_timeout(address, CONNECT) {
            Ok(stream) => return Ok(stream),
            Err(error) => last = Some(EstablishError::Connect(*address, error)),
        }
    }
    let why = last.map_or_else(|| "it has no address".into(), |error| error.to_string());
    Err(SetupError::Unreached(why))
}

fn talk(
    stream: TcpStream,
    server: &Server,
    trust: &Trust,
    now: Option<Utc>,
) -> Result<(Established, Session), EstablishError> {
    let name = ServerName::try_from(server.host.clone())
        .map_err(|_| EstablishError::Name(server.host.clone()))?;
    let connection = ClientConnection::new(config(trust, now)?, name.clone())?;
    let mut stream = StreamOwned::new(connection, stream);
    let deadline = Instant::now() + WHOLE;
    set_deadline(&stream.sock, deadline)?;
    stream.write_all(&record::request())?;
    stream.flush()?;
    let established = read(&mut stream, deadline)?;
    if stream.conn.alpn_protocol() != Some(ALPN) {
        return Err(EstablishError::Protocol);
    }
    let keys = Keys {
        c2s: key(&stream.conn, 0)?,
        s2c: key(&stream.conn, 1)?,
    };
    let shown = stream.conn.peer_certificates().unwrap_or_default();
    let chain = trust.chain(shown, name);
    stream.conn.send_close_notify();
    // The server has said all it had to say, whether or not it hears this.
    let _ = stream.flush();
    let session = Session::new(&keys, established.cookies.clone(), chain);
    Ok((established, session))
}

fn config(trust: &Trust, now: Option<Utc>) -> Result<Arc<ClientConfig>, EstablishError> {
    let mut config = ClientConfig::builder_with_provider(trust.provider())
        .with_protocol_versions(&[&rustls::version::TLS13])?
        .dangerous()
        .with_custom_certificate_verifier(trust.verifier(now))
        .with_no_client_auth();
    config.alpn_protocols = vec![ALPN.to_vec()];
    config.resumption = rustls::client::Resumption::disabled();
    Ok(Arc::new(config))
}

fn read(
    stream: &mut StreamOwned<ClientConnection, TcpStream>,
    deadline: Instant,
) -> Result<Established, EstablishError> {
    let mut answer = Vec::new();
    let mut piece = [0; 2_048];
    loop {
        set_deadline(&stream.sock, deadline)?;
        let used = stream.read(&mut piece)?;
        if used == 0 {
            return Err(io::Error::from(io::ErrorKind::UnexpectedEof).into());
        }
        answer.extend(&piece[..used]);
        if let Some(established) = record::answer(&answer)? {
            return Ok(established);
        }
        if answer.len() > record::ANSWER_MAX {
            return Err(EstablishError::TooLong);
        }
    }
}

/// What is left until the deadline is the most that the next read or write may take.
fn set_deadline(stream: &TcpStream, deadline: Instant) -> io::Result<()> {
    let left = deadline.saturating_duration_since(Instant::now());
    if left.is_zero() {
        return Err(io::ErrorKind::TimedOut.into());
    }
    stream.set_read_timeout(Some(left))?;
    stream.set_write_timeout(Some(left))
}

/// The key of one direction, 0 from the client and 1 from the server (RFC 8915, 5.1).
fn key(connection: &ClientConnection, direction: u8) -> Result<[u8; KEY_LEN], rustls::Error> {
    let [protocol, aead] = [NTPV4, AES_SIV_CMAC_256].map(u16::to_be_bytes);
    let context = [protocol[0], protocol[1], aead[0], aead[1], direction];
    connection.export_keying_material([0; KEY_LEN], EXPORTER, Some(&context))
}
