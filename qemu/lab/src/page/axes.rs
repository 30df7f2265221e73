//! The axes of the page's plots: logarithmic ones, seconds, per cent, and named rows.

use std::ops::Range;

use noonmark_contract::units::Nanos;
use plotters::coord::ranged1d::{NoDefaultFormatting, Ranged, ValueFormatter};

/// An axis of a plot: values are numbers already, such as logarithms of nanoseconds.
pub trait Axis: Ranged<ValueType = f64> + ValueFormatter<f64> {}
impl<T: Ranged<ValueType = f64> + ValueFormatter<f64>> Axis for T {}

/// The decimal logarithm of a span in nanoseconds; a nanosecond is the least.
pub fn log(span: Nanos) -> f64 {
    (span.0.max(1) as f64).log10()
}

/// A logarithmic axis over whole decades.
#[derive(Clone)]
pub struct Decades {
    /// Decimal logarithms.
    range: Range<f64>,
    /// What stands at a decade.
    label: fn(i32) -> String,
}

impl Decades {
    /// The decades that hold all of these times; none of nothing.
    pub fn of_times(times: impl Iterator<Item = Nanos>) -> Option<Self> {
        Self::of_logs(times.map(log))
    }

    /// The same of the logarithms of nanoseconds.
    pub fn of_logs(logs: impl Iterator<Item = f64>) -> Option<Self> {
        Self::around(logs, time_label)
    }

    /// The decades that hold all of these logarithms of millionths.
    pub fn of_shares(logs: impl Iterator<Item = f64>) -> Option<Self> {
        Self::around(logs, share_label)
    }

    fn around(logs: impl Iterator<Item = f64>, label: fn(i32) -> String) -> Option<Self> {
        let (low, high) = logs.fold(None, |found: Option<(f64, f64)>, value| {
            let (low, high) = found.unwrap_or((value, value));
            Some((low.min(value), high.max(value)))
        })?;
        let low = low.floor();
        let range = low..high.ceil().max(low + 1.0);
        Some(Self { range, label })
    }

    /// The logarithms at both ends.
    pub fn ends(&self) -> (f64, f64) {
        (self.range.start, self.range.end)
    }
}

fn time_label(decade: i32) -> String {
    let (unit, base) = match decade {
        ..=2 => ("ns", 0),
        3..=5 => ("us", 3),
        6..=8 => ("ms", 6),
        _ => ("s", 9),
    };
    match decade - base {
        power @ 0..=3 => format!("{} {unit}", 10_i64.pow(power.unsigned_abs())),
        -1 => format!("0.1 {unit}"),
        power => format!("1e{power} {unit}"),
    }
}

/// 10,000 millionths are a per cent.
fn share_label(decade: i32) -> String {
    format!("{} %", 10_f64.powi(decade - 4))
}

impl Ranged for Decades {
    type FormatOption = NoDefaultFormatting;
    type ValueType = f64;

    fn map(&self, value: &f64, limit: (i32, i32)) -> i32 {
        scale(*value, &self.range, limit)
    }

    fn key_points<Hint: plotters::coord::ranged1d::KeyPointHint>(&self, hint: Hint) -> Vec<f64> {
        if hint.weight().allow_light_points() && hint.bold_points() == 0 {
            return Vec::new();
        }
        let decades = (self.range.end - self.range.start) as usize;
        // Labels of more than seven decades would run into each other.
        let step = decades.div_ceil(7).max(1);
        (0..=decades)
            .step_by(step)
            .map(|decade| self.range.start + decade as f64)
            .collect()
    }

    fn range(&self) -> Range<f64> {
        self.range.clone()
    }
}

impl ValueFormatter<f64> for Decades {
    fn format_ext(&self, value: &f64) -> String {
        (self.label)(value.round() as i32)
    }
}

/// An axis of seconds, evenly divided.
#[derive(Clone)]
pub struct Seconds(Range<f64>);

impl Seconds {
    /// One that holds all of these times; none of nothing.
    pub fn of(times: impl Iterator<Item = Nanos>) -> Option<Self> {
        let seconds = times.map(|time| time.as_secs_f64());
        let (low, high) = seconds.fold(None, |found: Option<(f64, f64)>, value| {
            let (low, high) = found.unwrap_or((value, value));
            Some((low.min(value), high.max(value)))
        })?;
        let low = low.min(0.0).floor();
        Some(Self(low..high.ceil().max(low + 1.0)))
    }

