//! The program as a host and PID 1 meet it: a socket in PID 1's place, another in the port's. Replies are
//! read by types that another project makes of QEMU's schema.

mod machine;

use std::time::Duration;

use machine::Machine;
use noonmark_contract::agent::{Answer, Ask, COMMANDS};
use noonmark_contract::record::Shutdown;
use qapi_qga::{
    GuestAgentInfo, GuestFilesystemInfo, GuestFsfreezeStatus, GuestHostName, GuestLogicalProcessor,
    GuestNetworkInterface, GuestOSInfo, GuestTimezone,
};
use serde_json::{Value, json};

/// More memory than the program takes, by far less than it was sent, KiB.
const MEMORY_MAX_KIB: u64 = 8 * 1024;

fn all() -> Machine {
    Machine::start(&COMMANDS)
}

fn error(class: &str, desc: &str) -> Value {
    json!({ "error": { "class": class, "desc": desc } })
}

#[test]
fn each_answer_is_of_the_schemas_shape() {
    let mut machine = all();
    let info: GuestAgentInfo = machine.value("guest-info");
    let names: Vec<_> = info.supported_commands.iter().map(|c| &*c.name).collect();
    assert_eq!(names, COMMANDS);
    for command in &info.supported_commands {
        assert!(command.enabled);
        assert_eq!(command.success_response, command.name != "guest-shutdown");
    }
    let time: i64 = machine.value("guest-get-time");
    assert!(time > 1_767_225_600_000_000_000);
    let name: GuestHostName = machine.value("guest-get-host-name");
    assert!(!name.host_name.is_empty());
    let system: GuestOSInfo = machine.value("guest-get-osinfo");
    assert!(system.kernel_release.is_some_and(|text| !text.is_empty()));
    assert!(system.id.is_some() && system.pretty_name.is_some());
    let processors: Vec<GuestLogicalProcessor> = machine.value("guest-get-vcpus");
    assert!(processors.iter().any(|processor| processor.online));
    let zone: GuestTimezone = machine.value("guest-get-timezone");
    assert_eq!((zone.zone.as_deref(), zone.offset), (Some("UTC"), 0));
    let status: GuestFsfreezeStatus = machine.value("guest-fsfreeze-status");
    assert!(matches!(status, GuestFsfreezeStatus::thawed));
    let disks: Vec<GuestFilesystemInfo> = machine.value("guest-get-fsinfo");
    assert!(disks.iter().all(|disk| disk.mountpoint.starts_with('/')));
    let interfaces: Vec<GuestNetworkInterface> = machine.value("guest-network-get-interfaces");
    let loopback = interfaces.iter().find(|interface| interface.name == "lo");
    let loopback = loopback.expect("a loopback");
    assert!(loopback.statistics.is_some());
    let addresses = loopback.ip_addresses.as_deref().unwrap_or_default();
    let local = addresses.iter().find(|a| a.ip_address == "127.0.0.1");
    assert_eq!(local.map(|address| address.prefix), Some(8));
}

