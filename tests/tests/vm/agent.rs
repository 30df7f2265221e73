//! The guest agent as a host's programs meet it; replies are read by types that another project makes of
//! QEMU's schema.

use std::io::{BufRead as _, BufReader, Write as _};
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, bail, ensure};
use noonmark_contract::agent::{COMMANDS, PORT, SERVICE};
use noonmark_contract::record::{Event, Record, ServiceState, State, Status};
use noonmark_contract::units::Nanos;
use noonmark_qemu::{Device, NET_MAC};
use noonmark_tests::{build_spec, spec_with_trouble, test_folder};
use qapi_qga::{
    GuestAgentInfo, GuestDiskBusType, GuestFilesystemInfo, GuestHostName, GuestLogicalProcessor,
    GuestNetworkInterface, GuestOSInfo, GuestTimezone,
};
use serde::de::DeserializeOwned;
use serde_json::{Value, json};

use crate::disks::Tools;
use crate::platform::{Guest, Images, Platform, now};

/// A network, a data disk, a service, and the agent with all its commands.
const SPEC: &str = r#"
[image]
name = "agent"
hostname = "asked"
[agent]
enabled = true
[[network.interface]]
dhcp4 = true
[[mount]]
label = "data"
path = "/data"
type = "ext4"
[[service]]
name = "waits"
exec = ["/trouble", "wait"]
"#;

/// What QEMU's network gives its first guest.
const ADDRESS: &str = "10.0.2.15";

/// How long an answer may take.
const ANSWER: Duration = Duration::from_secs(60);

/// By how much `guest-set-time` is told a wrong time.
const WRONG_NS: i64 = 3_600_000_000_000;

/// How far the guest's clock and the host's may be apart, with an answer's way between their readings.
const APART: Nanos = Nanos::from_secs(5);

/// So much of an endless line is sent.
const ENDLESS_BYTES: usize = 16 << 20;

pub fn answers_a_host_on_its_port(platform: &Platform, _: &Images) -> Result<()> {
    let Some(tools) = Tools::find("answers_a_host_on_the_agents_port")? else {
        return Ok(());
    };
    let image = build_spec("agent", &(spec_with_trouble()? + SPEC))?;
    let data = test_folder("agent")?.join("data.img");
    tools.format(&data, "data")?;
    let sockets = tempfile::tempdir()?;
    let socket = sockets.path().join("agent");
    let mut config = platform.config(&image)?;
    config.test_port = false;
    config.devices = vec![
        Device::Net {
            forwards: Vec::new(),
            on: std::net::Ipv4Addr::LOCALHOST,
        },
        Device::Disk {
            path: data.clone(),
            writable: true,
        },
        Device::Port {
            name: PORT.to_owned(),
            socket: socket.clone(),
        },
    ];
    let mut guest = platform.boot_config(config)?;
    guest.check(|guest| {
        // Nobody was connected while the guest booted.
        let mut client = Client::connect(&socket)?;
        client.sync(1)?;
        has_the_schemas_shapes(&mut client)?;
        sets_no_clock(&mut client)?;
        freezes_and_thaws(&mut client, guest, || tools.is_clean(&data))?;
        is_not_upset(client, &socket, guest)
    })?;
    let mut client = Client::connect(&socket)?;
    client.sync(2)?;
    client.request("guest-shutdown", json!({ "mode": "powerdown" }))?;
    let deadline = Instant::now() + guest.machine.timeouts().shutdown();
    ensure!(guest.machine.wait_off(deadline)?, "it is still on");
    Ok(())
}

