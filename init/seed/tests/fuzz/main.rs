//! Fuzz targets: one for each parser that meets the bytes of a seed, a port or a network.
//!
//! `cargo test` gives each of them random inputs for a moment; for a long run, see docs/fuzzing.md.

use std::io::{Cursor, Read as _};

use bolero::check;
use flate2::read::GzDecoder;
use noonmark_contract::agent::{Answer, Found, OBJECT_MAX, Objects, Question, Request};
use noonmark_contract::channel;
use noonmark_contract::config::settings::Cmdline;
use noonmark_contract::ntp::{packet, sock};
use noonmark_contract::record::{Command, Record};
use noonmark_contract::run::{Order, Report};
use noonmark_contract::seed::instance::Instance;
use noonmark_contract::seed::verdict::{Datasource, Document, Verdict};
use noonmark_contract::testport;
use noonmark_contract::units::{Nanos, Utc};
use noonmark_label::{ext4, fat, iso9660, udf};
use noonmark_linux::lines::{Inbox, Taken};
use noonmark_seed::content::Encoding;
use noonmark_seed::credentials::Credentials;
use noonmark_seed::nocloud::{self, Disk};
use noonmark_seed::root::Root;
use noonmark_seed::{meta_data, network_config, noonmark_config, volume, yaml};

/// Whole volumes, which the targets damage: what has nothing of a file system, no reader looks far into.
const FAT12: &[u8] = include_bytes!("../seed/images/cloud-localds-vfat.gz");
const FAT32: &[u8] = include_bytes!("../seed/images/fat32-small.gz");
const ROCK_RIDGE: &[u8] = include_bytes!("../seed/images/genisoimage-rock-joliet.gz");
const JOLIET: &[u8] = include_bytes!("../seed/images/genisoimage-joliet.gz");
const LINK: &[u8] = include_bytes!("../seed/images/genisoimage-link.gz");
const UDF: &[u8] = include_bytes!("../seed/images/mkudffs-2.01.gz");

/// So many bytes are taken for used if one of them is.
const LINE: usize = 64;

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
    let verdict = nocloud::read(vec![disk], Credentials::default(), &Root::unknown());
    let arrived = Verdict::decode(&verdict.encode()).expect("what the reader says is taken");
    assert_eq!(arrived, verdict);
}

fn text(bytes: &[u8]) -> Option<&str> {
    std::str::from_utf8(bytes).ok()
}

/// A volume that is whole, and the places of it that hold something.
struct Whole {
    bytes: Vec<u8>,
    used: Vec<usize>,
}

impl Whole {
    fn new(packed: &[u8]) -> Self {
        let mut bytes = Vec::new();
        let mut decoder = GzDecoder::new(packed);
        decoder.read_to_end(&mut bytes).expect("gzip");
        let lines = bytes.chunks(LINE).enumerate();
        let held = lines.filter(|(_, line)| line.iter().any(|byte| *byte != 0));
        let used = held
            .flat_map(|(index, line)| index * LINE..index * LINE + line.len())
            .collect();
        Self { bytes, used }
    }

    /// The volume with a byte changed for each three of the input.
    fn damaged(&self, input: &[u8]) -> Vec<u8> {
        let mut bytes = self.bytes.clone();
        for [high, low, byte] in input.as_chunks().0 {
            let place = usize::from(u16::from_be_bytes([*high, *low]));
            bytes[self.used[place % self.used.len()]] = *byte;
        }
        bytes
    }
}

/// Writes the checksums of UDF's tags anew, where there was a tag before, so that not they alone are
/// tried.
fn with_tags(whole: &Whole, mut bytes: Vec<u8>) -> Vec<u8> {
    let sum = |tag: &[u8]| {
        let others = tag[..4].iter().chain(&tag[5..]);
        others.fold(0_u8, |sum, byte| sum.wrapping_add(*byte))
    };
    for (before, now) in whole.bytes.chunks(512).zip(bytes.chunks_mut(512)) {
        if before[0] != 0 && before[4] == sum(&before[..16]) {
            now[4] = sum(&now[..16]);
        }
    }
    bytes
}

