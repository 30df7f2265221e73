//! The client with NTS against a server of this test's, with and without somebody in between.

mod certificates;
mod server;

use std::io;
use std::sync::Arc;
use std::sync::atomic::Ordering;

use noonmark_contract::config::network::{NtpConfig, NtpTask, Server as Name};
use noonmark_contract::ntp::Measurement;
use noonmark_contract::ntp::packet::{self, PACKET_LEN};
use noonmark_contract::units::{Nanos, Utc};
use noonmark_ntp::association::{Authenticity, Protection, Setup, SetupError};
use noonmark_ntp::client::Client;
use noonmark_ntp::random;
use noonmark_nts::Nts;
use noonmark_nts::establish::establish;
use noonmark_nts::trust::Trust;

use certificates::{Authority, year};
use server::Server;

/// When the image was built, and what the servers say. The clock of the machine that runs the test
/// plays no part.
const BUILT: i64 = 2026;
const TRUTH: i64 = 2030;

/// An authority, its file, and a server that it vouches for.
fn trusted(from: i32, to: i32) -> (Authority, Server) {
    let authority = Authority::new();
    let server = Server::start(&authority.identity(from, to), year(TRUTH));
    (authority, server)
}

fn trust(authority: &Authority) -> Trust {
    Trust::of(authority.pem().as_bytes(), "the test's", year(BUILT)).unwrap()
}

fn name(server: &Server) -> Name {
    server.address.to_string().parse().unwrap()
}

/// The client that an image would have.
fn client(authority: &Authority, server: &Server) -> Client {
    let file = std::env::temp_dir().join(format!("noonmark-nts-{}.pem", server.address.port()));
    std::fs::write(&file, authority.pem()).unwrap();
    let task = NtpTask {
        built: year(BUILT),
        config: NtpConfig {
            servers: vec![name(server)],
            trusted_certs: Some(file.display().to_string()),
            ..NtpConfig::default()
        },
    };
    let setup: Arc<dyn Setup> = Arc::new(Nts::new(&task).unwrap());
    std::fs::remove_file(file).unwrap();
    Client::new(task, &setup, random::kernel).unwrap()
}

fn assert_right(measured: Option<Measurement>) {
    let measured = measured.expect("the server's time");
    // It is carried on to the round's end, while the server's clock stands still.
    let since = measured.reference - year(TRUTH);
    let right = -measured.distance..=Nanos::from_secs(10);
    assert!(right.contains(&since), "{since}");
}

#[test]
fn the_time_of_an_authenticated_server_is_taken() {
    let (authority, server) = trusted(2025, 2040);
    let mut client = client(&authority, &server);
    assert_right(client.measure());
    assert_eq!(server.established.load(Ordering::Relaxed), 1);
}

#[test]
fn a_forged_answer_changes_nothing_and_the_genuine_one_after_it_counts() {
    let (authority, server) = trusted(2025, 2040);
    let mut client = client(&authority, &server);
    // Ten years ahead: in the clear, with the genuine answer's identifier and cookie.
    *server.forge.lock().unwrap() = |answer| {
        let mut forged = answer.to_vec();
        let lie = packet::timestamp(year(TRUTH + 10)).to_be_bytes();
        forged[32..40].copy_from_slice(&lie);
        forged[40..48].copy_from_slice(&lie);
        vec![forged[..PACKET_LEN].to_vec(), forged]
    };
    assert_eq!(client.measure(), None);
    // Neither does a kiss-o'-death in somebody else's name keep the client away.
    *server.forge.lock().unwrap() = |answer| {
        let mut denied = answer.to_vec();
        denied[1] = 0;
        denied[12..16].copy_from_slice(b"DENY");
        vec![denied, answer.to_vec()]
    };
    assert_right(client.measure());
}

#[test]
fn no_byte_of_an_answer_can_be_changed_and_none_can_be_played_again() {
    let (authority, server) = trusted(2025, 2040);
    let mut session = associate(&authority, &server, None).unwrap();
    let (first, _) = exchange(&mut *session.0, session.1);
    assert_eq!(session.0.check(&first), Authenticity::Genuine);
    let (second, _) = exchange(&mut *session.0, session.1);
    // The answer to an earlier request.
    assert_eq!(session.0.check(&first), Authenticity::Unproven);
    for at in 0..second.len() {
        for bit in [1, 0x80] {
            let mut changed = second.clone();
            changed[at] ^= bit;
            let verdict = session.0.check(&changed);
            assert_eq!(verdict, Authenticity::Unproven, "byte {at}");
        }
    }
    for short in 0..second.len() {
        assert_ne!(session.0.check(&second[..short]), Authenticity::Genuine);
    }
    assert_eq!(session.0.check(&second), Authenticity::Genuine);
    // Nor the same once more.
    assert_eq!(session.0.check(&second), Authenticity::Unproven);
}

