//! A guest whose only time server is Debian's chronyd with NTS, and somebody between the two who
//! forges answers.

use std::fs;
use std::io::{self, ErrorKind};
use std::net::{Ipv4Addr, SocketAddrV4, TcpListener, TcpStream, UdpSocket};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, bail, ensure};
use noonmark_contract::ntp::packet::timestamp;
use noonmark_contract::record::{Record, State};
use noonmark_contract::sample::Source;
use noonmark_contract::units::{Nanos, Utc};
use noonmark_qemu::{Device, Machine, Rtc};
use noonmark_tests::{build_spec, chronyd, not_run, test_folder};
use rcgen::{BasicConstraints, CertificateParams, CertifiedIssuer, IsCa, KeyPair};

use crate::platform::{Guest, Images, Platform, ensure_right, now};

/// Where chronyd serves; QEMU's network takes a guest to 127.0.0.1 by 10.0.2.2, where the forger is.
const SERVER: Ipv4Addr = Ipv4Addr::new(127, 0, 0, 2);

/// How far ahead the forged answers are.
const LIE: Nanos = Nanos::from_secs(3_600);

/// 2099: what was forged would be nearer than what the guest begins with.
const RTC: Utc = Utc(4_070_908_800_000_000_000);

/// So many forged answers the guest has to have been sent before it is told to be unmoved.
const FORGED: usize = 3;

/// With every answer forged the guest doesn't sync, and with the genuine one after each forged one
/// it is right.
pub fn takes_no_forged_answer(platform: &Platform, _: &Images) -> Result<()> {
    let chronyd = match chronyd() {
        Ok(chronyd) => chronyd,
        Err(error) => return not_run("takes_no_forged_answer_with_nts", &format!("{error:#}")),
    };
    let folder = test_folder("nts")?;
    let ports = certify(&folder)?;
    let _chronyd = start(chronyd, &folder, ports)?;
    let forger = Forger::start(ports)?;
    let image = build_spec(
        "nts",
        &format!(
            "[clock]\nsources = [\"ntp\"]\n[[network.interface]]\ndhcp4 = true\n\
             [ntp]\nservers = [\"10.0.2.2:{}\"]\ntrusted_certs = \"/etc/nts.pem\"\n\
             [[file]]\npath = \"/etc/nts.pem\"\nsource = \"authority.pem\"\n",
            ports.keys
        ),
    )?;
    let mut config = platform.config(&image)?;
    config.rtc = Rtc::From(RTC);
    config.time_channel = false;
    config.test_port = false;
    config.devices = vec![Device::Net {
        forwards: Vec::new(),
        on: std::net::Ipv4Addr::LOCALHOST,
    }];
    let mut machine = Machine::start(&platform.qemu, config)?;
    let records = machine.subscribe();
    let deadline = Instant::now() + machine.timeouts().sync();
    while forger.forged.load(Ordering::Relaxed) < FORGED {
        if Instant::now() > deadline {
            let tail = machine.console_tail(30).join("\n");
            bail!("the guest asked for no time\n{tail}");
        }
        let Ok(record) = machine.record(&records, "a status record", deadline) else {
            continue;
        };
        if let Record::Status(status) = record {
            ensure!(status.state == State::Unsynced, "a forged answer was taken");
        }
    }
    forger.lets_pass.store(true, Ordering::Relaxed);
    let status = machine.wait_synced(&records, |_| {})?;
    let mut guest = Guest {
        machine,
        records,
        status,
    };
    guest.check(|guest| {
        let status = &guest.status;
        ensure!(status.source == Some(Source::Ntp), "{:?}", status.source);
        ensure_right(status)
    })
}

/// chronyd's UDP port and its TCP port.
#[derive(Clone, Copy)]
struct Ports {
    time: u16,
    keys: u16,
}

/// Makes an authority and a certificate of its for the server, finds ports, and writes all of it down
/// for chronyd.
fn certify(folder: &Path) -> Result<Ports> {
    let write = |name: &str, text: &str| {
        let path = folder.join(name);
        fs::write(&path, text).with_context(|| path.display().to_string())
    };
    let mut authority = CertificateParams::new(Vec::new())?;
    authority.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    let authority = CertifiedIssuer::self_signed(authority, KeyPair::generate()?)?;
    let key = KeyPair::generate()?;
    // rcgen's own defaults are valid from 1975 to 4096.
    let server = CertificateParams::new(vec!["10.0.2.2".into()])?.signed_by(&key, &authority)?;
    write("authority.pem", &authority.pem())?;
    write("server.pem", &server.pem())?;
    write("server.key", &key.serialize_pem())?;
    let time = UdpSocket::bind((SERVER, 0))?.local_addr()?.port();
    let keys = TcpListener::bind((SERVER, 0))?.local_addr()?.port();
    let shown = folder.display();
    write(
        "chrony.conf",
        &format!(
            "bindaddress {SERVER}\nport {time}\nntsport {keys}\nlocal stratum 1\nallow all\n\
             ntsservercert {shown}/server.pem\nntsserverkey {shown}/server.key\n\
             cmdport 0\nbindcmdaddress /\npidfile {shown}/chronyd.pid\n"
        ),
    )?;
    Ok(Ports { time, keys })
}

