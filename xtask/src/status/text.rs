//! The status record as one screen of text, and as one line.

use std::fmt::Write as _;

use jiff::Timestamp;
use noonmark_contract::host_clock::Leap;
use noonmark_contract::record::{DiskStatus, LastReading, Origin, SeedState, State, Status};
use noonmark_contract::units::Utc;
use noonmark_lab::report::Sample;

use super::word;

/// One screen that says all of the record.
pub fn screen(status: &Status) -> String {
    let mut screen = String::new();
    let mut row = |name: &str, text: String| {
        // Writing to a string can't fail.
        let _ = writeln!(screen, "{name:<13}{text}");
    };
    row("clock", clock(status));
    row(
        "offset",
        format!(
            "{}, error at most {}, jitter {}",
            status.offset_ns, status.bound_ns, status.jitter_ns
        ),
    );
    row("UTC", utc_error(status));
    row(
        "frequency",
        format!(
            "{}, drift {:+.3} ppb/s",
            status.frequency_ppb, status.drift_ppb_per_s
        ),
    );
    row(
        "readings",
        format!(
            "every {}, the last good one {} ago",
            status.poll_ns, status.since_good_ns
        ),
    );
    for source in &status.sources {
        let failure = source
            .last_failure
            .as_ref()
            .map(|failure| format!("; {}", failure.replace('\n', " ")))
            .unwrap_or_default();
        row(
            "",
            format!(
                "{}: {} good, {} bad, reach {:o}{}{failure}",
                source.source,
                source.good,
                source.bad,
                source.reach,
                source.last.as_ref().map_or_else(String::new, last)
            ),
        );
    }
    row("disruptions", disruptions(status));
    row(
        "repairs",
        format!(
            "{}: last {}, p50 {}, p99 {}, max {}",
            status.recovery.count,
            status.recovery.last_ns,
            status.recovery.p50_ns,
            status.recovery.p99_ns,
            status.recovery.max_ns
        ),
    );
    row(
        "availability",
        format!(
            "{:.4} % of the time within the bound",
            status.availability * 100.0
        ),
    );
    row("alerts", alerts(status));
    row("boot", boot(status));
    row(
        "init",
        format!(
            "{:.2} % of a vCPU, {} KiB resident",
            status.init.cpu_ppm as f64 / 1e4,
            status.init.rss_kib
        ),
    );
    row(
        "status port",
        format!(
            "{} records dropped, {} lines rejected",
            status.dropped, status.rejected
        ),
    );
    row("config", config(status));
    row("seed", seed(status));
    for disk in &status.disks {
        row("data disk", data_disk(disk));
    }
    if status.frozen {
        let text = "services and data disks stand still for a snapshot";
        row("frozen", text.to_owned());
    }
    row(
        "guest",
        format!(
            "{}, up {}, clocksource {}, kernel {}",
            utc(status.time_ns),
            status.uptime_ns,
            status.clocksource,
            status.kernel
        ),
    );
    screen
}

/// How far the clock may be from UTC, and what the host says of its own clock.
fn utc_error(status: &Status) -> String {
    let mut text = match (status.utc_bound_ns, status.utc_unknown) {
        (Some(bound), _) => format!("error at most {bound}"),
        (None, Some(why)) => format!("error unknown: {why}"),
        (None, None) => "error unknown".into(),
    };
    if let Some(host) = &status.host_clock {
        // Writing to a string can't fail.
        let _ = write!(text, "; the host's clock within {}", host.maxerror_ns);
        if host.tai_offset_s != 0 {
            let _ = write!(text, ", TAI - UTC {} s", host.tai_offset_s);
        }
        text += match host.leap {
            Leap::None => "",
            Leap::Insert => ", a leap second to come",
            Leap::Delete => ", a second to be left out",
        };
    }
    text
}

/// A source's last word.
fn last(last: &LastReading) -> String {
    format!(
        ", last {} ±{}, {} ago",
        last.offset_ns, last.bound_ns, last.ago_ns
    )
}

/// The line that `run` keeps up to date.
pub fn line(status: &Status, last_event: Option<&str>) -> String {
    let last = last_event
        .map(|event| format!(" | {event}"))
        .unwrap_or_default();
    format!(
        "{} | offset {} +- {}{last}",
        clock(status),
        status.offset_ns,
        status.bound_ns
    )
}

