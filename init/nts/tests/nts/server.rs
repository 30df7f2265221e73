//! A server of keys and time on this machine's loopback, as RFC 8915 has it, and somebody between
//! it and its client who may change what passes.

use std::io::{Read as _, Write as _};
use std::net::{Ipv4Addr, SocketAddr, TcpListener, TcpStream, UdpSocket};
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::thread::{self, JoinHandle};
use std::time::Duration;

use aes_siv::KeyInit as _;
use aes_siv::siv::Aes128Siv;
use noonmark_contract::ntp::packet::{PACKET_LEN, timestamp};
use noonmark_contract::units::Utc;
use noonmark_nts::extension;
use rustls::pki_types::{PrivateKeyDer, PrivatePkcs8KeyDer};
use rustls::{ServerConfig, ServerConnection, StreamOwned};

use super::certificates::Identity;

/// A cookie here is a number of keys, padded to what chrony's are long.
const COOKIE_LEN: usize = 100;

/// How long a thread waits before it looks whether the test is over.
const PATIENCE: Duration = Duration::from_millis(50);

/// What is done to the answers on their way.
pub type Forge = fn(&[u8]) -> Vec<Vec<u8>>;

/// The server, until it is dropped.
pub struct Server {
    /// Where keys are to be had.
    pub address: SocketAddr,
    /// How many have got some.
    pub established: Arc<AtomicUsize>,
    /// What is done to its answers from now on.
    pub forge: Arc<Mutex<Forge>>,
    /// Whether it has lost all keys.
    pub forgetful: Arc<AtomicBool>,
    stop: Arc<AtomicBool>,
    threads: Vec<JoinHandle<()>>,
}

type Keys = Arc<Mutex<Vec<([u8; 32], [u8; 32])>>>;

impl Server {
    /// Serves this time, which stands still, in the name of `identity`.
    pub fn start(identity: &Identity, time: Utc) -> Self {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
        let socket = UdpSocket::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
        let mut server = Self {
            address: listener.local_addr().unwrap(),
            established: Arc::default(),
            forge: Arc::new(Mutex::new(honest)),
            forgetful: Arc::default(),
            stop: Arc::default(),
            threads: Vec::new(),
        };
        let keys = Keys::default();
        let port = socket.local_addr().unwrap().port();
        let config = tls(identity);
        listener.set_nonblocking(true).unwrap();
        socket.set_read_timeout(Some(PATIENCE)).unwrap();
        let (stop, known, count) = (
            Arc::clone(&server.stop),
            Arc::clone(&keys),
            Arc::clone(&server.established),
        );
        server.threads.push(thread::spawn(move || {
            while !stop.load(Ordering::Relaxed) {
                match listener.accept() {
                    Ok((stream, _)) => {
                        // One that breaks off has got none.
                        let _ = establish(stream, &config, &known, &count, port);
                    }
                    Err(_) => thread::sleep(PATIENCE / 10),
                }
            }
        }));
        let (stop, forge, forgetful) = (
            Arc::clone(&server.stop),
            Arc::clone(&server.forge),
            Arc::clone(&server.forgetful),
        );
        server.threads.push(thread::spawn(move || {
            let mut request = [0; 2_048];
            while !stop.load(Ordering::Relaxed) {
                let Ok((used, asker)) = socket.recv_from(&mut request) else {
                    continue;
                };
                let forgetful = forgetful.load(Ordering::Relaxed);
                let answer = answer(&request[..used], &keys.lock().unwrap(), time, forgetful);
                let forge = *forge.lock().unwrap();
                for datagram in forge(&answer.expect("a request that is in order")) {
                    socket.send_to(&datagram, asker).unwrap();
                }
            }
        }));
        server
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Relaxed);
        for thread in self.threads.drain(..) {
            let ended = thread.join();
            assert!(ended.is_ok() || thread::panicking(), "a server's thread");
        }
    }
}

/// Nobody is in between.
pub fn honest(answer: &[u8]) -> Vec<Vec<u8>> {
    vec![answer.to_vec()]
}

fn tls(identity: &Identity) -> Arc<ServerConfig> {
    let key = PrivateKeyDer::Pkcs8(PrivatePkcs8KeyDer::from(identity.key.clone()));
    let provider = Arc::new(rustls_rustcrypto::provider());
    let mut config = ServerConfig::builder_with_provider(provider)
        .with_protocol_versions(&[&rustls::version::TLS13])
        .unwrap()
        .with_no_client_auth()
        .with_single_cert(identity.chain.clone(), key)
        .unwrap();
    config.alpn_protocols = vec![b"ntske/1".to_vec()];
    Arc::new(config)
}

