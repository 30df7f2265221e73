//! The page's plots, as SVG. The colours in it are names for the page's style sheet, which gives
//! each its value for a light and for a dark background.

use std::ops::Range;

use noonmark_sync::testport::TracePoint;
use noonmark_sync::units::Nanos;
use plotters::coord::ranged1d::{NoDefaultFormatting, Ranged, ValueFormatter};
use plotters::prelude::*;

/// A plot that the library could not draw.
#[derive(Debug, thiserror::Error)]
#[error("cannot draw a plot: {0}")]
pub struct PlotError(String);

/// The lines of one clock keeper in one plot.
#[derive(Clone, Debug)]
pub struct Series<T> {
    /// Its place in [`COLOURS`], counted round.
    pub colour: usize,
    /// What is drawn.
    pub data: Vec<T>,
}

/// What tells the series apart, on any background and for most colour-blind readers (Okabe and
/// Ito's palette without its yellow and black).
pub const COLOURS: [RGBColor; 6] = [
    RGBColor(0x00, 0x72, 0xB2),
    RGBColor(0xD5, 0x5E, 0x00),
    RGBColor(0x00, 0x9E, 0x73),
    RGBColor(0xCC, 0x79, 0xA7),
    RGBColor(0xE6, 0x9F, 0x00),
    RGBColor(0x56, 0xB4, 0xE9),
];
const INK: RGBColor = RGBColor(0x11, 0x11, 0x11);
const GRID: RGBColor = RGBColor(0xDD, 0xDD, 0xDD);
const LIMIT: RGBColor = RGBColor(0x88, 0x88, 0x88);

/// Twice the size at which a plot is shown at most: the library draws on whole pixels.
const SIZE: (u32, u32) = (960, 620);
const FONT: (&str, u32) = ("sans-serif", 32);

/// The error of the guest's clock against the time since the fault, both logarithmic, a line for
/// each trace, and a line at the tolerance. None where there is nothing to draw.
///
/// # Errors
///
/// The library can't draw it.
pub fn error_over_time(
    series: &[Series<&[TracePoint]>],
    tolerance: Nanos,
) -> Result<Option<String>, PlotError> {
    let traces = || series.iter().flat_map(|one| &one.data);
    let points = || traces().flat_map(|trace| trace.iter());
    let Some(times) = Decades::around(points().map(|point| point.at)) else {
        return Ok(None);
    };
    let errors = points().map(|point| point.error.abs());
    let Some(errors) = Decades::around(errors.chain([tolerance])) else {
        return Ok(None);
    };
    let (first, last) = (times.0.start, times.0.end);
    draw(times, errors, "time since the fault", "error", |chart| {
        let limit = [(first, log(tolerance)), (last, log(tolerance))];
        chart.draw_series([PathElement::new(limit, LIMIT.stroke_width(3))])?;
        for one in series {
            // The more lines there are, the paler is each.
            let opacity = (3.0 / one.data.len().max(1) as f64).clamp(0.25, 0.9);
            let colour = COLOURS[one.colour % COLOURS.len()].mix(opacity);
            for trace in &one.data {
                let line = trace.iter().map(|p| (log(p.at), log(p.error.abs())));
                chart.draw_series([PathElement::new(
                    line.collect::<Vec<_>>(),
                    colour.stroke_width(3),
                )])?;
            }
        }
        Ok(())
    })
    .map(Some)
}

/// The share of the samples that had recovered after each time: a staircase for each series, which
/// ends below 100 % where some did not recover. A series is its sorted times, with [`Nanos::MAX`]
/// for each that did not recover. None where none recovered.
///
/// # Errors
///
/// The library can't draw it.
pub fn distribution(series: &[Series<Nanos>]) -> Result<Option<String>, PlotError> {
    let finite = |time: &&Nanos| **time != Nanos::MAX;
    let all = series.iter().flat_map(|one| one.data.iter().filter(finite));
    let Some(times) = Decades::around(all.copied()) else {
        return Ok(None);
    };
    let (first, last) = (times.0.start, times.0.end);
    draw(times, Percent, "time to recover", "recovered", |chart| {
        for one in series {
            let total = one.data.len().max(1) as f64;
            let mut stairs = vec![(first, 0.0)];
            let mut share = 0.0;
            for (index, time) in one.data.iter().filter(finite).enumerate() {
                stairs.push((log(*time), share));
                share = 100.0 * (index + 1) as f64 / total;
                stairs.push((log(*time), share));
            }
            stairs.push((last, share));
            let colour = COLOURS[one.colour % COLOURS.len()];
            chart.draw_series([PathElement::new(stairs, colour.stroke_width(4))])?;
        }
        Ok(())
    })
    .map(Some)
}

