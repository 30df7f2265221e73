//! Reads the clock without a pause while the host disturbs the machine, and records where the clock
//! jumped and where it ran on between the jumps. The test port calls such a recording a vigil.

use noonmark_contract::testport::{STRETCHES_MAX, Stretch, Vigil};
use noonmark_contract::units::{Nanos, Raw};
use noonmark_linux::clocks::Sandwich;

/// Between two reads, a change of REALTIME minus RAW by this much more than their widths explain is
/// a jump. Slewing by all that `adjtimex` allows takes 200 us for it, and reads are some
/// microseconds apart.
const JUMP: Nanos = Nanos::from_micros(20);

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
    seen: Vigil,
}

impl Recorder {
    /// Begins at `now`.
    #[must_use]
    pub fn new(now: Raw) -> Self {
        Self {
            until: now + LONGEST,
            last_off: Nanos::ZERO,
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
        let explained = off + self.last_off;
        self.last_off = off;
        if let Some(last) = self.seen.stretches.last_mut() {
            if (difference - last.to_ns).abs() < JUMP + explained {
                last.to = raw;
                last.to_ns = difference;
                last.reads += 1;
                return;
            }
            if self.seen.stretches.len() == STRETCHES_MAX {
                self.seen.lost += 1;
                return;
            }
        }
        self.seen.stretches.push(Stretch {
            from: raw,
            to: raw,
            from_ns: difference,
            to_ns: difference,
            reads: 1,
        });
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
