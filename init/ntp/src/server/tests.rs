//! A server: answers, silence, names, and what it does without randomness.

use noonmark_contract::ntp::packet::PACKET_LEN;

use super::super::association::{SetupError, Unprotected};
use noonmark_contract::units::Nanos;

use super::*;

/// 2026-01-01, as an image's source date.
const BUILT: Utc = Utc(1_767_225_600_000_000_000);

/// Stands in for the kernel's randomness.
fn fixed(bytes: &mut [u8]) -> io::Result<()> {
    bytes.fill(42);
    Ok(())
}

/// A server whose address is known.
fn server(address: &str) -> Server {
    let mut server = Server::new(address.parse().unwrap(), BUILT, Arc::new(Unprotected));
    server.prepare(Raw(0), None, &Bell::new().unwrap());
    server
}

/// A host on this machine, and the server that stands for it.
fn host() -> (UdpSocket, Server) {
    let host = UdpSocket::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
    let server = server(&host.local_addr().unwrap().to_string());
    (host, server)
}

/// What a stratum-1 server answers with the guest's own time.
fn answer(request: &[u8; PACKET_LEN]) -> [u8; PACKET_LEN] {
    let mut answer = [0; PACKET_LEN];
    answer[0] = (4 << 3) | 4;
    answer[1] = 1;
    answer[24..32].copy_from_slice(&request[40..48]);
    let now = packet::timestamp(clocks::realtime());
    answer[32..40].copy_from_slice(&now.to_be_bytes());
    answer[40..48].copy_from_slice(&now.to_be_bytes());
    answer
}

#[test]
fn an_answer_to_a_real_request_is_measured_and_used_once() {
    let (host, mut server) = host();
    server.ask(clocks::raw(), fixed);
    let mut request = [0; PACKET_LEN];
    let (_, asker) = host.recv_from(&mut request).unwrap();
    host.send_to(b"too short", asker).unwrap();
    host.send_to(&answer(&request), asker).unwrap();
    server.receive();
    assert!(server.awaited().is_none());
    let measured = server.take_measured().unwrap();
    assert!(
        (measured.at(clocks::raw()).reference - clocks::realtime()).abs() < Nanos::from_secs(5)
    );
    assert_eq!(server.take_measured(), None);
}

/// The cookie used to be a clock's reading then, which a forger can guess.
#[test]
fn without_randomness_nothing_is_asked_until_there_is_some() {
    fn none_yet(_: &mut [u8]) -> io::Result<()> {
        Err(io::ErrorKind::WouldBlock.into())
    }
    let (host, mut server) = host();
    host.set_nonblocking(true).unwrap();
    server.ask(Raw(0), none_yet);
    assert!(server.awaited().is_none());
    let sent = host.recv(&mut [0; PACKET_LEN]).unwrap_err();
    assert_eq!(sent.kind(), io::ErrorKind::WouldBlock);
    // That cost none of what the server may be asked.
    assert_eq!(server.free_at(Raw(0)), Some(Raw(0)));
    server.ask(Raw(0), fixed);
    assert!(server.awaited().is_some());
}

/// A setup that never ends before the test does, or says one thing.
struct Named(Result<Vec<SocketAddr>, SetupError>);

impl Setup for Named {
    fn at_once(&self, _: &Name) -> Option<Association> {
        None
    }
    fn set_up(&self, _: &Name, _: Option<Utc>) -> Result<Association, SetupError> {
        Ok(Association {
            addresses: self.0.clone()?,
            protection: None,
        })
    }
}

/// Lets the lookup end, at a deadline that a busy machine keeps.
fn look_up(server: &mut Server, now: Raw, bell: &mut Bell) {
    server.prepare(now, None, bell);
    bell.quiet();
    server.prepare(now, None, bell);
}

#[test]
fn the_next_address_of_a_name_is_tried_where_one_is_silent_and_the_name_is_looked_up_again() {
    let hosts = [(); 2].map(|()| UdpSocket::bind((Ipv4Addr::LOCALHOST, 0)).unwrap());
    let addresses = hosts.iter().map(|host| host.local_addr().unwrap());
    let setup = Named(Ok(addresses.collect()));
    let mut bell = Bell::new().unwrap();
    let mut server = Server::new("two.example".parse().unwrap(), BUILT, Arc::new(setup));
    look_up(&mut server, Raw(0), &mut bell);
    let mut request = [0; PACKET_LEN];
    for (place, at_s) in [(0, 0), (1, 2), (0, 4)] {
        let now = Raw(0) + Nanos::from_secs(at_s);
        server.prepare(now, None, &bell);
        assert!(!server.is_being_looked_up(now), "its address is kept");
        server.ask(now, fixed);
        let (used, _) = hosts[place].recv_from(&mut request).unwrap();
        assert_eq!(used, PACKET_LEN);
        server.give_up(now);
    }
    let now = Raw(0) + Nanos::from_secs(6);
    server.prepare(now, None, &bell);
    assert!(server.is_being_looked_up(now));
    // Meanwhile the old addresses serve.
    server.ask(now, fixed);
    assert!(server.awaited().is_some());
}

#[test]
fn a_name_that_is_not_found_is_soon_tried_again_and_a_server_that_refuses_is_not() {
    for (error, first_ms, second_ms) in [
        (SetupError::Unreached("no name".into()), 250, 500),
        (SetupError::Refused("no trust".into()), 10_000, 20_000),
    ] {
        let mut bell = Bell::new().unwrap();
        let setup = Arc::new(Named(Err(error)));
        let mut server = Server::new("none.example".parse().unwrap(), BUILT, setup);
        let mut now = Raw(0);
        for pause in [first_ms, second_ms] {
            look_up(&mut server, now, &mut bell);
            let again = server.free_at(now).unwrap();
            assert_eq!(again - now, Nanos::from_millis(pause));
            server.ask(now, fixed);
            assert!(server.awaited().is_none());
            now = again;
        }
    }
}