    /// Both ends.
    pub fn ends(&self) -> (f64, f64) {
        (self.0.start, self.0.end)
    }
}

impl Ranged for Seconds {
    type FormatOption = NoDefaultFormatting;
    type ValueType = f64;

    fn map(&self, value: &f64, limit: (i32, i32)) -> i32 {
        scale(*value, &self.0, limit)
    }

    fn key_points<Hint: plotters::coord::ranged1d::KeyPointHint>(&self, hint: Hint) -> Vec<f64> {
        if hint.weight().allow_light_points() && hint.bold_points() == 0 {
            return Vec::new();
        }
        let span = self.0.end - self.0.start;
        // The first round step that leaves room for the labels.
        let steps = [
            1.0, 2.0, 5.0, 10.0, 20.0, 50.0, 100.0, 200.0, 500.0, 1_000.0,
        ];
        let step = steps.into_iter().find(|step| span / step <= 7.0);
        let step = step.unwrap_or(span / 7.0);
        let first = (self.0.start / step).ceil() as i64;
        let last = (self.0.end / step).floor() as i64;
        (first..=last).map(|count| count as f64 * step).collect()
    }

    fn range(&self) -> Range<f64> {
        self.0.clone()
    }
}

impl ValueFormatter<f64> for Seconds {
    fn format_ext(&self, value: &f64) -> String {
        format!("{value:.0} s")
    }
}

/// An axis from 0 to 100 %.
#[derive(Clone)]
pub struct Percent;

impl Ranged for Percent {
    type FormatOption = NoDefaultFormatting;
    type ValueType = f64;

    fn map(&self, value: &f64, limit: (i32, i32)) -> i32 {
        scale(*value, &self.range(), limit)
    }

    fn key_points<Hint: plotters::coord::ranged1d::KeyPointHint>(&self, _: Hint) -> Vec<f64> {
        vec![0.0, 25.0, 50.0, 75.0, 100.0]
    }

    fn range(&self) -> Range<f64> {
        0.0..100.0
    }
}

impl ValueFormatter<f64> for Percent {
    fn format_ext(&self, value: &f64) -> String {
        format!("{value:.0} %")
    }
}

/// An axis of named rows, the first one on top.
#[derive(Clone)]
pub struct Rows {
    names: Vec<(f64, String)>,
    height: f64,
}

impl Rows {
    /// Rows of these names and heights; also gives the top of each.
    pub fn new<'a>(rows: impl Iterator<Item = (&'a str, usize)>) -> (Self, Vec<f64>) {
        let mut names = Vec::new();
        let mut tops = Vec::new();
        let mut height = 0.0;
        for (name, lanes) in rows {
            tops.push(height);
            names.push((height + lanes as f64 / 2.0, name.to_owned()));
            height += lanes as f64;
        }
        (Self { names, height }, tops)
    }
}

impl Ranged for Rows {
    type FormatOption = NoDefaultFormatting;
    type ValueType = f64;

    fn map(&self, value: &f64, limit: (i32, i32)) -> i32 {
        scale(*value, &(self.height..0.0), limit)
    }

    fn key_points<Hint: plotters::coord::ranged1d::KeyPointHint>(&self, hint: Hint) -> Vec<f64> {
        if hint.weight().allow_light_points() && hint.bold_points() == 0 {
            return Vec::new();
        }
        self.names.iter().map(|(middle, _)| *middle).collect()
    }

    fn range(&self) -> Range<f64> {
        0.0..self.height
    }
}

impl ValueFormatter<f64> for Rows {
    fn format_ext(&self, value: &f64) -> String {
        let named = self.names.iter().find(|(middle, _)| middle == value);
        named.map_or_else(String::new, |(_, name)| name.clone())
    }
}

/// Where a value stands between the two ends of an axis, in pixels.
fn scale(value: f64, range: &Range<f64>, limit: (i32, i32)) -> i32 {
    let share = (value - range.start) / (range.end - range.start);
    limit.0 + (share * f64::from(limit.1 - limit.0)).round() as i32
}