#[test]
fn label_ext4() {
    check!().for_each(|bytes: &[u8]| {
        let mut disk = bytes.to_vec();
        disk.resize(disk.len().max(2048), 0);
        disk[0x438..0x43a].copy_from_slice(&[0x53, 0xef]);
        assert!(matches!(ext4::open(&mut Cursor::new(disk)), Ok(Some(_))));
    });
}

#[test]
fn label_fat() {
    let whole = [FAT32, FAT12].map(Whole::new);
    check!().for_each(|bytes: &[u8]| {
        for whole in &whole {
            let mut disk = Cursor::new(whole.damaged(bytes));
            if let Some(fat) = fat::open(&mut disk).expect("a readable disk") {
                let label = fat.label(&mut disk).expect("a readable disk");
                assert!(label.chars().count() <= 11);
            }
        }
    });
}

#[test]
fn label_iso9660() {
    check!().for_each(|bytes: &[u8]| {
        let mut disk = vec![0; ISO_BEGIN];
        disk.extend_from_slice(b"\x01CD001\x01");
        disk.extend_from_slice(bytes);
        iso9660::open(&mut Cursor::new(disk)).expect("a readable disk");
    });
}

#[test]
fn label_udf() {
    let whole = Whole::new(UDF);
    check!().for_each(|bytes: &[u8]| {
        let disk = with_tags(&whole, whole.damaged(bytes));
        udf::open(&mut Cursor::new(disk)).expect("a readable disk");
    });
}

#[test]
fn seed_fat() {
    let whole = [FAT32, FAT12].map(Whole::new);
    check!().for_each(|bytes: &[u8]| {
        for whole in &whole {
            disk(whole.damaged(bytes));
        }
    });
}

#[test]
fn seed_iso() {
    let whole = [ROCK_RIDGE, JOLIET, LINK].map(Whole::new);
    check!().for_each(|bytes: &[u8]| {
        for whole in &whole {
            disk(whole.damaged(bytes));
        }
        let mut disk_bytes = vec![0; ISO_BEGIN];
        disk_bytes.extend_from_slice(b"\x01CD001\x01");
        disk_bytes.extend_from_slice(bytes);
        disk(disk_bytes);
    });
}

#[test]
fn seed_udf() {
    let whole = Whole::new(UDF);
    check!().for_each(|bytes: &[u8]| disk(with_tags(&whole, whole.damaged(bytes))));
}

#[test]
fn seed_meta_data() {
    check!().for_each(|bytes: &[u8]| {
        let mut instance = Instance::default();
        if text(bytes)
            .is_some_and(|text| meta_data::read(text, false, false, &mut instance).is_ok())
        {
            arrives(instance);
        }
    });
}

#[test]
fn seed_config_drive() {
    check!().for_each(|bytes: &[u8]| {
        // No two of its documents have a key in common.
        let mut read = |_: &str| Ok(Some(bytes.to_vec()));
        let documents = nocloud::config_drive(&mut read, &Root::unknown());
        all_arrive(documents.expect("meta-data"));
    });
}

#[test]
fn seed_smbios() {
    check!().for_each(|bytes: &[u8]| {
        let mut credentials = Credentials::default();
        credentials.add_smbios(bytes);
        let verdict = nocloud::read::<Cursor<Vec<u8>>>(Vec::new(), credentials, &Root::unknown());
        assert_eq!(Verdict::decode(&verdict.encode()).ok(), Some(verdict));
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
fn agent_requests() {
    check!().for_each(|bytes: &[u8]| {
        let (mut objects, mut rest) = (Objects::default(), bytes);
        while !rest.is_empty() {
            let (found, left) = objects.take(rest);
            if let Some(Found::Object(object)) = found {
                assert!(object.len() <= OBJECT_MAX);
                let _ = Request::parse(&object);
            }
            rest = left;
        }
    });
}

#[test]
fn agent_link() {
    check!().for_each(|bytes: &[u8]| {
        if let Some(question) = Question::from_bytes(bytes) {
            assert_eq!(question.to_bytes(), bytes);
        }
        if let Some(answer) = Answer::from_bytes(bytes) {
            assert_eq!(Answer::from_bytes(&answer.to_bytes()), Some(answer));
        }
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
fn run_orders() {
    check!().for_each(|bytes: &[u8]| {
        if let Ok(Order::Run(program)) = Order::parse(bytes) {
            assert!(program.check().is_ok());
        }
        let _ = serde_json::from_slice::<Report>(bytes);
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
