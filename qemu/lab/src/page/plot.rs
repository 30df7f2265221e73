//! The page's plots, as SVG. The colours in it are names for the page's style sheet, which gives
//! each its value for a light and for a dark background.

use noonmark_contract::testport::{ErrorPoint, TracePoint};
use noonmark_contract::units::Nanos;
use plotters::prelude::*;

use super::axes::{Axis, Decades, Percent, Rows, Seconds, log};

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
    let Some(times) = Decades::of_times(points().map(|point| point.at)) else {
        return Ok(None);
    };
    let errors = points().map(|point| point.error.abs());
    let Some(errors) = Decades::of_times(errors.chain([tolerance])) else {
        return Ok(None);
    };
    let (first, last) = times.ends();
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

/// The error of the guest's clock against the host's, logarithmic, against the time in seconds; a line
/// for each recording, and one at `limit`. None where there is nothing to draw.
///
/// # Errors
///
/// The library can't draw it.
pub fn error_over_seconds(
    series: &[Series<&[ErrorPoint]>],
    limit: Nanos,
) -> Result<Option<String>, PlotError> {
    let points = || {
        series
            .iter()
            .flat_map(|one| one.data.iter().copied().flatten())
    };
    let Some(times) = Seconds::of(points().map(|point| point.at)) else {
        return Ok(None);
    };
    let errors = points().map(|point| point.error.abs());
    let Some(errors) = Decades::of_times(errors.chain([limit])) else {
        return Ok(None);
    };
    let (first, last) = times.ends();
    draw(times, errors, "time", "error", |chart| {
        let at_limit = [(first, log(limit)), (last, log(limit))];
        chart.draw_series([PathElement::new(at_limit, LIMIT.stroke_width(3))])?;
        for one in series {
            let colour = COLOURS[one.colour % COLOURS.len()].mix(0.8);
            for recording in &one.data {
                let line = recording.iter();
                let line = line.map(|p| (p.at.as_secs_f64(), log(p.error.abs())));
                let line: Vec<(f64, f64)> = line.collect();
                chart.draw_series([PathElement::new(line, colour.stroke_width(3))])?;
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
    stairs(series, "time to recover", "recovered")
}

/// The share of the readings in which the clock's error was at most so large: a staircase for each
/// series, which is its sorted errors. None where there is no reading.
///
/// # Errors
///
/// The library can't draw it.
pub fn errors(series: &[Series<Nanos>]) -> Result<Option<String>, PlotError> {
    stairs(series, "error, undisturbed", "readings")
}

fn stairs(
    series: &[Series<Nanos>],
    x_name: &str,
    y_name: &str,
) -> Result<Option<String>, PlotError> {
    let finite = |time: &&Nanos| **time != Nanos::MAX;
    let all = series.iter().flat_map(|one| one.data.iter().filter(finite));
    let Some(times) = Decades::of_times(all.copied()) else {
        return Ok(None);
    };
    let (first, last) = times.ends();
    draw(times, Percent, x_name, y_name, |chart| {
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

/// What keeping a clock costs and what comes of it: a point for each keeper.
#[derive(Clone, Copy, Debug)]
pub struct Worth {
    /// Its place in [`COLOURS`], counted round.
    pub colour: usize,
    /// Share of a virtual processor, in millionths.
    pub cpu_ppm: u64,
    /// Root mean square of the clock's error.
    pub rms_ns: f64,
}

/// The error of each keeper's clock against what it costs, both logarithmic. None where there is
/// nothing to draw.
///
/// # Errors
///
/// The library can't draw it.
pub fn worth(keepers: &[Worth]) -> Result<Option<String>, PlotError> {
    let cpu = |one: &Worth| (one.cpu_ppm.max(1) as f64).log10();
    let rms = |one: &Worth| one.rms_ns.max(0.1).log10();
    let (Some(costs), Some(errors)) = (
        Decades::of_shares(keepers.iter().map(cpu)),
        Decades::of_logs(keepers.iter().map(rms)),
    ) else {
        return Ok(None);
    };
    draw(costs, errors, "CPU of a vCPU", "RMS error", |chart| {
        chart.draw_series(keepers.iter().map(|one| {
            let colour = COLOURS[one.colour % COLOURS.len()];
            Circle::new((cpu(one), rms(one)), 14, colour.filled())
        }))?;
        Ok(())
    })
    .map(Some)
}

/// The samples of one fault, of one keeper after the other.
#[derive(Clone, Debug)]
pub struct Row<'a> {
    /// The fault's name.
    pub name: &'a str,
    /// Each keeper's times; [`Nanos::MAX`] for one that did not recover.
    pub series: Vec<Series<Nanos>>,
}

/// Every sample's time to recover, logarithmic, a row for each fault: a disc for each that recovered,
/// and a cross at the right edge for each that did not by `deadline`. None where there is nothing to
/// draw.
///
/// # Errors
///
/// The library can't draw it.
pub fn recoveries(rows: &[Row<'_>], deadline: Nanos) -> Result<Option<String>, PlotError> {
    let all = rows.iter().flat_map(|row| &row.series);
    let times = all.flat_map(|one| &one.data);
    let finite = times.filter(|time| **time != Nanos::MAX).copied();
    let Some(times) = Decades::of_times(finite.chain([deadline])) else {
        return Ok(None);
    };
    let (_, last) = times.ends();
    let lanes: usize = rows.iter().map(|row| row.series.len() + 1).sum();
    let names = rows.iter().map(|row| (row.name, row.series.len() + 1));
    let longest = rows.iter().map(|row| row.name.len()).max().unwrap_or(0);
    let pixels = |each: u32, count: usize| each * u32::try_from(count.min(100)).unwrap_or(100);
    let layout = Layout {
        size: (SIZE.0, 110 + pixels(25, lanes)),
        names_width: 30 + pixels(14, longest),
        font: (FONT.0, 25),
    };
    let (rows_axis, tops) = Rows::new(names);
    draw_as(layout, times, rows_axis, "time to recover", "", |chart| {
        for (row, top) in rows.iter().zip(tops) {
            for (lane, one) in row.series.iter().enumerate() {
                let y = top + lane as f64 + 1.0;
                let colour = COLOURS[one.colour % COLOURS.len()];
                let made = one.data.iter().filter(|time| **time != Nanos::MAX);
                chart.draw_series(
                    made.map(|time| Circle::new((log(*time), y), 9, colour.mix(0.7).filled())),
                )?;
                let cross = Cross::new((last, y), 10, colour.stroke_width(5));
                let missed = one.data.contains(&Nanos::MAX);
                chart.draw_series(missed.then_some(cross))?;
            }
        }
        Ok(())
    })
    .map(Some)
}

type Backend<'a> = SVGBackend<'a>;
type Chart<'a, 'b, X, Y> = ChartContext<'a, Backend<'b>, Cartesian2d<X, Y>>;
type Drawn = Result<(), DrawingAreaErrorKind<std::io::Error>>;

/// How large a plot is, and how much of that the names on its left take.
#[derive(Clone, Copy, Debug)]
struct Layout {
    size: (u32, u32),
    names_width: u32,
    font: (&'static str, u32),
}

fn draw<X: Axis, Y: Axis>(
    x: X,
    y: Y,
    x_name: &str,
    y_name: &str,
    lines: impl FnOnce(&mut Chart<'_, '_, X, Y>) -> Drawn,
) -> Result<String, PlotError> {
    let layout = Layout {
        size: SIZE,
        names_width: 142,
        font: FONT,
    };
    draw_as(layout, x, y, x_name, y_name, lines)
}

fn draw_as<X: Axis, Y: Axis>(
    layout: Layout,
    x: X,
    y: Y,
    x_name: &str,
    y_name: &str,
    lines: impl FnOnce(&mut Chart<'_, '_, X, Y>) -> Drawn,
) -> Result<String, PlotError> {
    let mut text = String::new();
    let paint = || -> Drawn {
        let area = SVGBackend::with_string(&mut text, layout.size).into_drawing_area();
        let mut chart = ChartBuilder::on(&area)
            .margin(12)
            .margin_right(40)
            .x_label_area_size(3 * layout.font.1)
            .y_label_area_size(layout.names_width)
            .build_cartesian_2d(x, y)?;
        chart
            .configure_mesh()
            .axis_style(INK.mix(0.6))
            .bold_line_style(GRID)
            .light_line_style(TRANSPARENT)
            .label_style((layout.font.0, layout.font.1, &INK))
            .x_desc(x_name)
            .y_desc(y_name)
            .draw()?;
        lines(&mut chart)?;
        area.present()
    };
    paint().map_err(|error| PlotError(error.to_string()))?;
    Ok(text)
}
