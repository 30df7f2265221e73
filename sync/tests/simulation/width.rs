//! That the stated bound is not merely wide: in the median of all lives it is at most ten times the
//! true error, whichever kind of source is followed.

use noonmark_contract::sample::Source;
use noonmark_contract::units::Nanos;

/// Between two looks in one life, in ns.
const LOOK_EVERY: i64 = 1_000_000_000;

/// The kinds of source that the lives follow.
const KINDS: [&str; 4] = ["kvm", "phc", "host", "rtc"];

/// The most that the median may be, in multiples of the true error.
const MOST: f64 = 10.0;

/// Stated bounds beside true errors, in one life or in many.
#[derive(Debug, Default)]
pub struct Widths {
    next: i64,
    looks: Vec<Look>,
}

#[derive(Clone, Copy, Debug)]
struct Look {
    kind: &'static str,
    bound_ns: f64,
    /// The bound in multiples of the error; clocks count whole nanoseconds, so that is at least one.
    times: f64,
}

impl Widths {
    /// Takes a look each second of physical time, which `now` is, in ns.
    pub fn note(&mut self, now: i64, followed: Option<&Source>, error: Nanos, bound: Nanos) {
        let kind = match followed {
            Some(Source::Kvm) => "kvm",
            Some(Source::Phc(_)) => "phc",
            Some(Source::Host) => "host",
            Some(Source::Rtc) => "rtc",
            _ => return,
        };
        if now < self.next {
            return;
        }
        self.next = now + LOOK_EVERY;
        let bound_ns = bound.0 as f64;
        self.looks.push(Look {
            kind,
            bound_ns,
            times: bound_ns / error.abs().max(Nanos(1)).0 as f64,
        });
    }

    pub fn extend(&mut self, other: &Self) {
        self.looks.extend(&other.looks);
    }

    /// Prints the medians, and fails where one says that the bound is merely wide.
    pub fn assert_meaningful(&self) {
        for kind in KINDS {
            let of = |value: fn(&Look) -> f64| {
                let looks = self.looks.iter().filter(|look| look.kind == kind);
                median(looks.map(value).collect()).expect("some lives follow each kind")
            };
            let (bound_ns, times) = (of(|look| look.bound_ns), of(|look| look.times));
            println!("{kind}: the bound is {bound_ns} ns, {times:.1} times the true error");
            assert!(times <= MOST, "{kind}: {times} times the true error");
        }
    }
}

fn median(mut values: Vec<f64>) -> Option<f64> {
    values.sort_by(f64::total_cmp);
    values.get(values.len() / 2).copied()
}