#[test]
fn eight_cookies_are_kept_each_used_once_and_renewed() {
    let (authority, server) = trusted(2025, 2040);
    let (mut session, port) = associate(&authority, &server, None).unwrap();
    // Seven answers are lost: the last request asks for all to be replaced.
    let mut longest = 0;
    for _ in 0..7 {
        let mut request = packet::request(1).to_vec();
        session.protect(&mut request, random::kernel).unwrap();
        assert!(request.len() >= longest && request.len() <= 1_240);
        longest = request.len();
    }
    assert!(!session.is_spent());
    let (answer, sent) = exchange(&mut *session, port);
    assert_eq!(answer.len(), sent, "no answer is longer than its request");
    assert!(session.is_spent());
    assert_eq!(session.check(&answer), Authenticity::Genuine);
    for _ in 0..8 {
        assert!(!session.is_spent());
        let mut request = packet::request(1).to_vec();
        session.protect(&mut request, random::kernel).unwrap();
    }
    assert!(session.is_spent());
    let error = session
        .protect(&mut Vec::new(), random::kernel)
        .unwrap_err();
    assert!(error.to_string().contains("used up"), "{error}");
}

#[test]
fn a_server_that_has_forgotten_its_keys_is_asked_for_new_ones() {
    let (authority, server) = trusted(2025, 2040);
    let (mut session, port) = associate(&authority, &server, None).unwrap();
    server.forgetful.store(true, Ordering::Relaxed);
    let (nak, _) = exchange(&mut *session, port);
    assert_eq!(session.check(&nak), Authenticity::Forgotten);
    // It is not proven, so that the genuine answer still counts.
    server.forgetful.store(false, Ordering::Relaxed);
    let mut client = client(&authority, &server);
    assert_right(client.measure());
}

#[test]
fn a_certificate_has_to_be_valid_at_some_time_since_the_image_was_built() {
    for (from, to, now, good) in [
        // Nobody knows the time: valid at the build, only later, no more.
        (2020, 2028, None, true),
        (2029, 2031, None, true),
        (2020, 2025, None, false),
        // Servers have said the time.
        (2029, 2031, Some(TRUTH), true),
        (2020, 2028, Some(TRUTH), false),
        (2035, 2040, Some(TRUTH), false),
    ] {
        let (authority, server) = trusted(from, to);
        let made = associate(&authority, &server, now.map(year));
        assert_eq!(made.is_ok(), good, "{from} to {to} at {now:?}");
    }
}

#[test]
fn an_answer_has_to_say_a_time_at_which_the_certificate_is_valid() {
    // Its key may have been anybody's since 2028, who says that it is 2030.
    let (authority, server) = trusted(2020, 2028);
    assert_eq!(client(&authority, &server).measure(), None);
}

#[test]
fn whoever_is_not_trusted_or_of_another_name_gets_nothing() {
    let (authority, _) = trusted(2025, 2040);
    let stranger = Server::start(&Authority::new().identity(2025, 2040), year(TRUTH));
    let refused = associate(&authority, &stranger, None)
        .map(|_| ())
        .unwrap_err();
    assert!(
        matches!(&refused, SetupError::Refused(why) if why.contains("invalid peer certificate")),
        "{refused:?}"
    );
    let (authority, server) = trusted(2025, 2040);
    let other: Name = format!("localhost:{}", server.address.port())
        .parse()
        .unwrap();
    let refused = establish(&other, &trust(&authority), None)
        .map(|_| ())
        .unwrap_err();
    let text = format!("{refused:?}");
    assert!(
        text.contains("Refused") && text.contains("not valid for name"),
        "{text}"
    );
}

#[test]
fn a_server_may_show_a_trusted_certificate_itself_in_its_name_and_time() {
    let authority = Authority::new();
    let server = Server::start(&authority.itself(), year(TRUTH));
    assert_right(client(&authority, &server).measure());
    let late = associate(&authority, &server, Some(year(2210)));
    assert!(late.is_err(), "after its end");
    let other: Name = format!("localhost:{}", server.address.port())
        .parse()
        .unwrap();
    assert!(establish(&other, &trust(&authority), None).is_err());
}

/// A protection, and the UDP port where it is good.
type Made = (Box<dyn Protection>, u16);

fn associate(authority: &Authority, server: &Server, now: Option<Utc>) -> Result<Made, SetupError> {
    let made = establish(&name(server), &trust(authority), now)?;
    Ok((made.protection.unwrap(), made.addresses[0].port()))
}

/// One request and its answer, with the request's length; the answer is not checked.
fn exchange(session: &mut dyn Protection, port: u16) -> (Vec<u8>, usize) {
    let mut ask = || -> io::Result<(Vec<u8>, usize)> {
        let mut request = packet::request(1).to_vec();
        session.protect(&mut request, random::kernel)?;
        let socket = std::net::UdpSocket::bind(("127.0.0.1", 0))?;
        socket.send_to(&request, ("127.0.0.1", port))?;
        let mut answer = vec![0; 2_048];
        let used = socket.recv(&mut answer)?;
        answer.truncate(used);
        Ok((answer, request.len()))
    };
    ask().unwrap()
}
