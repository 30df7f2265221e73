//! Reads the clock without a pause while the host disturbs the machine, and records where the clock
//! jumped and how it ran on between the jumps: along straight lines, one for each rate that it was given.
//! The test port calls such a recording a vigil.
//!
//! A read at distance t from a line's first one, and d off that, allows the line the slopes from (d - s)/t
//! to (d + s)/t, where s is what a straight line may be off by. The next read lies on the line where its own
//! slope is one that all reads before it allow; else it begins a line of its own, from the last read on
//! where a slew explains it, and from itself where the clock jumped.

use noonmark_contract::testport::{STRETCHES_MAX, Stretch, Vigil};
use noonmark_contract::units::{Nanos, Ppb, Raw};
use noonmark_linux::clocks::Sandwich;

/// A stretch is a straight line to within this, and as much more as the widths of its reads explain.
const STRAIGHT: Nanos = Nanos::from_micros(20);

/// The fastest that `adjtimex` can slew the clock against RAW, in parts per million: a tick of 10 %, and a
/// frequency of 500 ppm (kernel/time/ntp.c). What the clock gained faster than that was a jump.
const SLEW_MAX: Ppb = Ppb(100_500_000.0);

/// Of a line that has but one read.
const ANY_SLOPE: (f64, f64) = (f64::NEG_INFINITY, f64::INFINITY);

/// A wider read was cut through by something and proves nothing at this precision.
const WIDTH_MAX: Nanos = Nanos::from_micros(50);

/// The longest vigil, by the guest's own counter.
const LONGEST: Nanos = Nanos::from_secs(60);

/// Reads between two looks at the port.
const READS_AT_ONCE: usize = 4;

/// A vigil under way.
#[derive(Debug)]
pub struct Recorder {
    until: Raw,
    /// How far the last read can be off.
    last_off: Nanos,
    /// The slopes that the reads of the last line allow it, in ns per ns.
    slopes: (f64, f64),
    seen: Vigil,
}

impl Recorder {
    /// Begins at `now`.
    #[must_use]
    pub fn new(now: Raw) -> Self {
        Self {
            until: now + LONGEST,
            last_off: Nanos::ZERO,
            slopes: ANY_SLOPE,
            seen: Vigil {
                stretches: Vec::with_capacity(STRETCHES_MAX),
                lost: 0,
            },
        }
    }

    /// Reads the clock a few times; false once the vigil has lasted too long.
    pub fn read(&mut self) -> bool {
        for _ in 0..READS_AT_ONCE {
            let read = Sandwich::read();
            if read.after >= self.until {
                return false;
            }
            self.take(&read);
        }
        true
    }

    /// What was seen.
    #[must_use]
    pub fn finish(self) -> Vigil {
        self.seen
    }

    fn take(&mut self, read: &Sandwich) {
        if read.width() > WIDTH_MAX {
            return;
        }
        let (raw, difference) = (read.raw(), read.difference());
        let off = Nanos(read.width().0 / 2);
        let allowed = STRAIGHT + off + self.last_off;
        self.last_off = off;
        let mut begin = Stretch {
            from: raw,
            to: raw,
            from_ns: difference,
            to_ns: difference,
            reads: 1,
        };
        if let Some(last) = self.seen.stretches.last_mut() {
            let gained = difference - last.to_ns;
            let jumped = gained.abs() > SLEW_MAX.over(raw - last.to) + allowed;
            let far = (raw - last.from).0.max(1) as f64;
            let slope_at = |off: Nanos| ((difference - last.from_ns) + off).0 as f64 / far;
            let (least, most) = self.slopes;
            if !jumped && (least..=most).contains(&slope_at(Nanos::ZERO)) {
                self.slopes = (least.max(slope_at(-allowed)), most.min(slope_at(allowed)));
                (last.to, last.to_ns) = (raw, difference);
                last.reads += 1;
                return;
            }
            if !jumped {
                (begin.from, begin.from_ns) = (last.to, last.to_ns);
            }
            if self.seen.stretches.len() == STRETCHES_MAX {
                self.seen.lost += 1;
                return;
            }
        }
        self.slopes = ANY_SLOPE;
        self.seen.stretches.push(begin);
    }
}