/// chronyd, until it is dropped.
struct Chronyd(Child);

fn start(mut chronyd: Command, folder: &Path, ports: Ports) -> Result<Chronyd> {
    let user = Command::new("id").arg("-un").output()?.stdout;
    let user = String::from_utf8(user)?;
    let log = fs::File::create(folder.join("chronyd.log"))?;
    // It serves the host's clock and doesn't touch it; as whoever runs the test.
    let child = chronyd
        .args(["-x", "-d", "-U", "-u", user.trim(), "-f"])
        .arg(folder.join("chrony.conf"))
        .stdin(Stdio::null())
        .stdout(log.try_clone()?)
        .stderr(log)
        .spawn()
        .with_context(|| format!("cannot run {chronyd:?}"))?;
    let mut chronyd = Chronyd(child);
    let deadline = Instant::now() + Duration::from_secs(30);
    while TcpStream::connect((SERVER, ports.keys)).is_err() {
        if Instant::now() > deadline || chronyd.0.try_wait()?.is_some() {
            let log = fs::read_to_string(folder.join("chronyd.log"))?;
            bail!("chronyd serves no keys:\n{log}");
        }
        thread::sleep(Duration::from_millis(50));
    }
    Ok(chronyd)
}

impl Drop for Chronyd {
    fn drop(&mut self) {
        // It may have ended by itself; its test says so then.
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// Who stands between the guest and chronyd, until it is dropped: it passes the key establishment on,
/// and sends a forged answer before each genuine one.
struct Forger {
    forged: Arc<AtomicUsize>,
    /// Whether the genuine answers get through at all.
    lets_pass: Arc<AtomicBool>,
    stop: Arc<AtomicBool>,
    threads: Vec<JoinHandle<()>>,
}

impl Forger {
    fn start(ports: Ports) -> Result<Self> {
        let time = UdpSocket::bind((Ipv4Addr::LOCALHOST, ports.time))?;
        time.set_read_timeout(Some(Duration::from_millis(100)))?;
        let keys = TcpListener::bind((Ipv4Addr::LOCALHOST, ports.keys))?;
        keys.set_nonblocking(true)?;
        let mut forger = Self {
            forged: Arc::default(),
            lets_pass: Arc::default(),
            stop: Arc::default(),
            threads: Vec::new(),
        };
        let stop = Arc::clone(&forger.stop);
        forger.threads.push(thread::spawn(move || {
            while !stop.load(Ordering::Relaxed) {
                match keys.accept() {
                    Ok((guest, _)) => pass_on(guest, ports.keys),
                    Err(_) => thread::sleep(Duration::from_millis(20)),
                }
            }
        }));
        let (stop, forged, lets_pass) = (
            Arc::clone(&forger.stop),
            Arc::clone(&forger.forged),
            Arc::clone(&forger.lets_pass),
        );
        forger.threads.push(thread::spawn(move || {
            while !stop.load(Ordering::Relaxed) {
                // A lost datagram is asked for again.
                if forge(&time, ports.time, lets_pass.load(Ordering::Relaxed)).is_ok() {
                    forged.fetch_add(1, Ordering::Relaxed);
                }
            }
        }));
        Ok(forger)
    }
}

impl Drop for Forger {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Relaxed);
        for thread in self.threads.drain(..) {
            // One that panicked has failed its test already.
            let _ = thread.join();
        }
    }
}

/// Answers one request with a forgery, and with the genuine answer if that is let pass.
fn forge(socket: &UdpSocket, port: u16, lets_pass: bool) -> io::Result<()> {
    let mut request = [0; 2_048];
    let (used, guest) = socket.recv_from(&mut request)?;
    let server = UdpSocket::bind((Ipv4Addr::LOCALHOST, 0))?;
    server.set_read_timeout(Some(Duration::from_secs(1)))?;
    server.send_to(&request[..used], SocketAddrV4::new(SERVER, port))?;
    let mut answer = [0; 2_048];
    let used = server.recv(&mut answer)?;
    let answer = &mut answer[..used];
    if used < 48 {
        return Err(ErrorKind::InvalidData.into());
    }
    let genuine = answer.to_vec();
    let lie = now().map_err(io::Error::other)? + LIE;
    answer[32..40].copy_from_slice(&timestamp(lie).to_be_bytes());
    answer[40..48].copy_from_slice(&timestamp(lie).to_be_bytes());
    // With the authenticator that no longer fits, and without any.
    socket.send_to(answer, guest)?;
    socket.send_to(&answer[..48], guest)?;
    if lets_pass {
        socket.send_to(&genuine, guest)?;
    }
    Ok(())
}

/// Passes a TCP connection on, each way until it ends, on threads that end with it.
fn pass_on(guest: TcpStream, port: u16) {
    let both = move || -> io::Result<()> {
        guest.set_nonblocking(false)?;
        let server = TcpStream::connect((SERVER, port))?;
        let copies = [(guest.try_clone()?, server.try_clone()?), (server, guest)];
        for (mut from, mut to) in copies {
            thread::spawn(move || {
                // Either end may go at any time.
                let _ = io::copy(&mut from, &mut to);
                let _ = to.shutdown(std::net::Shutdown::Write);
            });
        }
        Ok(())
    };
    // The guest tries again.
    let _ = both();
}
