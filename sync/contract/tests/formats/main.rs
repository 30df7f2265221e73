//! The bytes that others read: records, commands, the test port's messages; in `config` the boot
//! configuration. A change here is a change of a format.

mod config;

use std::collections::BTreeMap;

use noonmark_contract::host_clock::HostClock;
use noonmark_contract::record::{
    Alert, Boot, Cause, Command, DetectedBy, DiskState, DiskStatus, Effective, Event, EventRecord,
    LastReading, Origin, Record, Recovery, Seed, SeedState, ServiceState, ServiceStatus, Shutdown,
    SourceStatus, State, Status, ThawedBy, Topic, Usage,
};
use noonmark_contract::sample::{Method, Source};
use noonmark_contract::testport::{
    Answer, Ask, Clocks, ErrorPoint, Fault, HostError, HostTime, Observation, Outcome, Query,
    Request, Stretch, TracePoint, Track, Vigil,
};
use noonmark_contract::units::{Nanos, Ppb, Raw, Utc};
use serde::{Serialize, de::DeserializeOwned};

/// The value is written as `json`, and `json` is read as the value.
fn is_written_as<T>(value: &T, json: &str)
where
    T: Serialize + DeserializeOwned + PartialEq + std::fmt::Debug,
{
    let written = serde_json::to_string(value).expect("it can be written");
    assert_eq!(written, json);
    let read: T = serde_json::from_str(json).expect("it can be read");
    assert_eq!(&read, value);
}

fn event(event: Event) -> Record {
    Record::Event(EventRecord {
        v: 1,
        seq: 7,
        time_ns: Utc(1_800_000_000_000_000_000),
        uptime_ns: Nanos(5),
        event,
    })
}

