//! A guest that has nothing but time servers on its network: one of three lies, or the RTC is decades
//! off.

use std::net::{Ipv4Addr, UdpSocket};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, ensure};
use noonmark_contract::ntp::packet::{PACKET_LEN, timestamp};
use noonmark_contract::record::{Origin, Record, State};
use noonmark_contract::sample::Source;
use noonmark_contract::units::{Nanos, Utc};
use noonmark_image::seed::{self, Format, Seed};
use noonmark_qemu::{Device, Rtc};
use noonmark_tests::{build_spec, test_folder};

use crate::platform::{Images, Platform, ensure_right, now};

/// Nobody is at this server's address (RFC 5737), so that only the seed's can answer.
const SPEC: &str = "[clock]\nsources = [\"ntp\"]\n[seed]\nenabled = true\n\
                    [[network.interface]]\ndhcp4 = true\n[ntp]\nservers = [\"192.0.2.1\"]\n";

/// A fixed address in QEMU's user network, for an interface of a name that no guest has.
const NETWORK_CONFIG: &[u8] =
    b"version: 2\nethernets:\n  ens3: {addresses: [10.0.2.77/24], gateway4: 10.0.2.2}\n";

/// As the status record has it.
const ADDRESS: &str = "ens3 10.0.2.77/24 via 10.0.2.2";

/// 2001-09-09, long before any image was built.
const LONG_AGO: Utc = Utc(1_000_000_000_000_000_000);

/// What the liar adds.
const LIE: Nanos = Nanos::from_secs(3_600);

/// Two honest servers outvote the third, whatever the RTC says, and nothing else is there to follow.
/// A seed names them, and gives the guest its address.
pub fn a_liar_among_three_servers_is_outvoted(platform: &Platform, _: &Images) -> Result<()> {
    let servers = [Nanos::ZERO, LIE, Nanos::ZERO]
        .into_iter()
        .map(TimeServer::start)
        .collect::<Result<Vec<_>>>()?;
    let names: Vec<String> = servers
        .iter()
        .map(|server| format!("\"10.0.2.2:{}\"", server.port))
        .collect();
    let names = names.join(", ");
    let seed = seed::write(
        &Seed {
            user_data: format!("#cloud-config\nntp: {{servers: [{names}]}}\n").as_bytes(),
            meta_data: b"",
            network_config: Some(NETWORK_CONFIG),
            vendor_data: None,
        },
        Format::Fat,
    )?;
    let image = build_spec("ntp", SPEC)?;
    let disk = test_folder("ntp")?.join("seed.img");
    std::fs::write(&disk, seed).with_context(|| disk.display().to_string())?;
    let mut config = platform.config(&image)?;
    config.rtc = Rtc::From(LONG_AGO);
    config.time_channel = false;
    config.test_port = false;
    config.devices = vec![
        Device::Net {
            forwards: Vec::new(),
            on: std::net::Ipv4Addr::LOCALHOST,
        },
        Device::Disk {
            path: disk,
            writable: false,
        },
    ];
    let mut guest = platform.boot_config(config)?;
    guest.check(|guest| {
        let deadline = Instant::now() + guest.machine.timeouts().answer();
        let next = guest
            .machine
            .record(&guest.records, "a status record", deadline)?;
        if let Record::Status(status) = next {
            guest.status = status;
        }
        let status = &guest.status;
        ensure!(status.state == State::Synced, "{:?}", status.state);
        ensure!(status.source == Some(Source::Ntp), "{:?}", status.source);
        ensure!(
            status.bound_ns < Nanos::from_secs(1),
            "right to {} only",
            status.bound_ns
        );
        for (key, value) in [
            ("ntp.servers", names.replace('"', "").replace(", ", "; ")),
            ("network.interface", ADDRESS.to_owned()),
        ] {
            let told = status.config.get(key);
            let right = told.is_some_and(|told| told.value == value && told.origin == Origin::Seed);
            ensure!(right, "{key}: {told:?}, expected {value} from the seed");
        }
        ensure_right(status)
    })
}