#[cfg(test)]
mod tests {
    use noonmark_contract::units::Utc;

    use super::*;

    /// A read at `raw` of a clock that is `difference` ahead of RAW.
    fn read(raw: i64, difference: i64, width: i64) -> Sandwich {
        Sandwich {
            before: Raw(raw - width / 2),
            realtime: Utc(raw + difference),
            after: Raw(raw + width / 2),
        }
    }

    #[test]
    fn a_slewed_clock_is_one_stretch_and_a_step_begins_another() {
        let mut recorder = Recorder::new(Raw(0));
        for i in 0..100 {
            recorder.take(&read(i * 5_000, i * 500, 200));
        }
        recorder.take(&read(501_000, 9_000_000, 200));
        recorder.take(&read(502_000, 9_000_100, 200));
        let seen = recorder.finish();
        assert_eq!(seen.stretches.len(), 2);
        assert_eq!(seen.stretches[0].reads, 100);
        assert_eq!(seen.stretches[0].difference(Raw(250_000)), Nanos(25_000));
        assert_eq!(seen.stretches[1].from, Raw(501_000));
        assert_eq!(seen.lost, 0);
    }

    #[test]
    fn a_change_of_rate_begins_a_line_where_the_last_one_ends_however_rare_the_reads_are() {
        for gap in [5_000, 400_000, 20_000_000] {
            let mut recorder = Recorder::new(Raw(0));
            let slewed = |i: i64| i.min(100) * gap / 10;
            for i in 0..300 {
                recorder.take(&read(i * gap, slewed(i), 200));
            }
            let seen = recorder.finish();
            assert_eq!((seen.stretches.len(), seen.lost), (2, 0), "{gap}");
            assert_eq!(seen.stretches[1].from, seen.stretches[0].to, "{gap}");
            for i in 0..300 {
                let at = Raw(i * gap);
                let line = seen.stretches.iter().find(|stretch| at <= stretch.to);
                let off = line.unwrap().difference(at) - Nanos(slewed(i));
                assert!(off.abs() <= Nanos::from_micros(21), "{gap} {i}: {off}");
            }
        }
    }

    #[test]
    fn a_read_that_was_cut_through_is_no_jump() {
        let mut recorder = Recorder::new(Raw(0));
        recorder.take(&read(1_000, 0, 200));
        recorder.take(&read(3_000_000, 1_000_000, 2_000_000));
        recorder.take(&read(6_000_000, 10, 200));
        assert_eq!(recorder.finish().stretches.len(), 1);
    }

    #[test]
    fn what_two_wide_reads_disagree_about_is_no_jump() {
        let mut recorder = Recorder::new(Raw(0));
        for i in 0..100 {
            let off = if i % 2 == 0 { 20_000 } else { -20_000 };
            recorder.take(&read(i * 60_000, off, 45_000));
        }
        assert_eq!(recorder.finish().stretches.len(), 1);
    }

    #[test]
    fn what_jumps_for_ever_is_counted_and_not_kept() {
        let mut recorder = Recorder::new(Raw(0));
        for i in 0..1_000 {
            recorder.take(&read(i * 5_000, i * 1_000_000, 200));
        }
        let seen = recorder.finish();
        assert_eq!(seen.stretches.len(), STRETCHES_MAX);
        assert_eq!(seen.lost, 1_000 - STRETCHES_MAX as u64);
    }

    #[test]
    fn a_vigil_has_an_end() {
        let mut recorder = Recorder::new(Raw(i64::MIN / 2));
        assert!(!recorder.read(), "a minute has passed since then");
    }
}
