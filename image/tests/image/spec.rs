//! What `guest.toml` may say, and what is said of one that is wrong.

use std::path::Path;

use noonmark_contract::sample::Source;
use noonmark_contract::units::Nanos;
use noonmark_image::compress::Compression;
use noonmark_image::spec::{KernelSource, Spec};
use proptest::prelude::*;

use crate::support::{empty_spec, spec};

pub const COMMENTED: &str = include_str!("../../../guest.toml");

/// The error of a spec, without its file.
fn error(text: &str) -> String {
    let error = Spec::parse(text, Path::new("guest.toml")).expect_err("a spec that is wrong");
    let shown = error.to_string();
    shown
        .strip_prefix("guest.toml:")
        .expect("the file first")
        .into()
}

#[test]
fn a_spec_that_says_nothing_has_the_documented_defaults() {
    let spec = empty_spec();
    assert_eq!(spec.image.name, "noonmark");
    assert_eq!(spec.image.hostname, "noonmark");
    assert_eq!(spec.image.label, "NOONMARK");
    assert_eq!(spec.image.source_date_seconds(), 1_767_225_600);
    assert_eq!(spec.initrd.compression, Compression::Gzip);
    assert_eq!((spec.vm.vcpus, spec.vm.memory_mib), (2, 256));
    assert_eq!(spec.budget.disk_mib, None);
    let KernelSource::Package { name, suite } = spec.kernel.source else {
        panic!("expected a package");
    };
    assert_eq!((name.as_str(), suite), ("linux-image-cloud-amd64", None));
}

#[test]
fn the_defaults_that_guest_toml_comments_on_are_the_real_ones() {
    let (settings, _examples) = COMMENTED.split_once("\n# [[").expect("examples at the end");
    let uncommented: String = settings
        .lines()
        .map(|line| match line.strip_prefix("# ") {
            Some(rest) if is_default(rest) => format!("{rest}\n"),
            _ => format!("{line}\n"),
        })
        .collect();
    assert_eq!(spec(&uncommented), spec(COMMENTED));
}

/// Whether a comment is a key with its default. A suite, files, a watchdog, the agent's commands and the sizes
/// of file systems in memory have none.
fn is_default(line: &str) -> bool {
    let Some((key, _)) = line.split_once(" = ") else {
        return false;
    };
    let examples = [
        "extends",
        "suite",
        "image",
        "modules",
        "run_kib",
        "tmp_kib",
        // A driver without a time limit is none.
        "timeout_s",
        "driver",
        // It is of no use without an agent.
        "allow",
    ];
    key.bytes().all(|b| b.is_ascii_lowercase() || b == b'_') && !examples.contains(&key)
}

#[test]
fn values_are_taken_in_their_units() {
    let spec = spec(
        "[image]\nsource_date = 2025-06-01T12:00:00+02:00\n\
         [clock]\nsources = [\"phc:igb0\", \"host\"]\nstep_us = 250\nwatch_ms = 5\n\
         [status]\ninterval_ms = 100\n\
         [modules]\nload = [\"virtio-net\"]\n",
    );
    assert_eq!(spec.image.source_date_seconds(), 1_748_772_000);
    let sources = [Source::Phc("igb0".into()), Source::Host];
    assert_eq!(spec.clock.sources, sources);
    assert_eq!(spec.clock.step, Nanos::from_micros(250));
    assert_eq!(spec.clock.watch, Nanos::from_millis(5));
    assert_eq!(spec.status.interval, Nanos::from_millis(100));
    assert_eq!(spec.modules.load, ["virtio_net"]);
}

#[test]
fn a_clock_may_be_left_to_a_program_that_starts_at_boot() {
    let spec = spec(
        "[clock]\nsources = []\n\
         [[service]]\nname = \"chronyd\"\nexec = [\"/chronyd\"]\nstart = \"boot\"\n",
    );
    assert_eq!(spec.clock.sources, []);
}

#[test]
fn a_network_brings_its_driver_and_ntp_its_servers() {
    let spec = spec(
        "[clock]\nsources = [\"kvm\", \"ntp\"]\n\
         [[network.interface]]\ndhcp4 = true\n\
         [ntp]\nservers = [\"pool.ntp.org\", \"192.0.2.1:1123\"]\nmax_distance_ms = 100\n\
         max_poll = 5\n",
    );
    assert!(spec.wants_network() && spec.wants_ntp());
    assert_eq!((spec.ntp.min_poll, spec.ntp.max_poll), (5, 5));
    assert!(spec.wanted_modules().iter().any(|m| m.name == "virtio_net"));
    assert_eq!(spec.ntp.servers[1].port, Some(1123));
    assert_eq!(spec.ntp.max_distance, Nanos::from_millis(100));
    let none = empty_spec();
    assert!(!none.wants_network() && !none.wants_ntp());
    assert!(!none.wanted_modules().iter().any(|m| m.name == "virtio_net"));
}