/// Without its port it is not started; with one it is, whenever that comes, and with the next one it goes on.
pub fn starts_when_its_port_is_there(platform: &Platform, _: &Images) -> Result<()> {
    let image = build_spec("agent-late", "[agent]\nenabled = true\n")?;
    let sockets = tempfile::tempdir()?;
    let mut config = platform.config(&image)?;
    config.test_port = false;
    let mut guest = platform.boot_config(config)?;
    guest.check(|guest| {
        let agent = |status: &Status| {
            status
                .services
                .iter()
                .map(|one| one.state)
                .collect::<Vec<_>>()
        };
        let before = status(guest, |_| true)?;
        ensure!(
            agent(&before) == [ServiceState::Waiting],
            "{:?}",
            before.services
        );
        for name in ["first", "second"] {
            let socket = sockets.path().join(name);
            plug(guest, name, &socket)?;
            let mut client = Client::connect(&socket)?;
            client.sync(1)?;
            client.run("guest-ping", json!({}))?;
            let deadline = Instant::now() + guest.machine.timeouts().answer();
            let unplug = json!({ "id": name });
            guest
                .machine
                .qmp()
                .execute("device_del", unplug, deadline)?;
            thread::sleep(Duration::from_millis(500));
        }
        let after = status(guest, |_| true)?;
        ensure!(
            agent(&after) == [ServiceState::Running],
            "{:?}",
            after.services
        );
        ensure!(after.services[0].restarts == 0, "{:?}", after.services);
        Ok(())
    })
}

/// Plugs in the agent's port, on whose socket QEMU listens.
fn plug(guest: &mut Guest, name: &str, socket: &Path) -> Result<()> {
    let deadline = Instant::now() + guest.machine.timeouts().answer();
    let address = json!({ "type": "unix", "data": { "path": socket } });
    let data = json!({ "addr": address, "server": true, "wait": false });
    let chardev = json!({ "id": name, "backend": { "type": "socket", "data": data } });
    let device = json!({
        "driver": "virtserialport", "bus": "ports.0", "chardev": name, "id": name, "name": PORT,
    });
    for (command, arguments) in [("chardev-add", chardev), ("device_add", device)] {
        guest.machine.qmp().execute(command, arguments, deadline)?;
    }
    Ok(())
}

fn has_the_schemas_shapes(client: &mut Client) -> Result<()> {
    let info: GuestAgentInfo = client.value("guest-info")?;
    let names: Vec<&str> = info.supported_commands.iter().map(|c| &*c.name).collect();
    ensure!(names == COMMANDS, "{names:?}");
    client.run("guest-ping", json!({}))?;
    let name: GuestHostName = client.value("guest-get-host-name")?;
    ensure!(name.host_name == "asked", "{}", name.host_name);
    let system: GuestOSInfo = client.value("guest-get-osinfo")?;
    ensure!(system.id.as_deref() == Some("noonmark"), "{system:?}");
    ensure!(system.machine.as_deref() == Some("x86_64"), "{system:?}");
    let processors: Vec<GuestLogicalProcessor> = client.value("guest-get-vcpus")?;
    ensure!(
        processors.len() == 2 && processors.iter().all(|one| one.online),
        "{processors:?}"
    );
    let zone: GuestTimezone = client.value("guest-get-timezone")?;
    ensure!(zone.offset == 0, "{zone:?}");
    let disks: Vec<GuestFilesystemInfo> = client.value("guest-get-fsinfo")?;
    let [disk] = disks.as_slice() else {
        bail!("{disks:?}");
    };
    ensure!(
        disk.mountpoint == "/data" && disk.type_ == "ext4",
        "{disk:?}"
    );
    ensure!(
        disk.total_bytes.is_some_and(|total| total > 1 << 20),
        "{disk:?}"
    );
    let [device] = disk.disk.as_slice() else {
        bail!("{disk:?}");
    };
    ensure!(
        matches!(device.bus_type, GuestDiskBusType::virtio),
        "{disk:?}"
    );
    ensure!(
        device.dev.as_deref() == Some(&format!("/dev/{}", disk.name)),
        "{disk:?}"
    );
    let deadline = Instant::now() + ANSWER;
    loop {
        let list: Vec<GuestNetworkInterface> = client.value("guest-network-get-interfaces")?;
        let nic = list
            .iter()
            .find(|one| one.hardware_address.as_deref() == Some(NET_MAC));
        let addresses = nic.and_then(|nic| nic.ip_addresses.as_deref());
        let leased = addresses.and_then(|list| list.iter().find(|one| one.ip_address == ADDRESS));
        if let Some(leased) = leased {
            ensure!(leased.prefix == 24, "{list:?}");
            ensure!(nic.is_some_and(|nic| nic.statistics.is_some()), "{list:?}");
            break;
        }
        ensure!(Instant::now() < deadline, "no {ADDRESS} in {list:?}");
        thread::sleep(Duration::from_millis(100));
    }
    for name in ["guest-exec", "guest-file-open", "guest-set-user-password"] {
        let told = client.reply_to(name, json!({}))?;
        ensure!(told["error"]["class"] == "CommandNotFound", "{told}");
    }
    Ok(())
}

