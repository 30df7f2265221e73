//! The status record in Prometheus' text exposition format, version 0.0.4: base units, `_total` on
//! counters, one family after the other with its help and type.

use std::fmt::Write as _;

use noonmark_contract::record::{Alert, LastReading, SourceStatus, State, Status};
use noonmark_contract::units::Nanos;

use super::word;

/// The metrics of one guest, ready to be scraped or put into a text file collector's folder.
pub fn render(status: &Status) -> String {
    let mut page = Page(String::new());
    clock(&mut page, status);
    sources(&mut page, status);
    repairs(&mut page, status);
    guest(&mut page, status);
    page.0
}

fn clock(page: &mut Page, status: &Status) {
    let seconds = |span: Nanos| span.as_secs_f64();
    page.gauge(
        "noonmark_clock_offset_seconds",
        "Reference minus clock at the last reading.",
        seconds(status.offset_ns),
    );
    page.gauge(
        "noonmark_clock_error_bound_seconds",
        "Largest error that the clock can have now.",
        seconds(status.bound_ns),
    );
    if let Some(bound) = status.utc_bound_ns {
        page.gauge(
            "noonmark_clock_utc_error_bound_seconds",
            "Largest error against UTC that the clock can have now; absent where it is not known.",
            seconds(bound),
        );
    }
    if let Some(host) = &status.host_clock {
        page.gauge(
            "noonmark_host_clock_maxerror_seconds",
            "Largest error of the host's own clock, by its kernel; 16 where nobody keeps it.",
            seconds(host.maxerror_ns),
        );
        page.gauge(
            "noonmark_host_clock_tai_offset_seconds",
            "TAI minus UTC, as the host's kernel has it; 0 where nobody told it.",
            f64::from(host.tai_offset_s),
        );
    }
    page.gauge(
        "noonmark_clock_frequency_adjustment_ratio",
        "Relative rate that is added to the clock.",
        status.frequency_ppb.0 / 1e9,
    );
    page.gauge(
        "noonmark_clock_frequency_drift_ratio_per_second",
        "Change of the estimated frequency.",
        status.drift_ppb_per_s / 1e9,
    );
    page.gauge(
        "noonmark_clock_jitter_seconds",
        "Standard deviation of the recent offsets.",
        seconds(status.jitter_ns),
    );
    page.gauge(
        "noonmark_clock_last_reading_age_seconds",
        "Time since the last good reading.",
        seconds(status.since_good_ns),
    );
    page.gauge(
        "noonmark_clock_poll_interval_seconds",
        "Time between two readings at present.",
        seconds(status.poll_ns),
    );
    page.gauge(
        "noonmark_clock_availability_ratio",
        "Share of time since the first sync with the error within its bound.",
        status.availability,
    );
    page.family(
        "noonmark_clock_state",
        "The clock's state: 1 for the one it is in.",
        "gauge",
    );
    let states = [
        (State::Unsynced, "unsynced"),
        (State::Synced, "synced"),
        (State::Disrupted, "disrupted"),
        (State::Holdover, "holdover"),
    ];
    for (state, name) in states {
        let is = f64::from(u8::from(status.state == state));
        page.sample("noonmark_clock_state", &[("state", name)], is);
    }
}

fn sources(page: &mut Page, status: &Status) {
    if let Some(source) = &status.source {
        let source = source.to_string();
        let method = status
            .method
            .map(|method| word(&method))
            .unwrap_or_default();
        let labels = [("source", source.as_str()), ("method", method.as_str())];
        page.family(
            "noonmark_clock_source_info",
            "The source that is followed.",
            "gauge",
        );
        page.sample("noonmark_clock_source_info", &labels, 1.0);
    }
    let name = "noonmark_source_readings_total";
    page.family(name, "Readings of a source, used and not used.", "counter");
    for source in &status.sources {
        let which = source.source.to_string();
        for (result, count) in [("good", source.good), ("bad", source.bad)] {
            page.sample(
                name,
                &[("source", &which), ("result", result)],
                count as f64,
            );
        }
    }
    last_readings(page, status);
}

fn last_readings(page: &mut Page, status: &Status) {
    let last = |read: fn(&LastReading) -> Nanos| {
        let known = |source: &SourceStatus| Some((source.source.to_string(), read(&source.last?)));
        status.sources.iter().filter_map(known).collect::<Vec<_>>()
    };
    let of_last = [
        (
            "noonmark_source_offset_seconds",
            "A source minus the clock, at its last good reading.",
            last(|last| last.offset_ns),
        ),
        (
            "noonmark_source_bound_seconds",
            "How wrong that reading can be.",
            last(|last| last.bound_ns),
        ),
        (
            "noonmark_source_age_seconds",
            "How long ago it was taken.",
            last(|last| last.ago_ns),
        ),
    ];
    for (name, help, values) in of_last {
        page.family(name, help, "gauge");
        for (which, value) in values {
            page.sample(name, &[("source", &which)], value.as_secs_f64());
        }
    }
    let name = "noonmark_source_reach_ratio";
    page.family(
        name,
        "The share of the last eight readings that were good.",
        "gauge",
    );
    for source in &status.sources {
        let share = f64::from(source.reach.count_ones()) / 8.0;
        page.sample(name, &[("source", &source.source.to_string())], share);
    }
}

