//! What the host makes of a vigil: the guest's clock, read without a pause in the guest, beside
//! the host's own.
//!
//! The guest's reads are placed on `CLOCK_MONOTONIC_RAW`, which no repair moves. Exchanges over the
//! test port tie that counter to the host's clock: by the observer's own reading of ptp_kvm that comes
//! with the answer, else by the answer having been made somewhere between the host's question and its
//! receipt, whose middle is wrong by at most half the round trip. The tightest exchange near an
//! instant places it. Each exchange also tells how far the guest's clock
//! was from the counter, so that one which is slewed, as some peers do, is followed between jumps.

use noonmark_contract::testport::{Stretch, TracePoint, Tracer, Vigil};
use noonmark_contract::units::{Nanos, Ppb, Raw, Utc};

use crate::report::{MeasuredBy, Sample};

use super::session::Exchange;

/// How far the guest's raw counter may run off the host's clock: what a kernel's calibration of
/// its counter can be wrong by, generously.
const RAW_SKEW: Ppb = Ppb(200_000.0);

/// Steps of the trace are this much farther apart each time, in thousandths.
const TRACE_GROWTH_PER_MILLE: i64 = 1_200;

/// The instant that the trace's first step is after.
const TRACE_FIRST: Nanos = Nanos::from_micros(1);

/// An exchange in which the guest read its two clocks farther apart says too little of how far one
/// was from the other.
const WIDTH_MAX: Nanos = Nanos::from_micros(50);

/// Where the guest's clocks stood at an instant of the host's.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Pairing {
    raw: Raw,
    host: Utc,
    bound: Nanos,
    /// The guest's realtime clock minus its raw counter; none where they were read too far apart.
    difference: Option<Nanos>,
}

/// The guest's raw counter beside the host's clock. Only what came from one uninterrupted run of
/// the machine's processors belongs into one timeline: while they stand still, so does the counter.
#[derive(Clone, Debug, Default)]
pub(crate) struct Timeline(Vec<Pairing>);

impl Timeline {
    /// Takes in an exchange.
    pub(crate) fn push(&mut self, exchange: &Exchange) {
        let (host, bound) = exchange.host();
        self.0.push(Pairing {
            raw: exchange.raw,
            host,
            bound,
            difference: (exchange.width <= WIDTH_MAX)
                .then(|| Nanos(exchange.realtime.0.saturating_sub(exchange.raw.0))),
        });
    }

    /// A stretch, cut wherever an exchange tells how far the clock had been slewed by then.
    fn pieces(&self, stretch: &Stretch) -> Vec<Stretch> {
        let whole = (stretch.to - stretch.from).0.max(1) as f64;
        let inside = |raw: Raw| stretch.from < raw && raw < stretch.to;
        let cuts = self.0.iter().filter(|pairing| inside(pairing.raw));
        let ends = cuts
            .filter_map(|pairing| Some((pairing.raw, pairing.difference?)))
            .chain([(stretch.to, stretch.to_ns)]);
        let mut begin = (stretch.from, stretch.from_ns);
        ends.map(|end| {
            let share = (end.0 - begin.0).0 as f64 / whole;
            let piece = Stretch {
                from: begin.0,
                to: end.0,
                from_ns: begin.1,
                to_ns: end.1,
                reads: (stretch.reads as f64 * share).round() as u64,
            };
            begin = end;
            piece
        })
        .collect()
    }

    /// The host's time at `raw`, and how far it can be wrong.
    fn host(&self, raw: Raw) -> Option<(Utc, Nanos)> {
        let off = |pairing: &Pairing| pairing.bound + RAW_SKEW.over((raw - pairing.raw).abs());
        let best = self.0.iter().min_by_key(|pairing| off(pairing))?;
        Some((best.host + (raw - best.raw), off(best)))
    }

    /// Where the guest's raw counter stood at `host`, and how far that can be wrong.
    fn raw(&self, host: Utc) -> Option<(Raw, Nanos)> {
        let off = |pairing: &Pairing| pairing.bound + RAW_SKEW.over((host - pairing.host).abs());
        let best = self.0.iter().min_by_key(|pairing| off(pairing))?;
        Some((best.raw + (host - best.host), off(best)))
    }

