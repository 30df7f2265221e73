//! Where an undisturbed clock would be: a line through REALTIME minus RAW, over RAW, carried on.

use noonmark_contract::units::{Nanos, Raw};
use noonmark_linux::clocks::Sandwich;

/// Readings wider than this many times the tightest were cut through by something.
const WIDTH_FACTOR: i64 = 4;

/// How many readings a line takes at least.
const READINGS_MIN: usize = 8;

/// Where the clock should be, had nothing happened.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Extrapolation {
    origin: Raw,
    /// REALTIME minus RAW at the origin, whole and fraction: a double alone can't hold it to 1 ns.
    base: Nanos,
    rest_ns: f64,
    /// Change of the difference per nanosecond of RAW.
    slope: f64,
    /// How far the line can be wrong at its origin, and per nanosecond from there.
    bound_ns: f64,
    slope_bound: f64,
}

impl Extrapolation {
    /// Fits a line through the tight ones of `readings` by least squares. None where too few are
    /// tight, or where they don't lie on a line: then the clock was disturbed meanwhile.
    #[must_use]
    pub fn fit(readings: &[Sandwich]) -> Option<Self> {
        let tightest = readings.iter().map(|reading| reading.width().0).min()?;
        let limit = tightest.saturating_mul(WIDTH_FACTOR);
        let tight: Vec<_> = readings
            .iter()
            .filter(|reading| reading.width().0 <= limit)
            .collect();
        if tight.len() < READINGS_MIN {
            return None;
        }
        let origin = tight.last()?.raw();
        let base = tight.last()?.difference();
        let points: Vec<(f64, f64)> = tight
            .iter()
            .map(|reading| {
                (
                    (reading.raw() - origin).0 as f64,
                    (reading.difference() - base).0 as f64,
                )
            })
            .collect();
        let (rest_ns, slope) = least_squares(&points)?;
        let worst = points
            .iter()
            .map(|(x, y)| (y - rest_ns - slope * x).abs())
            .fold(0.0, f64::max);
        // A reading is wrong by at most half its width, so points on a line stay within that.
        if worst > limit as f64 {
            return None;
        }
        let span = points.last()?.0 - points.first()?.0;
        let bound_ns = (tightest as f64 / 2.0).max(worst);
        Some(Self {
            origin,
            base,
            rest_ns,
            slope,
            bound_ns,
            slope_bound: 2.0 * bound_ns / span,
        })
    }

    /// How far `reading` is off the line.
    #[must_use]
    pub fn error(&self, reading: &Sandwich) -> Nanos {
        let elapsed = (reading.raw() - self.origin).0 as f64;
        let expected = self.rest_ns + self.slope * elapsed;
        reading.difference() - self.base - Nanos(expected.round() as i64)
    }

    /// How far the line itself can be wrong at `at`.
    #[must_use]
    pub fn bound(&self, at: Raw) -> Nanos {
        let elapsed = (at - self.origin).abs().0 as f64;
        Nanos((self.bound_ns + self.slope_bound * elapsed).ceil() as i64)
    }
}

/// Intercept and slope; none where all points share one abscissa.
fn least_squares(points: &[(f64, f64)]) -> Option<(f64, f64)> {
    let count = points.len() as f64;
    let mean_x = points.iter().map(|(x, _)| x).sum::<f64>() / count;
    let mean_y = points.iter().map(|(_, y)| y).sum::<f64>() / count;
    let spread: f64 = points.iter().map(|(x, _)| (x - mean_x).powi(2)).sum();
    if spread <= 0.0 {
        return None;
    }
    let common: f64 = points
        .iter()
        .map(|(x, y)| (x - mean_x) * (y - mean_y))
        .sum();
    let slope = common / spread;
    Some((mean_y - slope * mean_x, slope))
}

#[cfg(test)]
mod tests {
    use noonmark_contract::units::Utc;
    use proptest::prelude::*;

    use super::*;

    const EPOCH: i64 = 1_790_000_000_000_000_000;

    /// A clock that gains `ppm` and was `offset` ahead at RAW 0, read with a width of 100 ns.
    fn reading(raw: i64, offset: i64, ppm: f64) -> Sandwich {
        let gained = (raw as f64 * ppm / 1e6).round() as i64;
        Sandwich {
            before: Raw(raw - 50),
            realtime: Utc(EPOCH + raw + offset + gained),
            after: Raw(raw + 50),
        }
    }

    fn steady(ppm: f64) -> Vec<Sandwich> {
        (0..32).map(|i| reading(i * 3_000_000, 0, ppm)).collect()
    }

    proptest! {
        #[test]
        fn a_steady_clock_lies_on_its_line_and_a_stepped_one_is_off_by_the_step(
            ppm in -500.0..500.0,
            step in -1_000_000_000_000i64..1_000_000_000_000,
        ) {
            let line = Extrapolation::fit(&steady(ppm)).unwrap();
            let later = 200_000_000;
            prop_assert!(line.error(&reading(later, 0, ppm)).abs() <= Nanos(3));
            let off = line.error(&reading(later, step, ppm));
            prop_assert!((off - Nanos(step)).abs() <= Nanos(3));
        }
    }

    #[test]
    fn a_reading_that_was_cut_through_is_left_out() {
        let mut readings = steady(10.0);
        readings[5].after = readings[5].after + Nanos::from_micros(900);
        let line = Extrapolation::fit(&readings).unwrap();
        assert!(line.error(&reading(100_000_000, 0, 10.0)).abs() <= Nanos(2));
    }

    #[test]
    fn a_clock_that_was_stepped_meanwhile_has_no_line() {
        let mut readings = steady(0.0);
        readings.extend((32..64).map(|i| reading(i * 3_000_000, 50_000, 0.0)));
        assert_eq!(Extrapolation::fit(&readings), None);
    }

    #[test]
    fn too_few_readings_make_no_line() {
        assert_eq!(Extrapolation::fit(&steady(0.0)[..READINGS_MIN - 1]), None);
        assert_eq!(Extrapolation::fit(&[]), None);
        assert_eq!(Extrapolation::fit(&[reading(0, 0, 0.0); 20]), None);
    }

    #[test]
    fn the_bound_grows_with_the_distance_from_what_was_measured() {
        let line = Extrapolation::fit(&steady(0.0)).unwrap();
        let near = line.bound(Raw(93_000_000));
        let far = line.bound(Raw(1_093_000_000));
        assert!(near >= Nanos(50) && far > near, "{near} and {far}");
    }
}