#[test]
fn servers_are_authenticated_by_a_file_of_the_image() {
    let text = |path: &str| {
        format!(
            "[clock]\nsources = [\"ntp\"]\n[[network.interface]]\ndhcp4 = true\n\
             [ntp]\nservers = [\"a\"]\ntrusted_certs = \"{path}\"\n\
             [[file]]\npath = \"/etc/nts.pem\"\nsource = \"nts.pem\"\n"
        )
    };
    let spec = spec(&text("/etc/nts.pem"));
    assert_eq!(spec.ntp.trusted_certs.as_deref(), Some("/etc/nts.pem"));
    let message = error(&text("/etc/nt.pem"));
    assert!(
        message.contains("`/etc/nt.pem` is no file of the image"),
        "{message}"
    );
}

#[test]
fn a_network_that_could_not_work_is_refused() {
    let interface = |rest: &str| format!("[[network.interface]]\n{rest}\n");
    let network = "[[network.interface]]\ndhcp4 = true\n";
    let ntp = "[ntp]\nservers = [\"a\"]\n";
    let cases = [
        (interface(""), "it gets no address"),
        (
            interface("dhcp4 = true\nname = \"lo\""),
            "`lo`: expected an interface's name",
        ),
        (
            interface("addresses = [\"192.0.2.7\"]"),
            "with its prefix length",
        ),
        (
            interface("addresses = [\"2001:db8::7/64\"]\ngateway4 = \"192.0.2.1\""),
            "needs an IPv4 address",
        ),
        (
            interface("dhcp4 = true\nmtu = 100"),
            "expected 576 to 65535",
        ),
        (interface("dhcp = true"), "did you mean `dhcp4`?"),
        (
            format!("{network}{network}"),
            "the same interface is there twice",
        ),
        (
            "[clock]\nsources = [\"ntp\"]\n".into(),
            "needs time servers",
        ),
        (format!("{network}{ntp}"), "of no use without \"ntp\""),
        (
            format!("[clock]\nsources = [\"ntp\"]\n{ntp}"),
            "a time server needs a network",
        ),
        (
            format!("[clock]\nsources = [\"ntp\"]\n{network}{ntp}min_poll = 3\n"),
            "3: expected 4 to 17",
        ),
        (
            format!("[clock]\nsources = [\"ntp\"]\n{network}{ntp}min_poll = 7\nmax_poll = 6\n"),
            "6: expected at least `min_poll`, which is 7",
        ),
    ];
    for (text, expected) in cases {
        let message = error(&text);
        assert!(message.contains(expected), "{text}: {message}");
    }
}

#[test]
fn an_error_names_place_key_and_what_was_expected() {
    let cases = [
        (
            "[clock]\nstep_ms = 1\n",
            "2:1: `clock.step_ms`: unknown field `step_ms`, expected one of `sources`, `step_us`, \
             `makestep_ms`, `max_slew_ppm`, `panic_s`, `rtc_grace_ms`, `watch_ms`, `rtcsync`, \
             `phc_tai_offset_s`; did you mean `step_us`?",
        ),
        (
            "[image]\nname = 5\n",
            "2:8: `image.name`: invalid type: integer `5`, expected a string",
        ),
        (
            "[clock]\nsources = [\"kvm\", \"gps\"]\n",
            "2:19: `clock.sources`: unknown clock source `gps`; expected one of kvm, vmclock, \
             virtio-rtc, hyperv, vmware, phc:NAME, host, ntp, rtc",
        ),
        (
            "[vm]\nmemory_mib = 16\n",
            "2:14: `vm.memory_mib`: 16: expected 128 to 1048576",
        ),
        (
            "[image]\nlabel = \"much too long\"\n",
            "2:9: `image.label`: `much too long`: expected 1 to 11 of `A` to `Z`, `0` to `9`, `-` \
             and `_`",
        ),
        (
            "[kernel]\nimage = \"vmlinuz\"\n",
            "2:9: `kernel`: `image` and `modules` go together: a bzImage and its \
             /lib/modules/RELEASE folder",
        ),
        ("[image\n", "1:7: unclosed table, expected `]`"),
    ];
    for (text, expected) in cases {
        assert_eq!(error(text), expected, "for {text:?}");
    }
}