    /// How far the clock was ahead of the host's at `at` of a stretch, and how far that can be
    /// wrong.
    fn error(&self, stretch: &Stretch, at: Raw) -> Option<(Nanos, Nanos)> {
        let (host, bound) = self.host(at)?;
        let realtime = Utc(at.0.saturating_add(stretch.difference(at).0));
        Some((realtime - host, bound))
    }
}

/// The sample that a vigil makes from `since` of the host's clock on; none where nothing ties the
/// two clocks together.
pub(crate) fn evaluate(
    vigil: &Vigil,
    timeline: &Timeline,
    since: Utc,
    tolerance: Nanos,
) -> Option<Sample> {
    let (start, timing_bound) = timeline.raw(since)?;
    let mut sample = Sample {
        measured_by: MeasuredBy::Host,
        timing_bound_ns: Some(timing_bound),
        ..Sample::default()
    };
    if vigil.lost > 0 {
        let lost = vigil.lost;
        let why = format!("the clock jumped {lost} times more than can be told");
        sample.violations.push(why);
    }
    let pieces: Vec<Stretch> = vigil
        .stretches
        .iter()
        .flat_map(|stretch| timeline.pieces(stretch))
        .filter(|piece| piece.to > start)
        .collect();
    for piece in &pieces {
        let from = piece.from.max(start);
        let reads = reads_from(piece, from);
        let (at_from, from_bound) = timeline.error(piece, from)?;
        let (at_to, to_bound) = timeline.error(piece, piece.to)?;
        let wrong = at_from.abs() > tolerance + from_bound || at_to.abs() > tolerance + to_bound;
        sample.reads += reads;
        sample.worst_ns = sample.worst_ns.max(at_from.abs()).max(at_to.abs());
        if wrong {
            sample.wrong_reads += reads;
            sample.recovered_ns = None;
        } else {
            sample.recovered_ns.get_or_insert(from - start);
        }
        sample.residual_ns = at_to;
        sample.residual_bound_ns = to_bound;
    }
    sample.trace = trace(&pieces, timeline, start);
    (sample.reads > 0).then_some(sample)
}

/// About how many of a stretch's reads came from `from` on; at least one.
fn reads_from(stretch: &Stretch, from: Raw) -> u64 {
    let whole = (stretch.to - stretch.from).0.max(1) as f64;
    let part = (stretch.to - from).0 as f64;
    ((stretch.reads as f64 * part / whole) as u64).clamp(1, stretch.reads.max(1))
}

fn trace(pieces: &[Stretch], timeline: &Timeline, start: Raw) -> Vec<TracePoint> {
    let mut tracer = Tracer::default();
    let mut next = TRACE_FIRST;
    for stretch in pieces {
        let mut take = |at: Raw| {
            if let Some((error, _)) = timeline.error(stretch, at) {
                tracer.take(at - start, error);
            }
        };
        take(stretch.from.max(start));
        while start + next < stretch.to {
            if start + next > stretch.from {
                take(start + next);
            }
            next = Nanos(next.0 * TRACE_GROWTH_PER_MILLE / 1_000);
        }
        take(stretch.to);
    }
    tracer.finish()
}

#[cfg(test)]
mod tests {
    use super::*;

    const MS: i64 = 1_000_000;
    /// The host's time at the guest's raw 0.
    const BASE: i64 = 1_790_000_000_000_000_000;

    /// Exchanges with a guest whose clock is as the stretches say.
    fn timeline(stretches: &[Stretch]) -> Timeline {
        let mut timeline = Timeline::default();
        for i in 0..50 {
            // Every tenth question is answered fast, the others slowly and off the middle.
            let (before, after) = if i % 10 == 0 {
                (40_000, 40_000)
            } else {
                (900_000, 100_000)
            };
            let raw = 100 * MS + i * 4 * MS;
            timeline.push(&Exchange {
                sent: Utc(BASE + raw - before),
                received: Utc(BASE + raw + after),
                raw: Raw(raw),
                realtime: Utc(raw + difference(stretches, Raw(raw))),
                width: Nanos(100),
                host: None,
            });
        }
        timeline
    }

    fn difference(stretches: &[Stretch], raw: Raw) -> i64 {
        let there = stretches.iter().find(|stretch| stretch.to >= raw);
        there.map_or(0, |stretch| stretch.difference(raw).0)
    }