/// Whether and how fast the clock of a sample was right again.
pub fn recovery(sample: &Sample) -> String {
    sample.recovered_ns.map_or_else(
        || "did not recover".to_owned(),
        |took| format!("recovered in {took}"),
    )
}

fn clock(status: &Status) -> String {
    let state = match status.state {
        State::Unsynced => "not synced yet",
        State::Synced => "synced",
        State::Disrupted => "disrupted, under repair",
        State::Holdover => "in holdover, no source",
    };
    match (&status.source, status.method) {
        (Some(source), Some(method)) => format!("{state}, source {source} ({method})"),
        (Some(source), None) => format!("{state}, source {source}"),
        (None, _) => state.to_owned(),
    }
}

fn disruptions(status: &Status) -> String {
    let counts = status.disruptions.iter();
    list(
        counts.map(|(cause, count)| format!("{cause} {count}")),
        "none",
    )
}

fn alerts(status: &Status) -> String {
    list(status.alerts.iter().map(ToString::to_string), "none")
}

fn boot(status: &Status) -> String {
    let synced = status.boot.init_to_synced_ns.map_or_else(
        || "not synced yet".to_owned(),
        |span| format!("synced {span} later"),
    );
    format!(
        "{} from the kernel's start to init, {synced}",
        status.boot.kernel_to_init_ns
    )
}

/// What is not as the image has it.
fn config(status: &Status) -> String {
    let own = status
        .config
        .iter()
        .filter(|(_, setting)| setting.origin != Origin::Image)
        .map(|(key, setting)| format!("{key} {} ({})", setting.value, word(&setting.origin)));
    list(own, "the image's own")
}

/// The items with commas between them, or what stands for none.
fn list(items: impl Iterator<Item = String>, none: &str) -> String {
    let items = Vec::from_iter(items);
    if items.is_empty() {
        none.to_owned()
    } else {
        items.join(", ")
    }
}

fn seed(status: &Status) -> String {
    let seed = &status.seed;
    let on = |prefix: &str| {
        let device = seed.device.as_deref();
        device.map_or_else(String::new, |device| format!("{prefix}{device}"))
    };
    match seed.state {
        SeedState::Off => "none is looked for".to_owned(),
        SeedState::Looking => "is being looked for".to_owned(),
        SeedState::Absent => "none".to_owned(),
        SeedState::Applied => format!(
            "applied{}, instance {}, {} taken, {} ignored, {} refused",
            on(" from "),
            seed.instance_id.as_deref().unwrap_or("without an id"),
            seed.taken.len(),
            seed.ignored.len(),
            seed.refused.len()
        ),
        SeedState::Refused => format!(
            "refused{}: {}",
            on(" on "),
            seed.problem.as_deref().unwrap_or("no reason given")
        ),
    }
}

fn data_disk(disk: &DiskStatus) -> String {
    let DiskStatus { label, path, .. } = disk;
    let state = word(&disk.state);
    let device = disk.device.as_deref();
    let on = device.map_or_else(String::new, |device| format!(" from {device}"));
    let problem = disk.problem.as_deref();
    let problem = problem.map_or_else(String::new, |problem| format!(": {problem}"));
    format!("{label} for {path}: {state}{on}{problem}")
}

fn utc(at: Utc) -> String {
    Timestamp::from_nanosecond(i128::from(at.0)).map_or_else(
        |_| format!("{} ns since 1970", at.0),
        |at| format!("{at:.3}"),
    )
}

#[cfg(test)]
mod tests {
    use crate::status::example;

    use super::*;

    #[test]
    fn a_record_becomes_exactly_this_screen() {
        assert_eq!(
            screen(&example::status()),
            include_str!("testdata/screen.txt")
        );
    }

    #[test]
    fn a_guest_that_stands_still_for_a_snapshot_says_so() {
        let mut status = example::status();
        assert!(!screen(&status).contains("\nfrozen "));
        status.frozen = true;
        assert!(screen(&status).contains("\nfrozen       services and data disks stand still"));
    }

    #[test]
    fn the_line_names_state_source_offset_bound_and_the_last_event() {
        assert_eq!(
            line(
                &example::status(),
                Some("guest step repaired in 420.000 us")
            ),
            "synced, source kvm (precise) | offset -72 ns +- 1.250 us | guest step repaired in \
             420.000 us"
        );
    }
}