fn repairs(page: &mut Page, status: &Status) {
    let name = "noonmark_clock_disruptions_total";
    page.family(name, "Disruptions of the clock.", "counter");
    for (cause, count) in &status.disruptions {
        page.sample(name, &[("cause", &word(cause))], *count as f64);
    }
    page.counter(
        "noonmark_clock_repairs_total",
        "Repairs of the clock.",
        status.recovery.count,
    );
    let times = [
        ("last", "Last time to repair.", status.recovery.last_ns),
        (
            "p50",
            "Median of the recent times to repair.",
            status.recovery.p50_ns,
        ),
        (
            "p99",
            "99th percentile of the recent times to repair.",
            status.recovery.p99_ns,
        ),
        (
            "max",
            "Longest of the recent times to repair.",
            status.recovery.max_ns,
        ),
    ];
    for (which, help, span) in times {
        let name = format!("noonmark_clock_repair_{which}_seconds");
        page.gauge(&name, help, span.as_secs_f64());
    }
    page.family("noonmark_alert", "Alerts: 1 for one that stands.", "gauge");
    for alert in ALERTS {
        let stands = f64::from(u8::from(status.alerts.contains(&alert)));
        page.sample("noonmark_alert", &[("alert", &word(&alert))], stands);
    }
}

fn guest(page: &mut Page, status: &Status) {
    page.family("noonmark_guest_info", "What runs in the guest.", "gauge");
    let labels = [
        ("kernel", status.kernel.as_str()),
        ("clocksource", status.clocksource.as_str()),
    ];
    page.sample("noonmark_guest_info", &labels, 1.0);
    page.gauge(
        "noonmark_guest_time_seconds",
        "The guest's clock when the record was made, in seconds since 1970.",
        status.time_ns.0 as f64 / 1e9,
    );
    page.gauge(
        "noonmark_guest_uptime_seconds",
        "Time since the guest's start.",
        status.uptime_ns.as_secs_f64(),
    );
    page.gauge(
        "noonmark_boot_kernel_to_init_seconds",
        "From the kernel's start to PID 1's.",
        status.boot.kernel_to_init_ns.as_secs_f64(),
    );
    if let Some(span) = status.boot.init_to_synced_ns {
        page.gauge(
            "noonmark_boot_init_to_synced_seconds",
            "From PID 1's start to the first verified sync.",
            span.as_secs_f64(),
        );
    }
    page.gauge(
        "noonmark_init_cpu_ratio",
        "Share of one vCPU that PID 1 uses.",
        status.init.cpu_ppm as f64 / 1e6,
    );
    page.gauge(
        "noonmark_init_resident_memory_bytes",
        "PID 1's resident set.",
        (status.init.rss_kib * 1024) as f64,
    );
    page.counter(
        "noonmark_status_records_dropped_total",
        "Records that a slow or absent host made PID 1 drop.",
        status.dropped,
    );
    page.counter(
        "noonmark_status_lines_rejected_total",
        "Lines from the host that were no command.",
        status.rejected,
    );
}

const ALERTS: [Alert; 7] = [
    Alert::LargeOffset,
    Alert::SourceLost,
    Alert::LongHoldover,
    Alert::BoundExceeded,
    Alert::SourceLies,
    Alert::CannotCorrect,
    Alert::DiskMissing,
];

struct Page(String);

impl Page {
    fn family(&mut self, name: &str, help: &str, kind: &str) {
        // Writing to a string can't fail.
        let _ = writeln!(self.0, "# HELP {name} {help}\n# TYPE {name} {kind}");
    }

    fn sample(&mut self, name: &str, labels: &[(&str, &str)], value: f64) {
        let labels: Vec<String> = labels
            .iter()
            .map(|(label, value)| format!("{label}=\"{}\"", escaped(value)))
            .collect();
        let labels = if labels.is_empty() {
            String::new()
        } else {
            format!("{{{}}}", labels.join(","))
        };
        let _ = writeln!(self.0, "{name}{labels} {value}");
    }

    fn gauge(&mut self, name: &str, help: &str, value: f64) {
        self.family(name, help, "gauge");
        self.sample(name, &[], value);
    }

    fn counter(&mut self, name: &str, help: &str, value: u64) {
        self.family(name, help, "counter");
        self.sample(name, &[], value as f64);
    }
}

fn escaped(value: &str) -> String {
    value
        .replace('\\', "\\\\")
        .replace('"', "\\\"")
        .replace('\n', "\\n")
}

#[cfg(test)]
mod tests {
    use crate::status::example;

    use super::*;

    #[test]
    fn a_record_becomes_exactly_this_page() {
        let golden = include_str!("testdata/metrics.prom");
        assert_eq!(render(&example::status()), golden);
    }

    #[test]
    fn every_sample_follows_the_type_line_of_its_own_family() {
        let page = render(&example::status());
        let mut family = "";
        for line in page.lines() {
            if let Some(rest) = line.strip_prefix("# TYPE ") {
                family = rest.split(' ').next().unwrap_or_default();
            } else if !line.starts_with('#') {
                let name = line.split(['{', ' ']).next().unwrap_or_default();
                assert_eq!(name, family, "{line}");
            }
        }
    }

    #[test]
    fn a_label_keeps_its_line_and_its_quotes() {
        assert_eq!(escaped("a\"b\\c\nd"), r#"a\"b\\c\nd"#);
    }
}
