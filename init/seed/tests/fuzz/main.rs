//! Fuzz targets: one for each parser that meets the bytes of a seed, a port or a network.
//!
//! `cargo test` gives each of them random inputs for a moment; for a long run, see docs/fuzzing.md.

use std::io::Cursor;

use bolero::check;
use noonmark_contract::channel;
use noonmark_contract::config::settings::Cmdline;
use noonmark_contract::ntp::{packet, sock};
use noonmark_contract::record::{Command, Record};
use noonmark_contract::seed::instance::Instance;
use noonmark_contract::seed::verdict::{Datasource, Document, Verdict};
use noonmark_contract::testport;
use noonmark_contract::units::{Nanos, Utc};
use noonmark_linux::lines::{Inbox, Taken};
use noonmark_seed::content::Encoding;
use noonmark_seed::nocloud::{self, Disk};
use noonmark_seed::root::Root;
use noonmark_seed::{meta_data, network_config, noonmark_config, volume, yaml};

/// An ISO 9660's descriptors begin here.
const ISO_BEGIN: usize = 16 * 2048;

/// The longest line that PID 1 takes from a host.
const LINE_MAX: usize = 4096;

/// The most that a packed file may unpack to here.
const UNPACKED_MAX: usize = 1 << 16;

/// 2026-01-01.
const NOW: Utc = Utc(1_767_225_600_000_000_000);

/// Whatever a seed says, what PID 1 is told of it arrives as it was sent, or is refused.
fn arrives(instance: Instance) {
    all_arrive(vec![Document {
        name: "user-data".into(),
        instance,
    }]);
}

fn all_arrive(documents: Vec<Document>) {
    let sent = Verdict {
        seed: Datasource::Found {
            device: "vda".into(),
            documents,
        },
    };
    if let Ok(received) = Verdict::decode(&sent.encode()) {
        assert_eq!(received, sent);
    }
}

fn disk(bytes: Vec<u8>) {
    let mut whole = Cursor::new(bytes.clone());
    if let Ok(Some(volume)) = volume::probe(&mut whole) {
        for name in ["user-data", "meta-data", "network-config"] {
            let read = volume.read(&mut whole, name, UNPACKED_MAX);
            assert!(!matches!(read, Ok(Some(content)) if content.len() > UNPACKED_MAX));
        }
    }
    let disk = Disk {
        name: "vda".into(),
        disk: Cursor::new(bytes),
    };
    let verdict = nocloud::read(vec![disk], &Root::unknown());
    let arrived = Verdict::decode(&verdict.encode()).expect("what the reader says is taken");
    assert_eq!(arrived, verdict);
}

fn text(bytes: &[u8]) -> Option<&str> {
    std::str::from_utf8(bytes).ok()
}

#[test]
fn seed_fat() {
    check!().for_each(|bytes: &[u8]| {
        // The mark and the jump, without which no disk is taken for a FAT.
        let mut disk_bytes = bytes.to_vec();
        disk_bytes.resize(disk_bytes.len().max(4096), 0);
        disk_bytes[..3].copy_from_slice(&[0xeb, 0x3c, 0x90]);
        disk_bytes[510..512].copy_from_slice(&[0x55, 0xaa]);
        disk(disk_bytes);
    });
}

#[test]
fn seed_iso() {
    check!().for_each(|bytes: &[u8]| {
        let mut disk_bytes = vec![0; ISO_BEGIN];
        disk_bytes.extend_from_slice(b"\x01CD001\x01");
        disk_bytes.extend_from_slice(bytes);
        disk(disk_bytes);
    });
}

#[test]
fn seed_meta_data() {
    check!().for_each(|bytes: &[u8]| {
        let mut instance = Instance::default();
        if text(bytes).is_some_and(|text| meta_data::read(text, false, &mut instance).is_ok()) {
            arrives(instance);
        }
    });
}

#[test]
fn seed_user_data() {
    check!().for_each(|bytes: &[u8]| {
        let files = [Ok(None), Ok(None), Ok(None), Ok(Some(bytes.to_vec()))];
        all_arrive(nocloud::documents(files, &Root::unknown()));
    });
}