/// The time that it is given is an hour off, and stays without effect.
fn sets_no_clock(client: &mut Client) -> Result<()> {
    let wrong = now()?.0 + WRONG_NS;
    let answer = client.run("guest-set-time", json!({ "time": wrong }))?;
    ensure!(answer == json!({}), "{answer}");
    client.run("guest-set-time", json!({}))?;
    let time = client.run("guest-get-time", json!({}))?;
    let off = Nanos(now()?.0 - time.as_i64().context("no number")?);
    ensure!(off.abs() < APART, "the guest is {off} behind the host");
    Ok(())
}

/// While it is frozen, and not before, a copy of its disk is clean: that is what `is_clean` says.
fn freezes_and_thaws(
    client: &mut Client,
    guest: &mut Guest,
    is_clean: impl Fn() -> Result<()>,
) -> Result<()> {
    ensure!(client.run("guest-fsfreeze-status", json!({}))? == json!("thawed"));
    ensure!(is_clean().is_err(), "a disk that is in use is clean");
    let count = client.run("guest-fsfreeze-freeze", json!({}))?;
    ensure!(count == json!(1), "{count} file systems");
    ensure!(client.run("guest-fsfreeze-status", json!({}))? == json!("frozen"));
    is_clean().context("while it is frozen")?;
    let told = client.reply_to("guest-get-fsinfo", json!({}))?;
    ensure!(told["error"]["class"] == "CommandNotFound", "{told}");
    client.run("guest-get-time", json!({}))?;
    let status = status(guest, |status| status.frozen)?;
    let state = |name: &str| {
        let mut services = status.services.iter();
        services
            .find(|service| service.name == name)
            .map(|service| service.state)
    };
    ensure!(
        state("waits") == Some(ServiceState::Frozen),
        "{:?}",
        status.services
    );
    ensure!(
        state(SERVICE) == Some(ServiceState::Running),
        "{:?}",
        status.services
    );
    let count = client.run("guest-fsfreeze-thaw", json!({}))?;
    ensure!(count == json!(1), "{count} file systems");
    ensure!(client.run("guest-fsfreeze-thaw", json!({}))? == json!(0));
    ensure!(client.run("guest-fsfreeze-status", json!({}))? == json!("thawed"));
    let runs = |status: &Status| {
        let mut services = status.services.iter();
        !status.frozen && services.all(|service| service.state == ServiceState::Running)
    };
    self::status(guest, runs).map(drop)
}

