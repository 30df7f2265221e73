//! The status hub with guests and subscribers of every kind.

use std::io::{BufRead, BufReader, Read, Write};
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::PathBuf;
use std::thread;
use std::time::{Duration, Instant};

use noonmark_contract::record::{Command, Event, EventRecord, Record, Topic};
use noonmark_contract::units::{Nanos, Utc};
use noonmark_qemu::port::StatusPort;
use noonmark_qemu::{Hub, Subscription, SubscriptionError};
use tempfile::TempDir;

/// A hub with the guest's end of its port.
struct Fixture {
    hub: Hub,
    guest: UnixStream,
    socket: PathBuf,
    _directory: TempDir,
}

fn soon() -> Instant {
    Instant::now() + Duration::from_secs(30)
}

fn fixture() -> Fixture {
    let directory = tempfile::tempdir().unwrap();
    let socket = directory.path().join("status.sock");
    let (guest, port) = UnixStream::pair().unwrap();
    let hub = Hub::start(port, UnixListener::bind(&socket).unwrap()).unwrap();
    Fixture {
        hub,
        guest,
        socket,
        _directory: directory,
    }
}

/// A record that can be told by its number and made as long as wanted.
fn record(seq: u64, what: &str) -> Record {
    Record::Event(EventRecord {
        v: 1,
        seq,
        time_ns: Utc(0),
        uptime_ns: Nanos::ZERO,
        event: Event::Failure { what: what.into() },
    })
}

fn number(record: &Record) -> u64 {
    match record {
        Record::Event(event) => event.seq,
        Record::Status(status) => status.seq,
    }
}

impl Fixture {
    fn guest_says(&self, record: &Record) {
        let mut line = serde_json::to_vec(record).unwrap();
        line.push(b'\n');
        (&self.guest).write_all(&line).unwrap();
    }

    fn subscriber(&self) -> StatusPort {
        StatusPort::connect(&self.socket).unwrap()
    }

    /// Says records until the subscriber, whose connection the hub takes at a time of its own, has
    /// got one.
    fn joined(&self) -> StatusPort {
        let mut subscriber = self.subscriber();
        let deadline = soon();
        while Instant::now() < deadline {
            self.guest_says(&record(0, "is anybody there?"));
            let slice = Instant::now() + Duration::from_millis(20);
            if subscriber.next(slice).is_ok() {
                return subscriber;
            }
        }
        panic!("the hub took no subscriber");
    }
}

/// The next number that is not one of [`Fixture::joined`]'s.
fn next_number(mut next: impl FnMut() -> Record) -> u64 {
    loop {
        match number(&next()) {
            0 => {}
            number => return number,
        }
    }
}

fn next_in(records: &Subscription) -> u64 {
    next_number(|| records.next(soon()).unwrap())
}

fn next_at(port: &mut StatusPort) -> u64 {
    next_number(|| port.next(soon()).unwrap())
}

#[test]
fn a_feed_and_all_subscribers_get_every_record() {
    let fixture = fixture();
    let records = fixture.hub.subscribe();
    let (mut one, mut two) = (fixture.joined(), fixture.joined());
    for seq in 1..=100 {
        fixture.guest_says(&record(seq, "x"));
    }
    for seq in 1..=100 {
        assert_eq!(next_in(&records), seq);
        assert_eq!(next_at(&mut one), seq);
        assert_eq!(next_at(&mut two), seq);
    }
}

#[test]
fn what_is_no_record_is_counted_and_goes_to_nobody() {
    let fixture = fixture();
    let records = fixture.hub.subscribe();
    (&fixture.guest)
        .write_all(b"\xff\x00garbage\n{\"v\":1}\n")
        .unwrap();
    (&fixture.guest).write_all(&vec![b'x'; 300_000]).unwrap();
    (&fixture.guest).write_all(b"\n").unwrap();
    fixture.guest_says(&record(7, "after it"));
    assert_eq!(next_in(&records), 7);
    fixture.guest_says(&record(8, "counted by now"));
    assert_eq!(next_in(&records), 8);
    assert_eq!(fixture.hub.garbage(), 3);
}

#[test]
fn a_subscriber_that_never_reads_is_dropped_and_the_others_miss_nothing() {
    let fixture = fixture();
    let sleeper = fixture.joined();
    let mut reader = fixture.joined();
    let long = "x".repeat(10_000);
    for seq in 1..=200 {
        fixture.guest_says(&record(seq, &long));
        assert_eq!(next_at(&mut reader), seq);
    }
    // Two megabytes are more than the hub and the kernel keep for one who does not read.
    let mut sleeper = sleeper;
    let seen = std::iter::from_fn(|| sleeper.next(soon()).ok()).count();
    assert!(seen < 200, "{seen} records were kept");
}

#[test]
fn commands_reach_the_guest_and_garbage_from_subscribers_does_not() {
    let fixture = fixture();
    let mut rude = UnixStream::connect(&fixture.socket).unwrap();
    rude.write_all(b"\x00\x01\x02\nshut down!\n{\"get\":\"status\"}\n")
        .unwrap();
    let mut from_host = BufReader::new(&fixture.guest);
    let mut line = String::new();
    from_host.read_line(&mut line).unwrap();
    assert_eq!(line, "{\"get\":\"status\"}\n");
    fixture.hub.send(&Command::Kick(true)).unwrap();
    line.clear();
    from_host.read_line(&mut line).unwrap();
    assert_eq!(line, "{\"kick\":true}\n");
}

#[test]
fn a_guest_that_never_reads_holds_nobody() {
    let fixture = fixture();
    let records = fixture.hub.subscribe();
    for _ in 0..100_000 {
        fixture.hub.send(&Command::Get(Topic::Status)).unwrap();
    }
    fixture.guest_says(&record(5, "still here"));
    assert_eq!(next_in(&records), 5);
}

#[test]
fn the_end_of_the_port_ends_feeds_and_subscribers_after_the_last_record() {
    let fixture = fixture();
    let records = fixture.hub.subscribe();
    let mut subscriber = fixture.joined();
    fixture.guest_says(&record(9, "last words"));
    drop(fixture.guest);
    assert_eq!(next_in(&records), 9);
    assert_eq!(records.next(soon()), Err(SubscriptionError::Closed));
    assert_eq!(next_at(&mut subscriber), 9);
    assert!(subscriber.next(soon()).is_err());
    assert_eq!(
        fixture.hub.subscribe().next(soon()),
        Err(SubscriptionError::Closed)
    );
}

#[test]
fn a_dropped_hub_closes_its_end_at_once() {
    let fixture = fixture();
    let mut guest = fixture.guest;
    let waiting = thread::spawn(move || guest.read(&mut [0; 1]).unwrap());
    drop(fixture.hub);
    assert_eq!(waiting.join().unwrap(), 0);
}