/// Both axes of a plot: values are numbers already, logarithms of nanoseconds or per cent.
trait Axis: Ranged<ValueType = f64> + ValueFormatter<f64> {}
impl<T: Ranged<ValueType = f64> + ValueFormatter<f64>> Axis for T {}

type Backend<'a> = SVGBackend<'a>;
type Chart<'a, 'b, X, Y> = ChartContext<'a, Backend<'b>, Cartesian2d<X, Y>>;
type Drawn = Result<(), DrawingAreaErrorKind<std::io::Error>>;

fn draw<X: Axis, Y: Axis>(
    x: X,
    y: Y,
    x_name: &str,
    y_name: &str,
    lines: impl FnOnce(&mut Chart<'_, '_, X, Y>) -> Drawn,
) -> Result<String, PlotError> {
    let mut text = String::new();
    let paint = || -> Drawn {
        let area = SVGBackend::with_string(&mut text, SIZE).into_drawing_area();
        let mut chart = ChartBuilder::on(&area)
            .margin(12)
            .margin_right(40)
            .x_label_area_size(96)
            .y_label_area_size(142)
            .build_cartesian_2d(x, y)?;
        chart
            .configure_mesh()
            .axis_style(INK.mix(0.6))
            .bold_line_style(GRID)
            .light_line_style(TRANSPARENT)
            .label_style((FONT.0, FONT.1, &INK))
            .x_desc(x_name)
            .y_desc(y_name)
            .draw()?;
        lines(&mut chart)?;
        area.present()
    };
    paint().map_err(|error| PlotError(error.to_string()))?;
    Ok(text)
}

/// The decimal logarithm of a span in nanoseconds; a nanosecond is the least.
fn log(span: Nanos) -> f64 {
    (span.0.max(1) as f64).log10()
}

/// A logarithmic axis of times over whole decades.
#[derive(Clone)]
struct Decades(Range<f64>);

impl Decades {
    /// The decades that hold all of these; none of nothing.
    fn around(values: impl Iterator<Item = Nanos>) -> Option<Self> {
        let (low, high) = values.fold(None, |found: Option<(f64, f64)>, value| {
            let value = log(value);
            let (low, high) = found.unwrap_or((value, value));
            Some((low.min(value), high.max(value)))
        })?;
        let low = low.floor();
        Some(Self(low..high.ceil().max(low + 1.0)))
    }
}

impl Ranged for Decades {
    type FormatOption = NoDefaultFormatting;
    type ValueType = f64;

    fn map(&self, value: &f64, limit: (i32, i32)) -> i32 {
        scale(*value, &self.0, limit)
    }

    fn key_points<Hint: plotters::coord::ranged1d::KeyPointHint>(&self, hint: Hint) -> Vec<f64> {
        if hint.weight().allow_light_points() && hint.bold_points() == 0 {
            return Vec::new();
        }
        let decades = (self.0.end - self.0.start) as usize;
        // Labels of more than seven decades would run into each other.
        let step = decades.div_ceil(7).max(1);
        (0..=decades)
            .step_by(step)
            .map(|decade| self.0.start + decade as f64)
            .collect()
    }

    fn range(&self) -> Range<f64> {
        self.0.clone()
    }
}

impl ValueFormatter<f64> for Decades {
    fn format_ext(&self, value: &f64) -> String {
        let decade = value.round() as i32;
        let (unit, base) = match decade {
            ..=2 => ("ns", 0),
            3..=5 => ("us", 3),
            6..=8 => ("ms", 6),
            _ => ("s", 9),
        };
        match decade - base {
            power @ 0..=3 => format!("{} {unit}", 10_i64.pow(power.unsigned_abs())),
            power => format!("1e{power} {unit}"),
        }
    }
}

/// An axis from 0 to 100 %.
#[derive(Clone)]
struct Percent;

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

/// Where a value stands between the two ends of an axis, in pixels.
fn scale(value: f64, range: &Range<f64>, limit: (i32, i32)) -> i32 {
    let share = (value - range.start) / (range.end - range.start);
    limit.0 + (share * f64::from(limit.1 - limit.0)).round() as i32
}