/// Garbage, an endless line, a flood of syncs, a client that leaves in the middle: the clock has nothing of
/// it, and the agent neither ends nor grows.
fn is_not_upset(mut client: Client, socket: &Path, guest: &mut Guest) -> Result<()> {
    client.write(b"hello\n\x00\x01\x02\n[]]]}\n{\"execute\":\"")?;
    let chunk = vec![b'x'; 64 << 10];
    for _ in 0..ENDLESS_BYTES / chunk.len() {
        client.write(&chunk)?;
    }
    // In the middle of it.
    drop(client);
    let mut client = Client::connect(socket)?;
    client.sync(3)?;
    let began = Instant::now();
    let mut count = 0;
    while count < 2_000 {
        for id in count..count + 50 {
            client.request("guest-sync", json!({ "id": id }))?;
        }
        for id in count..count + 50 {
            let reply = client.reply()?;
            ensure!(reply["return"] == json!(id), "{reply}");
        }
        count += 50;
    }
    let rate = f64::from(count) / began.elapsed().as_secs_f64();
    eprintln!("{count} syncs, {rate:.0} a second");
    client.write(b"{\"execute\":\"guest-pi")?;
    drop(client);
    let status = status(guest, |_| true)?;
    ensure!(
        status.state == State::Synced && status.alerts.is_empty(),
        "{status:?}"
    );
    ensure!(
        status.disruptions.values().sum::<u64>() <= 1,
        "{:?}",
        status.disruptions
    );
    let mut services = status.services.iter();
    let agent = services
        .find(|service| service.name == SERVICE)
        .context("no agent")?;
    ensure!(agent.restarts == 0 && agent.oom_kills == 0, "{agent:?}");
    ensure!(
        agent.memory_kib.is_some_and(|kib| kib < 4 << 10),
        "{agent:?}"
    );
    Ok(())
}

/// The next status record that is as it should be.
fn status(guest: &mut Guest, is_right: impl Fn(&Status) -> bool) -> Result<Status> {
    let deadline = Instant::now() + guest.machine.timeouts().answer();
    // Those that wait are of the past.
    let records = guest.machine.subscribe();
    loop {
        let next = guest
            .machine
            .record(&records, "a status record", deadline)?;
        match next {
            Record::Status(status) if is_right(&status) => return Ok(status),
            Record::Status(_) => {}
            Record::Event(record) => {
                if let Event::Failure { what } = record.event {
                    bail!("{what}");
                }
            }
        }
    }
}

/// A program of the host's that talks to the agent.
struct Client(BufReader<UnixStream>);

impl Client {
    fn connect(socket: &Path) -> Result<Self> {
        let stream = UnixStream::connect(socket).context("the agent's socket")?;
        stream.set_read_timeout(Some(ANSWER))?;
        stream.set_write_timeout(Some(ANSWER))?;
        Ok(Self(BufReader::new(stream)))
    }

    fn write(&mut self, bytes: &[u8]) -> Result<()> {
        Ok(self.0.get_mut().write_all(bytes)?)
    }

    fn request(&mut self, name: &str, arguments: Value) -> Result<()> {
        let request = json!({ "execute": name, "arguments": arguments });
        self.write(format!("{request}\n").as_bytes())
    }

    fn reply(&mut self) -> Result<Value> {
        let mut line = Vec::new();
        self.0.read_until(b'\n', &mut line).context("no reply")?;
        let text = String::from_utf8_lossy(&line).into_owned();
        serde_json::from_slice(&line).with_context(|| format!("no JSON: {text:?}"))
    }

    fn reply_to(&mut self, name: &str, arguments: Value) -> Result<Value> {
        self.request(name, arguments)?;
        self.reply().with_context(|| name.to_owned())
    }

    fn run(&mut self, name: &str, arguments: Value) -> Result<Value> {
        let mut reply = self.reply_to(name, arguments)?;
        ensure!(reply.get("return").is_some(), "{name}: {reply}");
        Ok(reply["return"].take())
    }

    fn value<T: DeserializeOwned>(&mut self, name: &str) -> Result<T> {
        let value = self.run(name, json!({}))?;
        let text = value.to_string();
        serde_json::from_value(value).with_context(|| format!("{name}: {text}"))
    }

    /// As clients begin: whatever the last one left behind is passed over, on both sides.
    fn sync(&mut self, id: i64) -> Result<()> {
        self.write(b"\xff")?;
        self.request("guest-sync-delimited", json!({ "id": id }))?;
        let mut before = Vec::new();
        self.0.read_until(0xff, &mut before).context("no sync")?;
        let reply = self.reply()?;
        ensure!(reply["return"] == json!(id), "{reply}");
        Ok(())
    }
}
