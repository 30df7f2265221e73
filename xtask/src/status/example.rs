//! A status record as PID 1 writes it, for the tests of what is made from it.

use noonmark_contract::record::{Record, Status};

/// One line of the status port.
const LINE: &str = r#"{"type":"status","v":1,"seq":42,"time_ns":1790000000123456789,
"uptime_ns":65400000000,"state":"synced","source":"kvm","method":"precise","offset_ns":-72,
"bound_ns":1250,"utc_bound_ns":251250,
"host_clock":{"maxerror_ns":250000,"esterror_ns":9000,"unsync":true,"tai_offset_s":37},
"frequency_ppb":-3125.5,"drift_ppb_per_s":0.25,"jitter_ns":9,
"since_good_ns":310000000,"poll_ns":1000000000,
"sources":[{"source":"kvm","good":120,"bad":1,"reach":253,
"last":{"ago_ns":310000000,"offset_ns":-72,"bound_ns":12}},
{"source":"host","good":7,"bad":0,"reach":0,"last_failure":"the \"port\"\nwas closed"}],
"disruptions":{"boot":1,"guest_step":10},
"recovery":{"count":11,"last_ns":420000,"p50_ns":400000,"p99_ns":900000,"max_ns":1200000},
"availability":0.99987,"alerts":["source_lies"],"dropped":3,"rejected":2,
"boot":{"kernel_to_init_ns":1100000000,"init_to_synced_ns":62000000},
"init":{"cpu_ppm":2100,"rss_kib":1180},"kernel":"6.1.0-56-cloud-amd64",
"clocksource":"kvm-clock"}"#;

pub fn status() -> Status {
    match serde_json::from_str(LINE) {
        Ok(Record::Status(status)) => status,
        other => panic!("the example is no status record: {other:?}"),
    }
}