#[test]
fn the_status_record() {
    let status = Status {
        v: 1,
        seq: 12,
        time_ns: Utc(1_800_000_000_000_000_000),
        uptime_ns: Nanos(61_000_000_000),
        state: State::Synced,
        source: Some(Source::Kvm),
        method: Some(Method::Precise),
        offset_ns: Nanos(-3),
        bound_ns: Nanos(310),
        utc_bound_ns: Some(Nanos(1_310)),
        utc_unknown: None,
        host_clock: HostClock::from_numbers([1_000, 500, 37]),
        frequency_ppb: Ppb(-23_400.5),
        drift_ppb_per_s: 0.25,
        jitter_ns: Nanos(2),
        since_good_ns: Nanos(20_000_000),
        poll_ns: Nanos(20_000_000),
        sources: vec![
            SourceStatus {
                source: Source::Kvm,
                good: 3_000,
                bad: 1,
                reach: 0o377,
                last: Some(LastReading {
                    ago_ns: Nanos(20_000_000),
                    offset_ns: Nanos(-3),
                    bound_ns: Nanos(10),
                }),
                last_failure: Some("refused with errno 95".into()),
            },
            SourceStatus {
                source: Source::Phc("igb".into()),
                good: 0,
                bad: 0,
                reach: 0,
                last: None,
                last_failure: None,
            },
        ],
        disruptions: BTreeMap::from([(Cause::Boot, 1), (Cause::GuestStep, 10)]),
        recovery: Recovery {
            count: 10,
            last_ns: Nanos(400_000),
            p50_ns: Nanos(410_000),
            p99_ns: Nanos(900_000),
            max_ns: Nanos(900_000),
        },
        availability: 0.9999,
        alerts: vec![Alert::SourceLies],
        dropped: 2,
        rejected: 1,
        boot: Boot {
            kernel_to_init_ns: Nanos(900_000_000),
            init_to_synced_ns: Some(Nanos(80_000_000)),
        },
        init: Usage {
            cpu_ppm: 4_100,
            rss_kib: 1_100,
        },
        kernel: "6.1.0-44-cloud-amd64".into(),
        clocksource: "kvm-clock".into(),
        config: BTreeMap::from([(
            "hostname".into(),
            Effective {
                value: "sundial".into(),
                origin: Origin::Seed,
            },
        )]),
        seed: Seed {
            state: SeedState::Applied,
            device: Some("vda".into()),
            instance_id: Some("i-1".into()),
            taken: vec!["user-data line 2: hostname".into()],
            ignored: vec!["packages: no package manager".into()],
            refused: vec!["user-data line 3: ntp: expected a list".into()],
            problem: None,
        },
        services: vec![
            ServiceStatus {
                name: "web".into(),
                state: ServiceState::Running,
                pid: Some(71),
                restarts: 2,
                last_exit: Some("killed by signal 9".into()),
                status_text: Some("3 clients".into()),
                notifications_refused: 4,
                memory_kib: Some(640),
                oom_kills: 1,
                output_dropped_bytes: 0,
                tasks_refused: 7,
            },
            // What is left out is none, or zero.
            serde_json::from_str(r#"{"name":"log","state":"waiting"}"#).expect("a service"),
        ],
        disks: vec![DiskStatus {
            label: "data".into(),
            path: "/data".into(),
            state: DiskState::Mounted,
            device: Some("vdb".into()),
            problem: None,
        }],
        frozen: true,
    };
    is_written_as(
        &Record::Status(status),
        concat!(
            r#"{"type":"status","v":1,"seq":12,"time_ns":1800000000000000000,"#,
            r#""uptime_ns":61000000000,"state":"synced","source":"kvm","method":"precise","#,
            r#""offset_ns":-3,"bound_ns":310,"utc_bound_ns":1310,"#,
            r#""host_clock":{"maxerror_ns":1000,"esterror_ns":500,"unsync":false,"tai_offset_s":37,"#,
            r#""leap":"none"},"frequency_ppb":-23400.5,"drift_ppb_per_s":0.25,"#,
            r#""jitter_ns":2,"since_good_ns":20000000,"poll_ns":20000000,"sources":["#,
            r#"{"source":"kvm","good":3000,"bad":1,"reach":255,"last":{"ago_ns":20000000,"#,
            r#""offset_ns":-3,"bound_ns":10},"last_failure":"refused with errno 95"},"#,
            r#"{"source":"phc:igb","good":0,"bad":0,"reach":0}],"disruptions":{"boot":1,"guest_step":10},"#,
            r#""recovery":{"count":10,"last_ns":400000,"p50_ns":410000,"p99_ns":900000,"#,
            r#""max_ns":900000},"availability":0.9999,"alerts":["source_lies"],"dropped":2,"#,
            r#""rejected":1,"boot":{"kernel_to_init_ns":900000000,"#,
            r#""init_to_synced_ns":80000000},"init":{"cpu_ppm":4100,"rss_kib":1100},"#,
            r#""kernel":"6.1.0-44-cloud-amd64","clocksource":"kvm-clock","#,
            r#""config":{"hostname":{"value":"sundial","origin":"seed"}},"#,
            r#""seed":{"state":"applied","device":"vda","instance_id":"i-1","#,
            r#""taken":["user-data line 2: hostname"],"ignored":["packages: no package manager"],"#,
            r#""refused":["user-data line 3: ntp: expected a list"]},"#,
            r#""services":["#,
            r#"{"name":"web","state":"running","pid":71,"restarts":2,"#,
            r#""last_exit":"killed by signal 9","status_text":"3 clients","notifications_refused":4,"memory_kib":640,"oom_kills":1,"tasks_refused":7},"#,
            r#"{"name":"log","state":"waiting"}],"#,
            r#""disks":[{"label":"data","path":"/data","state":"mounted","device":"vdb"}],"frozen":true}"#,
        ),
    );
}

#[test]
fn every_kind_of_event_record() {
    let head = |name: &str| {
        format!(
            r#"{{"type":"event","v":1,"seq":7,"time_ns":1800000000000000000,"uptime_ns":5,"event":"{name}""#
        )
    };
    let cases = [
        (
            Event::Synced {
                source: Source::Host,
                method: Method::RoundTrip,
                offset_ns: Nanos(1),
                bound_ns: Nanos(2),
            },
            "synced",
            r#","source":"host","method":"round-trip","offset_ns":1,"bound_ns":2}"#,
        ),
        (
            Event::Disrupted {
                cause: Cause::HostPause,
                detected_by: DetectedBy::WatchTick,
                offset_ns: Nanos(3),
            },
            "disrupted",
            r#","cause":"host_pause","detected_by":"watch_tick","offset_ns":3}"#,
        ),
        (
            Event::HostRate {
                rate_ppb: Ppb(20_500.0),
                change_ppb: Ppb(-500.0),
            },
            "host_rate",
            r#","rate_ppb":20500.0,"change_ppb":-500.0}"#,
        ),
        (
            Event::Recovered {
                cause: Cause::GuestStep,
                detected_by: DetectedBy::CancelOnSet,
                took_ns: Nanos(4),
                residual_ns: Nanos(-5),
                bound_ns: Nanos(6),
            },
            "recovered",
            concat!(
                r#","cause":"guest_step","detected_by":"cancel_on_set","took_ns":4,"#,
                r#""residual_ns":-5,"bound_ns":6}"#
            ),
        ),
        (
            Event::Source {
                from: Some(Source::Kvm),
                to: None,
                why: "gone".into(),
            },
            "source",
            r#","from":"kvm","to":null,"why":"gone"}"#,
        ),
        (
            Event::Alert {
                alert: Alert::LongHoldover,
                standing: true,
                why: "alone".into(),
            },
            "alert",
            r#","alert":"long_holdover","standing":true,"why":"alone"}"#,
        ),
        (
            Event::Service {
                name: "web".into(),
                what: "exited 0".into(),
            },
            "service",
            r#","name":"web","what":"exited 0"}"#,
        ),
        (
            Event::Seed {
                state: SeedState::Refused,
                what: "two disks".into(),
            },
            "seed",
            r#","state":"refused","what":"two disks"}"#,
        ),
        (
            Event::Frozen { file_systems: 2 },
            "frozen",
            r#","file_systems":2}"#,
        ),
        (
            Event::Thawed {
                by: ThawedBy::Resume,
            },
            "thawed",
            r#","by":"resume"}"#,
        ),
    ];
    for (kind, name, rest) in cases {
        is_written_as(&event(kind), &format!("{}{rest}", head(name)));
    }
}

#[test]
fn a_reader_ignores_keys_that_it_does_not_know() {
    let line = concat!(
        r#"{"type":"event","v":1,"seq":7,"time_ns":1,"uptime_ns":5,"event":"failure","#,
        r#""what":"x","later":[1,2]}"#
    );
    let read: Record = serde_json::from_str(line).expect("a later version's key is no error");
    let Record::Event(record) = read else {
        panic!("an event is read as {read:?}");
    };
    assert_eq!(record.event, Event::Failure { what: "x".into() });
}

#[test]
fn the_hosts_commands() {
    is_written_as(&Command::Get(Topic::Status), r#"{"get":"status"}"#);
    is_written_as(&Command::Kick(true), r#"{"kick":true}"#);
    is_written_as(&Command::Freeze(true), r#"{"freeze":true}"#);
    is_written_as(&Command::Thaw(true), r#"{"thaw":true}"#);
    is_written_as(
        &Command::Shutdown(Shutdown::Poweroff),
        r#"{"shutdown":"poweroff"}"#,
    );
    for wrong in [r#"{"get":"x"}"#, r#"{"kick":1}"#, "{}", "null", ""] {
        assert!(serde_json::from_str::<Command>(wrong).is_err(), "{wrong}");
    }
}

#[test]
fn the_test_ports_messages() {
    is_written_as(
        &Request {
            v: 1,
            id: 3,
            fault: Fault::Shift(Nanos(-50_000_000)),
            tolerance_ns: Nanos(1_000_000),
            error_limit_ns: Nanos(1_000),
            settle_ns: Nanos(20_000_000),
            deadline_ms: 5_000,
        },
        concat!(
            r#"{"v":1,"id":3,"fault":{"shift":-50000000},"tolerance_ns":1000000,"#,
            r#""error_limit_ns":1000,"settle_ns":20000000,"deadline_ms":5000}"#
        ),
    );
    let query = Query {
        v: 1,
        id: 5,
        ask: Ask::EndVigil,
    };
    is_written_as(&query, r#"{"v":1,"id":5,"ask":"end_vigil"}"#);
    is_written_as(
        &Outcome::Kept(Vigil {
            stretches: vec![Stretch {
                from: Raw(1),
                to: Raw(2),
                from_ns: Nanos(3),
                to_ns: Nanos(4),
                reads: 5,
            }],
            lost: 0,
        }),
        concat!(
            r#"{"kept":{"stretches":[{"from":1,"to":2,"from_ns":3,"to_ns":4,"reads":5}],"#,
            r#""lost":0}}"#
        ),
    );
    is_written_as(&Ask::Track { every_ms: 50 }, r#"{"track":{"every_ms":50}}"#);
    is_written_as(
        &Outcome::Tracked(Track {
            began: Raw(1),
            points: vec![ErrorPoint {
                at: Nanos(2),
                error: Nanos(-3),
                bound: Nanos(4),
            }],
            failed: 5,
            lost: 0,
        }),
        r#"{"tracked":{"began":1,"points":[[2,-3,4]],"failed":5,"lost":0}}"#,
    );
    is_written_as(
        &Outcome::Time(Clocks {
            raw: Raw(1),
            realtime: Utc(2),
            width_ns: Nanos(0),
            host: Some(HostTime {
                utc: Utc(3),
                bound_ns: Nanos(10),
            }),
        }),
        concat!(
            r#"{"time":{"raw":1,"realtime":2,"width_ns":0,"#,
            r#""host":{"utc":3,"bound_ns":10}}}"#
        ),
    );
    is_written_as(&Fault::Tick(11_000), r#"{"tick":11000}"#);
    is_written_as(&Fault::Set(Utc(9)), r#"{"set":9}"#);
    is_written_as(&Fault::None, r#""none""#);
    is_written_as(
        &Answer {
            v: 1,
            id: 3,
            outcome: Outcome::Observed(Observation {
                recovered_ns: Some(Nanos(610_000)),
                wrong_reads: 41,
                reads: 90_000,
                worst_ns: Nanos(3_600_000_000_000),
                residual_ns: Nanos(-12),
                residual_bound_ns: Nanos(60),
                restored_ns: None,
                before: None,
                after: Some(HostError {
                    error_ns: Nanos(-12),
                    bound_ns: Nanos(3),
                }),
                trace: vec![TracePoint {
                    at: Nanos(700),
                    error: Nanos(3_600_000_000_000),
                }],
            }),
        },
        concat!(
            r#"{"v":1,"id":3,"observed":{"recovered_ns":610000,"wrong_reads":41,"reads":90000,"#,
            r#""worst_ns":3600000000000,"residual_ns":-12,"residual_bound_ns":60,"#,
            r#""restored_ns":null,"trace":[[700,3600000000000]],"#,
            r#""after":{"error_ns":-12,"bound_ns":3}}}"#
        ),
    );
    is_written_as(
        &Answer {
            v: 1,
            id: 4,
            outcome: Outcome::Error("no right to set the clock".into()),
        },
        r#"{"v":1,"id":4,"error":"no right to set the clock"}"#,
    );
}