#[test]
fn a_sync_comes_back_with_its_number_and_the_requests_id() {
    let mut machine = all();
    machine.write(br#"{"execute":"guest-sync","arguments":{"id":1234567890123},"id":[1]}"#);
    assert_eq!(
        machine.reply(),
        json!({ "return": 1_234_567_890_123_i64, "id": [1] })
    );
    // A client that begins anew, in the middle of what another one has begun.
    machine.write(b"{\"execute\":\"guest-pi\xff");
    machine.write(b"{\"execute\":\"guest-sync-delimited\",\"arguments\":{\"id\":-5}}\n");
    assert_eq!(machine.line(), b"\xff{\"return\":-5}\n");
    assert_eq!(machine.run("guest-ping", None), json!({ "return": {} }));
}

#[test]
fn errors_are_in_qemus_words() {
    let mut machine = Machine::start(&[
        "guest-sync",
        "guest-ping",
        "guest-set-time",
        "guest-shutdown",
    ]);
    let class = "CommandNotFound";
    let unknown = |name| error(class, &format!("The command {name} has not been found"));
    for name in ["guest-exec", "guest-file-open", "quit", ""] {
        assert_eq!(machine.run(name, None), unknown(name));
    }
    let disabled = error(class, "Command guest-info has been disabled");
    assert_eq!(machine.run("guest-info", None), disabled);
    for (name, arguments, told) in [
        ("guest-sync", json!({}), "Parameter 'id' is missing"),
        (
            "guest-sync",
            json!({ "id": "1" }),
            "Invalid parameter type for 'id', expected: integer",
        ),
        (
            "guest-sync",
            json!({ "id": 1, "x": 2 }),
            "Parameter 'x' is unexpected",
        ),
        (
            "guest-ping",
            json!({ "x": 2 }),
            "Parameter 'x' is unexpected",
        ),
        (
            "guest-set-time",
            json!({ "time": 1.5 }),
            "Invalid parameter type for 'time', expected: integer",
        ),
        (
            "guest-shutdown",
            json!({ "mode": "explode" }),
            "mode is invalid (valid values are: halt|powerdown|reboot)",
        ),
    ] {
        assert_eq!(
            machine.run(name, Some(arguments)),
            error("GenericError", told)
        );
    }
    machine.write(b"{\"run\":1}");
    let told = "QMP input member 'run' is unexpected";
    assert_eq!(machine.reply(), error("GenericError", told));
}

#[test]
fn what_takes_a_right_is_asked_of_pid_1_and_its_reason_comes_back() {
    let mut machine = all();
    for (name, arguments, ask, count, expected) in [
        (
            "guest-set-time",
            json!({ "time": 1 }),
            Ask::Verify,
            0,
            json!({}),
        ),
        ("guest-set-time", json!({}), Ask::Verify, 0, json!({})),
        ("guest-fsfreeze-freeze", json!({}), Ask::Freeze, 2, json!(2)),
        ("guest-fsfreeze-thaw", json!({}), Ask::Thaw, 1, json!(1)),
    ] {
        machine.request(name, Some(arguments));
        let number = machine.asked(ask);
        // An answer to another question is none to this one.
        machine.tell(
            &Answer::Done {
                number: number - 1,
                count: 77,
            },
            None,
        );
        machine.tell(&Answer::Done { number, count }, None);
        assert_eq!(machine.reply(), json!({ "return": expected }));
    }
    machine.request("guest-fsfreeze-freeze", None);
    let number = machine.asked(Ask::Freeze);
    let why = "failed to freeze /data: Input/output error".to_owned();
    machine.tell(
        &Answer::Failed {
            number,
            why: why.clone(),
        },
        None,
    );
    assert_eq!(machine.reply(), error("GenericError", &why));
    for (mode, how) in [
        (json!({}), Shutdown::Poweroff),
        (json!({ "mode": "powerdown" }), Shutdown::Poweroff),
        (json!({ "mode": "reboot" }), Shutdown::Reboot),
        (json!({ "mode": "halt" }), Shutdown::Halt),
    ] {
        machine.request("guest-shutdown", Some(mode));
        let number = machine.asked(Ask::Shutdown(how));
        machine.tell(&Answer::Done { number, count: 0 }, None);
        // Its success is silent: the next reply is another request's.
        assert_eq!(machine.run("guest-ping", None), json!({ "return": {} }));
    }
}

#[test]
fn a_frozen_guest_does_what_touches_no_file_system() {
    let mut machine = all();
    machine.tell(&Answer::Frozen(true), None);
    machine.until("guest-fsfreeze-status", &json!("frozen"));
    let told = "Command guest-get-fsinfo has been disabled: the agent is in frozen state";
    let refused = error("CommandNotFound", told);
    assert_eq!(machine.run("guest-get-fsinfo", None), refused);
    assert_eq!(machine.run("guest-ping", None), json!({ "return": {} }));
    let info: GuestAgentInfo = machine.value("guest-info");
    let enabled = info
        .supported_commands
        .iter()
        .filter(|command| command.enabled);
    assert_eq!(enabled.count(), 8);
    machine.tell(&Answer::Frozen(false), None);
    machine.until("guest-fsfreeze-status", &json!("thawed"));
}

#[test]
fn garbage_floods_and_endless_lines_take_no_memory_and_leave_it_answering() {
    let mut machine = all();
    machine.write(b"hello\n\x00\x01[1,2]\n}}}\n\"{}\n");
    for _ in 0..4 {
        assert_eq!(machine.reply()["error"]["class"], "GenericError");
    }
    machine.write(b"{\"execute\":\"");
    for _ in 0..256 {
        machine.write(&[b'x'; 256 * 1024]);
    }
    machine.write(b"\"}\n");
    let desc = machine.reply()["error"]["desc"].clone();
    assert!(
        desc.as_str()
            .is_some_and(|told| told.contains("longer than 16384 bytes")),
        "{desc}"
    );
    let deep = [b"{\"execute\":".as_slice(), &[b'['; 10_000], b"\n\xff"].concat();
    machine.write(&deep);
    assert_eq!(machine.run("guest-ping", None), json!({ "return": {} }));
    // No more at a time than the sockets hold.
    for first in (0..1_000).step_by(50) {
        for number in first..first + 50 {
            machine.request("guest-sync", Some(json!({ "id": number })));
        }
        for number in first..first + 50 {
            assert_eq!(machine.reply(), json!({ "return": number }));
        }
    }
    assert!(
        machine.memory_kib() < MEMORY_MAX_KIB,
        "{} KiB",
        machine.memory_kib()
    );
}

#[test]
fn a_host_that_asks_and_does_not_listen_is_not_read_from_any_more() {
    let mut machine = all();
    let written = machine.write_until_full(b"{\"execute\":\"guest-info\"}\n");
    // What both sockets hold, and no more.
    assert!(written < 4 << 20, "{written} bytes");
    assert!(
        machine.memory_kib() < MEMORY_MAX_KIB,
        "{} KiB",
        machine.memory_kib()
    );
    let used = machine.cpu_time();
    std::thread::sleep(Duration::from_secs(1));
    assert!(
        machine.cpu_time() - used < Duration::from_millis(200),
        "it spins"
    );
    for _ in 0..100 {
        assert!(machine.reply()["return"]["version"].is_string());
    }
}

#[test]
fn a_client_that_leaves_in_the_middle_is_forgotten_and_nothing_spins() {
    let mut machine = all();
    machine.write(b"{\"execute\":\"guest-get-");
    machine.leave();
    let used = machine.cpu_time();
    std::thread::sleep(Duration::from_secs(1));
    assert!(
        machine.cpu_time() - used < Duration::from_millis(200),
        "it spins"
    );
    machine.connect();
    assert_eq!(machine.run("guest-ping", None), json!({ "return": {} }));
}