#[test]
fn seed_cloud_config() {
    check!().for_each(|bytes: &[u8]| {
        let config = |bytes: &[u8]| Ok(Some([b"#cloud-config\n", bytes].concat()));
        // One half of it goes over the other.
        let (vendor, user) = bytes.split_at(bytes.len() / 2);
        let files = [Ok(None), Ok(None), config(vendor), config(user)];
        all_arrive(nocloud::documents(files, &Root::unknown()));
    });
}

#[test]
fn seed_network_config() {
    check!().for_each(|bytes: &[u8]| {
        let mut instance = Instance::default();
        let read = text(bytes).map(|text| network_config::read(text, &mut instance));
        if read.is_some_and(|read| read.is_ok()) {
            arrives(instance);
        }
    });
}

#[test]
fn seed_toml() {
    check!().for_each(|bytes: &[u8]| {
        let mut instance = Instance::default();
        if text(bytes).is_some_and(|text| noonmark_config::read(text, &mut instance).is_ok()) {
            arrives(instance);
        }
    });
}

#[test]
fn seed_yaml() {
    check!().for_each(|bytes: &[u8]| {
        let _ = text(bytes).map(|text| yaml::parse("user-data", text));
    });
}

#[test]
fn seed_content() {
    check!().for_each(|bytes: &[u8]| {
        for encoding in [Encoding::Base64, Encoding::Gzip, Encoding::GzipBase64] {
            let content = encoding.decode(bytes.to_vec(), UNPACKED_MAX);
            assert!(!content.is_ok_and(|content| content.len() > UNPACKED_MAX));
        }
    });
}

#[test]
fn seed_verdict() {
    check!().for_each(|bytes: &[u8]| {
        if let Ok(verdict) = Verdict::decode(bytes) {
            assert_eq!(Verdict::decode(&verdict.encode()).ok(), Some(verdict));
        }
    });
}

#[test]
fn kernel_command_line() {
    check!().for_each(|bytes: &[u8]| {
        let _ = Cmdline::parse(&String::from_utf8_lossy(bytes));
    });
}

#[test]
fn status_port_commands() {
    check!().for_each(|bytes: &[u8]| {
        let mut inbox = Inbox::new(LINE_MAX);
        inbox.take(bytes, |taken| {
            if let Taken::Line(line) = taken {
                assert!(line.len() <= LINE_MAX);
                let _ = serde_json::from_slice::<Command>(&line);
            }
        });
    });
}

#[test]
fn status_port_records() {
    check!().for_each(|bytes: &[u8]| {
        let _ = serde_json::from_slice::<Record>(bytes);
    });
}

#[test]
fn time_channel() {
    check!().for_each(|bytes: &[u8]| {
        let mut answers = channel::Decoder::<channel::Answer>::default();
        let mut requests = channel::Decoder::<channel::Request>::default();
        let mut told = channel::Decoder::<channel::Told>::default();
        answers.push(bytes);
        requests.push(bytes);
        told.push(bytes);
        while answers.next_frame().is_some() {}
        while requests.next_frame().is_some() {}
        while told.next_frame().is_some() {}
    });
}

#[test]
fn test_port() {
    check!().for_each(|bytes: &[u8]| {
        let _ = serde_json::from_slice::<testport::Request>(bytes);
        let _ = serde_json::from_slice::<testport::Answer>(bytes);
    });
}

#[test]
fn ntp_packet() {
    check!().for_each(|bytes: &[u8]| {
        // The cookie of a request that the answer may be to.
        let cookie = bytes.get(24..32).and_then(|eight| eight.try_into().ok());
        let cookie = cookie.map_or(0, u64::from_be_bytes);
        if let Ok(answer) = packet::answer(bytes, cookie, NOW) {
            assert!(answer.root_delay >= Nanos::ZERO);
        }
    });
}

#[test]
fn ntp_sample() {
    check!().for_each(|bytes: &[u8]| {
        let _ = sock::Sample::from_bytes(bytes);
    });
}