    /// A clock that is `error` ahead of the host's from one raw instant to another.
    fn stretch(from: i64, to: i64, error: i64) -> Stretch {
        Stretch {
            from: Raw(from),
            to: Raw(to),
            from_ns: Nanos(BASE + error),
            to_ns: Nanos(BASE + error),
            reads: 1 + ((to - from) / 1_000) as u64,
        }
    }

    fn judged(stretches: Vec<Stretch>) -> Sample {
        let timeline = timeline(&stretches);
        let vigil = Vigil { stretches, lost: 0 };
        evaluate(&vigil, &timeline, Utc(BASE + 100 * MS), Nanos(MS)).unwrap()
    }

    #[test]
    fn a_pause_counts_from_the_resumption_to_the_first_right_read() {
        let judged = judged(vec![
            stretch(20 * MS, 118 * MS, -5_000 * MS),
            stretch(118 * MS + 2_000, 300 * MS, 300),
        ]);
        let took = judged.recovered_ns.unwrap();
        assert!((took - Nanos(18 * MS + 2_000)).abs() <= judged.timing_bound_ns.unwrap());
        assert!(
            judged.timing_bound_ns.unwrap() <= Nanos(60_000),
            "{judged:?}"
        );
        assert_eq!(judged.worst_ns, Nanos(5_000 * MS));
        assert!(
            (17_990..=18_010).contains(&judged.wrong_reads),
            "{judged:?}"
        );
        assert!(judged.residual_ns.abs() <= Nanos(300) + judged.residual_bound_ns);
        let (first, last) = (judged.trace[0], judged.trace[judged.trace.len() - 1]);
        assert_eq!(first.error, Nanos(-5_000 * MS));
        assert!(last.error.abs() < Nanos(MS) && last.at > Nanos(150 * MS));
    }

    #[test]
    fn a_clock_that_goes_wrong_again_has_recovered_only_from_the_last_time() {
        let judged = judged(vec![
            stretch(50 * MS, 110 * MS, 9 * MS),
            stretch(110 * MS + 1, 120 * MS, 0),
            stretch(120 * MS + 1, 130 * MS, 9 * MS),
            stretch(130 * MS + 1, 300 * MS, 0),
        ]);
        assert!((judged.recovered_ns.unwrap() - Nanos(30 * MS)).abs() < Nanos(100_000));
    }

    #[test]
    fn a_clock_that_ends_wrong_has_not_recovered_and_one_never_wrong_has_at_once() {
        let wrong = judged(vec![stretch(50 * MS, 300 * MS, 9 * MS)]);
        assert_eq!(wrong.recovered_ns, None);
        let right = judged(vec![stretch(50 * MS, 300 * MS, 100)]);
        assert_eq!(
            (right.recovered_ns, right.wrong_reads),
            (Some(Nanos::ZERO), 0)
        );
    }

    #[test]
    fn a_clock_that_is_slewed_has_recovered_when_an_exchange_finds_it_right() {
        let mut timeline = Timeline::default();
        // 50 ms ahead, and slewed by 10 % from 100 ms on: right within 1 ms at 590 ms.
        let error = |raw: i64| (50 * MS - (raw - 100 * MS).max(0) / 10).max(0);
        for raw in (100..900).step_by(4).map(|ms| ms * MS) {
            timeline.push(&Exchange {
                sent: Utc(BASE + raw - 40_000),
                received: Utc(BASE + raw + 40_000),
                raw: Raw(raw),
                realtime: Utc(BASE + raw + error(raw)),
                width: Nanos(100),
                host: None,
            });
        }
        let vigil = Vigil {
            stretches: vec![Stretch {
                to_ns: Nanos(BASE),
                ..stretch(20 * MS, 898 * MS, 50 * MS)
            }],
            lost: 0,
        };
        let judged = evaluate(&vigil, &timeline, Utc(BASE + 100 * MS), Nanos(MS)).unwrap();
        let took = judged.recovered_ns.unwrap();
        assert!((took - Nanos(490 * MS)).abs() <= Nanos(4 * MS), "{took}");
        let share = judged.wrong_reads as f64 / judged.reads as f64;
        assert!((share - 490.0 / 798.0).abs() < 0.02, "{share}");
    }

    #[test]
    fn without_an_exchange_nothing_is_judged() {
        let vigil = Vigil {
            stretches: vec![stretch(0, 9, 0)],
            lost: 0,
        };
        assert_eq!(
            evaluate(&vigil, &Timeline::default(), Utc(BASE), Nanos(MS)),
            None
        );
    }
}
