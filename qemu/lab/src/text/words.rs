//! A bench's figures in words, for the table and for the page.

use noonmark_contract::units::Nanos;
use serde::Serialize;

use crate::report::error::ClockError;
use crate::report::steady::{Cost, SteadyState, Truth};
use crate::report::{P99_SAMPLES, Summary};

/// What stands where there is no figure.
pub(crate) const NOTHING_TO_SAY: &str = "-";

/// The head of the column for the 99th percentile, which fewer samples don't have.
pub(crate) const P99: &str = "p99 of 100 up";

/// A figure over samples; where they don't recover often enough, it is beyond the time for which they
/// were watched.
pub(crate) fn figure(figure: Option<Nanos>, summary: &Summary, deadline: Nanos) -> String {
    match figure {
        Some(figure) => figure.to_string(),
        None if !summary.has_lost() => NOTHING_TO_SAY.to_owned(),
        None if deadline > Nanos::ZERO => format!("> {deadline}"),
        None => "never".to_owned(),
    }
}

/// The 99th percentile, where there are enough samples for one.
pub(crate) fn p99(summary: &Summary, deadline: Nanos) -> String {
    if summary.count < P99_SAMPLES {
        return NOTHING_TO_SAY.to_owned();
    }
    figure(summary.p99_ns, summary, deadline)
}

/// How many times as long as our own median another one is.
pub(crate) fn ratio(summary: &Summary, ours: Option<Nanos>, deadline: Nanos) -> String {
    let Some(ours) = ours.filter(|ours| *ours > Nanos::ZERO) else {
        return NOTHING_TO_SAY.to_owned();
    };
    let times = |took: Nanos| took.0 as f64 / ours.0 as f64;
    match summary.p50_ns {
        Some(p50) if times(p50) < 10.0 => format!("{:.1}", times(p50)),
        Some(p50) => format!("{:.0}", times(p50)),
        None if deadline > Nanos::ZERO => format!("> {:.0}", times(deadline)),
        None => NOTHING_TO_SAY.to_owned(),
    }
}

/// A mean of times, which can be finer than a nanosecond.
pub(crate) fn fine(ns: f64) -> String {
    if ns < 1_000.0 {
        return format!("{ns:.1} ns");
    }
    Nanos(ns.round() as i64).to_string()
}

/// In how many of the readings the clock was within the bound that its keeper claimed.
pub(crate) fn bound(state: &SteadyState) -> Option<String> {
    let kept = state.bound_kept()?;
    let within = kept.held - kept.beyond;
    let usual = state.usual_bound()?;
    Some(format!("{within}/{} of {usual}", kept.held))
}

/// Its share of a virtual processor.
pub(crate) fn cpu(cost: &Cost) -> String {
    format!("{:.2} %", cost.cpu_ppm as f64 / 1e4)
}

/// Its memory.
pub(crate) fn resident(cost: &Cost) -> String {
    format!("{} KiB", cost.rss_kib)
}

/// How a steady state was read, where that was from outside of the guest.
pub(crate) fn observer(state: &SteadyState) -> Option<String> {
    let off = state.usual_off();
    (state.truth == Truth::Host).then(|| {
        format!(
            "compared with the host's clock from outside, as there is no ptp_kvm; half of the \
             readings are off by at most {off} themselves"
        )
    })
}

/// The error that may be largest, with how far it may be wrong itself.
pub(crate) fn error(errors: impl Iterator<Item = Option<ClockError>>) -> String {
    let worst = errors.flatten().max_by_key(ClockError::worst);
    worst.map_or_else(|| NOTHING_TO_SAY.to_owned(), |error| error.to_string())
}

/// A time, or that there is none.
pub(crate) fn time(time: Option<Nanos>) -> String {
    time.map_or_else(|| NOTHING_TO_SAY.to_owned(), |time| time.to_string())
}

/// The word that the report's JSON has for it.
pub(crate) fn word(value: &impl Serialize) -> String {
    match serde_json::to_value(value) {
        Ok(serde_json::Value::String(word)) => word,
        _ => "?".to_owned(),
    }
}
