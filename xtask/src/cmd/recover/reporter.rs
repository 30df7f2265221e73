//! What `recover` shows while it runs: the boot, each sample, and the time left.

use std::time::{Duration, Instant};

use jiff::SignedDuration;
use noonmark_builder::progress::{self, Step};
use noonmark_contract::record::Record;
use noonmark_lab::fault::Plan;
use noonmark_lab::run::Progress;

use crate::status::text;

/// Shows one experiment.
#[derive(Debug)]
pub struct Reporter {
    step: Step,
    /// Samples to take, and taken.
    total: u32,
    done: u32,
    /// When the first fault could be done.
    since: Option<Instant>,
}

impl Reporter {
    /// Begins with the boot.
    pub fn new(plan: &Plan) -> Self {
        let each = plan.faults.iter().map(|fault| match plan.only {
            Some(_) => 1,
            None => fault.samples(plan.count),
        });
        Self {
            step: progress::step("the guest boots"),
            total: each.fold(0, u32::saturating_add),
            done: 0,
            since: None,
        }
    }

    /// Shows what happened.
    pub fn show(&mut self, progress: &Progress<'_>) {
        match progress {
            Progress::Booting(Record::Event(event)) => progress::note(event.event.to_string()),
            Progress::Booting(Record::Status(_)) => {}
            Progress::Synced(status) => {
                self.since.get_or_insert_with(Instant::now);
                self.step.update(text::line(status, None));
            }
            Progress::Sampled {
                fault,
                number,
                of,
                sample,
            } => {
                self.done += u32::from(*number > 0);
                let took = text::recovery(sample);
                let left = self.left();
                self.step
                    .update(format!("{fault} {number}/{of}: {took}{left}"));
                if sample.recovered_ns.is_none() || !sample.violations.is_empty() {
                    let why = std::iter::once(&took).chain(&sample.violations);
                    let why: Vec<&str> = why.map(String::as_str).collect();
                    progress::note(format!("{fault} {number}/{of}: {}", why.join("; ")));
                    progress::note(format!("again: {}", sample.replay));
                }
            }
            Progress::Skipped { fault, reason } => {
                progress::note(format!("{fault}: not run: {reason}"));
            }
        }
    }

    /// The time left if the samples to come take as long as those that were.
    fn left(&self) -> String {
        match (self.since, self.done) {
            (None, _) | (_, 0) => String::new(),
            (Some(since), done) => {
                let left = left(since.elapsed(), done, self.total);
                format!(", about {left:#} left")
            }
        }
    }
}

fn left(passed: Duration, done: u32, total: u32) -> SignedDuration {
    let left = passed / done.max(1) * total.saturating_sub(done);
    SignedDuration::from_secs(i64::try_from(left.as_secs()).unwrap_or(i64::MAX))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_time_left_is_that_of_the_samples_to_come() {
        let passed = Duration::from_secs(30);
        assert_eq!(left(passed, 10, 40), SignedDuration::from_secs(90));
        assert_eq!(left(passed, 40, 40), SignedDuration::ZERO);
        assert_eq!(left(passed, 41, 40), SignedDuration::ZERO);
    }
}
