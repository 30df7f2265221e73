//! The boot configuration, which the build writes and PID 1 reads.

use std::collections::BTreeMap;

use noonmark_contract::config::network::{Interface, NetworkConfig, NtpConfig};
use noonmark_contract::config::system::{DataDisk, FileSystem, SeedConfig, TmpfsConfig};
use noonmark_contract::config::{
    BootConfig, Capability, ClockConfig, FailureAction, Module, OnDisruption, OnStartTimeout,
    Output, Restart, Service, ServiceSignal, Start, StatusConfig,
};
use noonmark_contract::sample::Source;
use noonmark_contract::units::{Nanos, Utc};

use crate::is_written_as;

#[test]
fn the_boot_configuration_is_read_back_as_written() {
    let config = BootConfig {
        v: 1,
        hostname: "noonmark".into(),
        built: Utc(1_767_225_600_000_000_000),
        modules: vec![Module {
            name: "ptp_kvm".into(),
            path: "/lib/modules/ptp_kvm.ko".into(),
        }],
        clock: ClockConfig::default(),
        status: StatusConfig::default(),
        on_failure: FailureAction::PowerOff,
        network: NetworkConfig {
            interface: vec![Interface {
                dhcp4: true,
                addresses: vec!["192.0.2.7/24".parse().expect("an address")],
                ..Interface::default()
            }],
        },
        ntp: NtpConfig {
            servers: vec!["192.0.2.1:1123".parse().expect("a server")],
            ..NtpConfig::default()
        },
        lock_modules: true,
        services: vec![Service {
            env: BTreeMap::from([("PORT".into(), "80".into())]),
            user: Some(1_000),
            start_timeout_s: Some(30),
            on_start_timeout: OnStartTimeout::Start,
            restart: Restart::OnFailure,
            on_disruption: OnDisruption::Signal(ServiceSignal::Hup),
            capabilities: vec![Capability::SYS_TIME],
            memory_max: Some("64M".parse().expect("a size")),
            output: Output::Port("log".into()),
            ..Service::new("web", vec!["/bin/web".into(), "-p".into()])
        }],
        seed: SeedConfig::default(),
        sysctl: BTreeMap::from([(
            "vm.swappiness".parse().expect("a name"),
            "10".parse().expect("a value"),
        )]),
        tmpfs: TmpfsConfig::default(),
        watchdog_timeout_s: Some(10),
        mounts: vec![DataDisk {
            label: "data".parse().expect("a label"),
            path: "/data".parse().expect("a path"),
            kind: FileSystem::Ext4,
            read_only: false,
            exec: false,
            required: true,
            wait: DataDisk::WAIT,
        }],
        freeze_limit_s: 7,
    };
    let json = serde_json::to_string(&config).expect("it can be written");
    let read: BootConfig = serde_json::from_str(&json).expect("it can be read");
    assert_eq!(read, config);
}

#[test]
fn a_boot_configuration_without_the_clock_gets_the_defaults() {
    let json = concat!(
        r#"{"v":1,"hostname":"h","built":5,"modules":[],"clock":{},"status":{},"#,
        r#""on_failure":"reboot","services":[{"name":"n","exec":["/x"]}]}"#
    );
    let read: BootConfig = serde_json::from_str(json).expect("defaults fill the gaps");
    assert_eq!(read.clock, ClockConfig::default());
    assert_eq!(read.clock.step, Nanos::from_micros(100));
    assert_eq!(read.clock.watch, Nanos::from_millis(20));
    assert_eq!(read.services[0].start, Start::ClockSynced);
}

#[test]
fn an_unknown_key_in_the_boot_configuration_is_an_error_that_names_it() {
    let json = r#"{"step":1,"stepp":2}"#;
    let error = serde_json::from_str::<ClockConfig>(json).expect_err("a typo is no setting");
    assert!(error.to_string().contains("stepp"), "{error}");
}

#[test]
fn every_source_is_written_in_the_words_of_the_configuration() {
    let names = [
        "kvm",
        "vmclock",
        "virtio-rtc",
        "hyperv",
        "vmware",
        "phc:00:11:22:33:44:55",
        "host",
        "ntp",
        "rtc",
    ];
    for name in names {
        let source: Source = name.parse().expect("it is one of the list");
        assert_eq!(source.to_string(), name);
        is_written_as(&source, &format!("\"{name}\""));
    }
    for wrong in ["", "KVM", "phc:", "phc", "gps"] {
        let error = wrong.parse::<Source>().expect_err("it is none of the list");
        assert!(error.to_string().contains(wrong));
    }
}
