//! An error against time in few points, so that a whole recovery fits in one line and can be drawn
//! on a logarithmic axis.

use alloc::vec::Vec;

use serde::{Deserialize, Serialize};

use crate::units::Nanos;

/// The most points that a trace has.
pub const POINTS_MAX: usize = 96;

/// The first slice of time ends here.
const FIRST_END: Nanos = Nanos::from_micros(1);

/// Each slice ends this many times later than the one before, in thousandths: from 1 us, the
/// slices reach to 60 s.
const GROWTH_PER_MILLE: i64 = 1_208;

/// The clock's error at one instant. As JSON, `[at, error]`, both in nanoseconds.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(from = "(Nanos, Nanos)", into = "(Nanos, Nanos)")]
pub struct TracePoint {
    /// Since the fault.
    pub at: Nanos,
    /// How far the clock was ahead of where it should have been.
    pub error: Nanos,
}

impl From<(Nanos, Nanos)> for TracePoint {
    fn from((at, error): (Nanos, Nanos)) -> Self {
        Self { at, error }
    }
}

impl From<TracePoint> for (Nanos, Nanos) {
    fn from(point: TracePoint) -> Self {
        (point.at, point.error)
    }
}

/// Picks the points of a trace out of a stream of reads: of each slice of time the read with the
/// largest error, so that no excursion is lost. The slices grow with the time since the fault.
#[derive(Clone, Debug)]
pub struct Tracer {
    points: Vec<TracePoint>,
    /// The worst read of the slice under way.
    worst: Option<TracePoint>,
    end: Nanos,
}

impl Default for Tracer {
    fn default() -> Self {
        Self {
            points: Vec::with_capacity(POINTS_MAX),
            worst: None,
            end: FIRST_END,
        }
    }
}

impl Tracer {
    /// Takes in a read; reads come in the order of their time.
    pub fn take(&mut self, at: Nanos, error: Nanos) {
        let point = TracePoint { at, error };
        if at >= self.end {
            self.close();
            while at >= self.end {
                self.end = Nanos(self.end.0.saturating_mul(GROWTH_PER_MILLE) / 1_000);
            }
        }
        if self
            .worst
            .is_none_or(|worst| error.abs() > worst.error.abs())
        {
            self.worst = Some(point);
        }
    }

    /// The points so far, in the order of their time.
    #[must_use]
    pub fn finish(mut self) -> Vec<TracePoint> {
        self.close();
        self.points
    }

    fn close(&mut self) {
        // What lies beyond the last slice is the tail of a recovery that is decided already.
        if let Some(worst) = self.worst.take()
            && self.points.len() < POINTS_MAX
        {
            self.points.push(worst);
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn trace(reads: &[(i64, i64)]) -> Vec<TracePoint> {
        let mut tracer = Tracer::default();
        for &(at, error) in reads {
            tracer.take(Nanos(at), Nanos(error));
        }
        tracer.finish()
    }

    #[test]
    fn a_minute_of_reads_fits_and_reaches_to_its_end() {
        let reads: Vec<(i64, i64)> = (0..600_000).map(|i| (i * 100_000, 7)).collect();
        let points = trace(&reads);
        assert!(points.len() <= POINTS_MAX, "{}", points.len());
        assert!(points[points.len() - 1].at > Nanos::from_secs(45));
    }

    #[test]
    fn a_slice_s_worst_read_is_kept_whichever_sign_it_has() {
        let reads = [(10_000, 3), (10_100, -900), (10_200, 5), (20_000, 1)];
        let points = trace(&reads);
        let errors: Vec<Nanos> = points.iter().map(|point| point.error).collect();
        assert_eq!(errors, [Nanos(-900), Nanos(1)]);
    }

    #[test]
    fn a_point_is_two_numbers_in_json() {
        let text = serde_json::to_string(&trace(&[(5, -6)])).unwrap();
        assert_eq!(text, "[[5,-6]]");
        let back: Vec<TracePoint> = serde_json::from_str(&text).unwrap();
        assert_eq!(back, trace(&[(5, -6)]));
    }

    proptest! {
        #[test]
        fn a_trace_is_short_ordered_and_has_the_worst_read_of_its_first_minute(
            mut times in proptest::collection::vec(0_i64..60_000_000_000, 1..300),
            errors in proptest::collection::vec(-1_000_000_000_i64..1_000_000_000, 300),
        ) {
            times.sort_unstable();
            let reads: Vec<(i64, i64)> = times.into_iter().zip(errors).collect();
            let points = trace(&reads);
            prop_assert!(points.len() <= POINTS_MAX);
            prop_assert!(points.is_sorted_by_key(|point| point.at));
            let worst = reads.iter().map(|(_, error)| error.abs()).max();
            let kept = points.iter().map(|point| point.error.abs().0).max();
            prop_assert_eq!(worst, kept);
        }
    }
}