/// 1970, 2001, the last day that fits half an NTP era after 1970, 2045 and 2099. A server's time is
/// one of any century as far as its packet goes, and no RTC has a say in which.
const RTCS: [(&str, Utc); 5] = [
    ("1970-01-02", Utc(86_400_000_000_000)),
    ("2001-09-09", LONG_AGO),
    ("2037-12-31", Utc(2_145_830_400_000_000_000)),
    ("2045-01-01", Utc(2_366_841_600_000_000_000)),
    ("2099-01-01", Utc(4_070_908_800_000_000_000)),
];

/// Whatever the RTC says, the first round that is answered makes the clock right.
pub fn is_right_from_any_rtc(platform: &Platform, _: &Images) -> Result<()> {
    let server = TimeServer::start(Nanos::ZERO)?;
    let port = server.port;
    let image = build_spec(
        "ntp-rtc",
        &format!(
            "[clock]\nsources = [\"ntp\"]\n[[network.interface]]\ndhcp4 = true\n\
             [ntp]\nservers = [\"10.0.2.2:{port}\"]\n"
        ),
    )?;
    for (date, rtc) in RTCS {
        let mut config = platform.config(&image)?;
        config.rtc = Rtc::From(rtc);
        config.time_channel = false;
        config.test_port = false;
        config.devices = vec![Device::Net {
            forwards: Vec::new(),
            on: std::net::Ipv4Addr::LOCALHOST,
        }];
        let mut guest = platform
            .boot_config(config)
            .with_context(|| format!("with an RTC at {date}"))?;
        guest.check(|guest| {
            let status = &guest.status;
            ensure!(status.source == Some(Source::Ntp), "{:?}", status.source);
            ensure_right(status).with_context(|| format!("with an RTC at {date}"))
        })?;
    }
    Ok(())
}

/// A time server on a port of this host's loopback, which a guest reaches as 10.0.2.2.
struct TimeServer {
    port: u16,
    stop: Arc<AtomicBool>,
    thread: Option<JoinHandle<()>>,
}

impl TimeServer {
    /// Serves this host's time and `lie`, until it is dropped.
    fn start(lie: Nanos) -> Result<Self> {
        let socket = UdpSocket::bind((Ipv4Addr::LOCALHOST, 0))?;
        socket.set_read_timeout(Some(Duration::from_millis(200)))?;
        let port = socket.local_addr()?.port();
        let stop = Arc::new(AtomicBool::new(false));
        let stopped = Arc::clone(&stop);
        let thread = thread::spawn(move || {
            let mut request = [0; PACKET_LEN];
            while !stopped.load(Ordering::Relaxed) {
                if let Ok((PACKET_LEN, asker)) = socket.recv_from(&mut request)
                    && let Ok(now) = now()
                {
                    // An asker that is gone needs no answer.
                    let _ = socket.send_to(&answer(&request, now + lie), asker);
                }
            }
        });
        Ok(Self {
            port,
            stop,
            thread: Some(thread),
        })
    }
}

impl Drop for TimeServer {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Relaxed);
        if let Some(thread) = self.thread.take() {
            // A server that panicked has failed its test already.
            let _ = thread.join();
        }
    }
}

/// What a stratum-1 server answers at `now` (RFC 5905, 7.3).
fn answer(request: &[u8; PACKET_LEN], now: Utc) -> [u8; PACKET_LEN] {
    let mut answer = [0; PACKET_LEN];
    answer[0] = (4 << 3) | 4;
    answer[1] = 1;
    answer[3] = -20_i8 as u8;
    answer[24..32].copy_from_slice(&request[40..48]);
    answer[32..40].copy_from_slice(&timestamp(now).to_be_bytes());
    answer[40..48].copy_from_slice(&timestamp(now).to_be_bytes());
    answer
}
