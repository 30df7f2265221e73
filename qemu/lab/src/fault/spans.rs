//! Spans of time in the names of faults: `+500ms`, `10s`.

use std::time::Duration;

use jiff::SignedDuration;
use noonmark_contract::units::Nanos;

/// The longest pause that can be asked for.
const SPAN_MAX: Duration = Duration::from_secs(3600);

/// A span that is not nothing, either way.
///
/// # Errors
///
/// What is wrong with it.
pub(super) fn parse_span(span: &str) -> Result<Nanos, String> {
    let span: SignedDuration = span
        .parse()
        .map_err(|error: jiff::Error| error.to_string())?;
    match i64::try_from(span.as_nanos()) {
        Ok(0) => Err("a step of nothing disturbs nothing".to_owned()),
        Ok(ns) => Ok(Nanos(ns)),
        Err(_) => Err("too long".to_owned()),
    }
}

/// A span up to [`SPAN_MAX`].
pub(super) fn parse_duration(span: &str) -> Option<Duration> {
    let span: SignedDuration = span.parse().ok()?;
    let span = Duration::try_from(span).ok()?;
    (span <= SPAN_MAX).then_some(span)
}

/// A span in the longest unit that it is a whole number of.
pub(super) fn span(ns: u128) -> String {
    let (divisor, unit) = UNITS
        .into_iter()
        .find(|(divisor, _)| ns.is_multiple_of(*divisor))
        .unwrap_or((1, "ns"));
    format!("{}{unit}", ns / divisor)
}

/// Units of a span, longest first.
const UNITS: [(u128, &str); 7] = [
    (86_400_000_000_000, "d"),
    (3_600_000_000_000, "h"),
    (60_000_000_000, "m"),
    (1_000_000_000, "s"),
    (1_000_000, "ms"),
    (1_000, "us"),
    (1, "ns"),
];