#[test]
fn what_could_not_work_in_the_guest_is_refused() {
    let file = |path: &str| format!("[[file]]\npath = \"{path}\"\nsource = \"x\"\n");
    let service = |rest: &str| format!("[[service]]\nname = \"a\"\n{rest}\n");
    let cases = [
        (file("/init"), "noonmark's own file"),
        (file("/dev/x"), "PID 1 mounts over"),
        (file("/a/../b"), "expected an absolute path"),
        (file("a"), "expected an absolute path"),
        (file("/a") + &file("/a"), "`/a` is there twice"),
        (service("exec = []"), "expected the program's absolute path"),
        (
            service("exec = [\"sh\"]"),
            "expected the program's absolute path",
        ),
        (
            service("exec = [\"/a\"]\ncapabilities = [\"CAP_TIME\"]"),
            "unknown capability `CAP_TIME`; expected a name of capabilities(7)",
        ),
        (
            service("exec = [\"/a\"]\nmemory_max = \"lots\""),
            "`lots`: expected a size like `64M`",
        ),
        (
            service("exec = [\"/a\"]\nmemory_max = true"),
            "a size like \"64M\", or a number of bytes",
        ),
        (
            service("exec = [\"/a\"]\non_disruption = \"stop\""),
            "expected `keep`, `freeze` or `signal:NAME`",
        ),
        (
            service("exec = [\"/a\"]\non_freeze = \"signal:KILL\""),
            "expected `keep`, `freeze` or `signal:NAME`",
        ),
        (
            "[agent]\nenabled = true\nallow = [\"guest-exec\"]\n".into(),
            "expected commands of the agent",
        ),
        (
            "[agent]\nallow = [\"guest-ping\"]\n".into(),
            "without `enabled = true` there is no agent",
        ),
        ("[agent]\nfreeze_limit_s = 0\n".into(), "expected 1 to 3600"),
        (
            service("exec = [\"/a\"]\nstop_timeout_s = 700"),
            "700: expected 0 to 600",
        ),
        (
            "[[service]]\nname = \"noonmark-fault\"\nexec = [\"/a\"]\n".into(),
            "the name of noonmark's own service",
        ),
        (
            "[image]\nsource_date = 2026-01-01\n".into(),
            "expected an instant",
        ),
        ("[image]\nsource_date = 0\n".into(), "from 1980 to 2100"),
        (
            "[kernel]\ncmdline = \"a\\nb\"\n".into(),
            "expected printable ASCII",
        ),
        (
            "[clock]\nsources = []\n[status]\nclockbound = true\n".into(),
            "PID 1 knows no bound of a clock that it leaves to another program",
        ),
        (
            "[[file]]\npath = \"/var/run/a\"\nsource = \"a\"\n".into(),
            "the file could not be seen",
        ),
        (
            "[clock]\nsources = []\n[[service]]\nname = \"a\"\nexec = [\"/a\"]\n".into(),
            "the service `a` would wait for the clock for ever",
        ),
        (
            "[clock]\nsources = [\"rtc\", \"rtc\"]\n".into(),
            "`rtc` is there twice",
        ),
    ];
    for (text, expected) in cases {
        let message = error(&text);
        assert!(message.contains(expected), "{message:?} for {text:?}");
    }
}

#[test]
fn a_file_that_is_not_there_is_named_with_its_place_in_the_image() {
    let spec = spec("[[file]]\npath = \"/etc/motd\"\nsource = \"no/such/file\"\n");
    let error = spec
        .load_files(Path::new("/base"))
        .expect_err("no such file");
    assert_eq!(
        error.to_string(),
        "file `/etc/motd` of the image: can't read its source /base/no/such/file: No such file or \
         directory (os error 2)"
    );
}

proptest! {
    #[test]
    fn no_text_makes_the_parser_panic(text in "\\PC{0,200}") {
        // Parsing either gives a spec or an error; both are fine here.
        let _ = Spec::parse(&text, Path::new("guest.toml"));
    }

    #[test]
    fn a_damaged_guest_toml_is_a_spec_or_an_error(
        at in 0..COMMENTED.len(),
        damage in "[\\[\\]\"'=#0-9a-z\n.-]{0,4}",
        cut in 0_usize..8,
    ) {
        let end = (at + cut).min(COMMENTED.len());
        if let (Some(head), Some(tail)) = (COMMENTED.get(..at), COMMENTED.get(end..)) {
            let _ = Spec::parse(&format!("{head}{damage}{tail}"), Path::new("guest.toml"));
        }
    }
}