/// One key establishment; none where the client doesn't go through with it.
fn establish(
    stream: TcpStream,
    config: &Arc<ServerConfig>,
    keys: &Keys,
    established: &AtomicUsize,
    port: u16,
) -> Option<()> {
    stream.set_nonblocking(false).ok()?;
    stream
        .set_read_timeout(Some(Duration::from_secs(10)))
        .ok()?;
    let connection = ServerConnection::new(Arc::clone(config)).ok()?;
    let mut stream = StreamOwned::new(connection, stream);
    let mut request = [0; 16];
    stream.read_exact(&mut request).ok()?;
    assert_eq!(
        request,
        [128, 1, 0, 2, 0, 0, 128, 4, 0, 2, 0, 15, 128, 0, 0, 0]
    );
    let key = |direction| {
        let context = [0, 0, 0, 15, direction];
        let label = b"EXPORTER-network-time-security";
        stream
            .conn
            .export_keying_material([0; 32], label, Some(&context))
            .unwrap()
    };
    let number = {
        let mut keys = keys.lock().unwrap();
        keys.push((key(0), key(1)));
        keys.len() as u64 - 1
    };
    let mut message = vec![0x80, 1, 0, 2, 0, 0, 0, 4, 0, 2, 0, 15, 0x80, 7, 0, 2];
    message.extend(port.to_be_bytes());
    for _ in 0..8 {
        message.extend([0, 5, 0, COOKIE_LEN as u8]);
        message.extend(cookie(number));
    }
    message.extend([0x80, 0, 0, 0]);
    // Before the client can have them: it may look at the count as soon as it has.
    established.fetch_add(1, Ordering::Relaxed);
    stream.write_all(&message).ok()?;
    stream.flush().ok()?;
    // Until the client has read it and is done.
    let _ = stream.read(&mut [0; 1]);
    Some(())
}

fn cookie(number: u64) -> Vec<u8> {
    let mut cookie = number.to_be_bytes().to_vec();
    cookie.resize(COOKIE_LEN, 0);
    cookie
}

/// What a stratum-1 server answers at `time`.
fn answer(
    request: &[u8],
    keys: &[([u8; 32], [u8; 32])],
    time: Utc,
    forgetful: bool,
) -> Option<Vec<u8>> {
    let fields = extension::fields(request)?;
    let sealed = fields.authenticator?;
    let number = *extension::cookies(&request[PACKET_LEN..])?.first()?;
    let number = u64::from_be_bytes(*number.first_chunk()?);
    let (c2s, s2c) = keys.get(number as usize)?;
    Aes128Siv::new(c2s.into())
        .decrypt([sealed.covered, sealed.nonce], sealed.ciphertext)
        .ok()?;
    let mut answer = vec![0; PACKET_LEN];
    answer[0] = (4 << 3) | 4;
    answer[24..32].copy_from_slice(&request[40..48]);
    if forgetful {
        answer[12..16].copy_from_slice(b"NTSN");
        extension::push(
            &mut answer,
            extension::UNIQUE_IDENTIFIER,
            fields.unique_identifier?,
        );
        return Some(answer);
    }
    answer[1] = 1;
    answer[32..40].copy_from_slice(&timestamp(time).to_be_bytes());
    answer[40..48].copy_from_slice(&timestamp(time).to_be_bytes());
    extension::push(
        &mut answer,
        extension::UNIQUE_IDENTIFIER,
        fields.unique_identifier?,
    );
    // One cookie, and one for each placeholder: the answer is as long as the request.
    let spare = (request.len() - answer.len()).saturating_sub(COOKIE_LEN + 44) / (COOKIE_LEN + 4);
    let mut plaintext = Vec::new();
    for _ in 0..=spare {
        extension::push(&mut plaintext, extension::COOKIE, &cookie(number));
    }
    let nonce = [7; 16];
    let sealed = Aes128Siv::new(s2c.into())
        .encrypt([&answer[..], &nonce[..]], &plaintext)
        .ok()?;
    extension::push_authenticator(&mut answer, &nonce, &sealed);
    Some(answer)
}
