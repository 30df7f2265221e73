//! The program between a host and PID 1, both played by the test.

use std::fs;
use std::io::{self, BufRead as _, BufReader, IoSlice, Write as _};
use std::mem::MaybeUninit;
use std::os::fd::{AsFd as _, OwnedFd};
use std::os::unix::net::{UnixDatagram, UnixStream};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use noonmark_contract::agent::{Answer, Ask, Question};
use rustix::net::{SendAncillaryBuffer, SendAncillaryMessage, SendFlags, sendmsg};
use serde::de::DeserializeOwned;
use serde_json::{Value, json};

/// How long anything may take on a busy machine.
const DEADLINE: Duration = Duration::from_secs(60);

/// How long a full socket is written to before it counts as full.
const FULL: Duration = Duration::from_secs(2);

/// Ticks of `/proc/PID/stat` (sysconf(_SC_CLK_TCK) on every Linux).
const TICKS_PER_S: u64 = 100;

pub struct Machine {
    program: Child,
    pid1: UnixDatagram,
    host: BufReader<UnixStream>,
}

impl Machine {
    /// Starts it with a port on which a host is connected.
    pub fn start(allowed: &[&str]) -> Self {
        let (pid1, own_end) = UnixDatagram::pair().unwrap();
        pid1.set_read_timeout(Some(DEADLINE)).unwrap();
        let program = Command::new(env!("CARGO_BIN_EXE_noonmark-agent"))
            .args(allowed)
            .stdin(Stdio::from(OwnedFd::from(own_end)))
            .spawn()
            .unwrap();
        let mut hello = [0; 8];
        assert_eq!(pid1.recv(&mut hello).unwrap(), 0);
        let (host, _) = UnixStream::pair().unwrap();
        let mut machine = Self {
            program,
            pid1,
            host: BufReader::new(host),
        };
        machine.connect();
        machine
    }

    /// A new port, with a new host.
    pub fn connect(&mut self) {
        let (host, port) = UnixStream::pair().unwrap();
        host.set_read_timeout(Some(DEADLINE)).unwrap();
        host.set_write_timeout(Some(FULL)).unwrap();
        port.set_nonblocking(true).unwrap();
        self.host = BufReader::new(host);
        self.tell(&Answer::Port, Some(port));
    }

    /// The host goes.
    pub fn leave(&mut self) {
        let (host, _) = UnixStream::pair().unwrap();
        self.host = BufReader::new(host);
    }

    /// PID 1 says this.
    pub fn tell(&self, answer: &Answer, port: Option<UnixStream>) {
        let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(1))];
        let mut control = SendAncillaryBuffer::new(&mut space);
        let descriptors = port.as_ref().map(|port| [port.as_fd()]);
        if let Some(descriptors) = &descriptors {
            assert!(control.push(SendAncillaryMessage::ScmRights(descriptors)));
        }
        let bytes = answer.to_bytes();
        let parts = [IoSlice::new(&bytes)];
        sendmsg(&self.pid1, &parts, &mut control, SendFlags::empty()).unwrap();
    }

    /// PID 1 is asked for this; the question's number.
    pub fn asked(&self, expected: Ask) -> u32 {
        let mut bytes = [0; 16];
        let count = self.pid1.recv(&mut bytes).unwrap();
        let question = Question::from_bytes(&bytes[..count]).unwrap();
        assert_eq!(question.ask, expected);
        question.number
    }

    pub fn write(&mut self, bytes: &[u8]) {
        self.host.get_mut().write_all(bytes).unwrap();
    }

    /// Writes this again and again until nobody takes it; gives the number of bytes.
    pub fn write_until_full(&mut self, bytes: &[u8]) -> usize {
        let mut written = 0;
        loop {
            // A write may take a part of it alone.
            match self.host.get_mut().write(&bytes[written % bytes.len()..]) {
                Ok(count) => written += count,
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => return written,
                Err(error) => panic!("{error}"),
            }
        }
    }

    pub fn request(&mut self, name: &str, arguments: Option<Value>) {
        let mut request = json!({ "execute": name });
        if let Some(arguments) = arguments {
            request["arguments"] = arguments;
        }
        self.write(format!("{request}\n").as_bytes());
    }

    /// The next line.
    pub fn line(&mut self) -> Vec<u8> {
        let mut line = Vec::new();
        self.host.read_until(b'\n', &mut line).unwrap();
        line
    }

    /// The next reply.
    pub fn reply(&mut self) -> Value {
        serde_json::from_slice(&self.line()).unwrap()
    }

    pub fn run(&mut self, name: &str, arguments: Option<Value>) -> Value {
        self.request(name, arguments);
        self.reply()
    }

    /// What a command gives, as the schema's type.
    pub fn value<T: DeserializeOwned>(&mut self, name: &str) -> T {
        let reply = self.run(name, None);
        let value = reply.get("return").unwrap_or_else(|| panic!("{reply}"));
        serde_json::from_value(value.clone()).unwrap_or_else(|error| panic!("{reply}: {error}"))
    }

    /// Asks until this is the answer: what PID 1 says comes by another way.
    pub fn until(&mut self, name: &str, expected: &Value) {
        let deadline = Instant::now() + DEADLINE;
        while self.run(name, None)["return"] != *expected {
            assert!(Instant::now() < deadline, "{name} is not {expected}");
        }
    }

    pub fn memory_kib(&self) -> u64 {
        let status = self.proc("status");
        let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:"));
        let number = line.unwrap().trim().trim_end_matches(" kB");
        number.parse().unwrap()
    }

    pub fn cpu_time(&self) -> Duration {
        let stat = self.proc("stat");
        let (_, fields) = stat.rsplit_once(") ").unwrap();
        let times = fields.split(' ').skip(11).take(2);
        let ticks: u64 = times.map(|field| field.parse::<u64>().unwrap()).sum();
        Duration::from_millis(ticks * 1_000 / TICKS_PER_S)
    }

    fn proc(&self, file: &str) -> String {
        fs::read_to_string(format!("/proc/{}/{file}", self.program.id())).unwrap()
    }
}

impl Drop for Machine {
    fn drop(&mut self) {
        let _ = self.program.kill();
        let _ = self.program.wait();
    }
}
