//! The search for a seed disk, between the clock's first correction and the first service.
//!
//! PID 1 itself reads no disk: see [`Reader`]. The clock waits for nothing here, and the services
//! for at most [`SeedConfig::wait`] and [`super::reader::TIMEOUT`].

use std::path::Path;

use noonmark_contract::config::system::SeedConfig;
use noonmark_contract::seed::verdict::{Datasource, NO_DISK, Verdict};
use noonmark_contract::units::{Nanos, Raw};
use rustix::fd::OwnedFd;

use crate::boot::disks::block;

use super::reader::{Reader, ReaderProgress};

/// How soon disks are looked for again while one may still appear.
const LOOK_AGAIN: Nanos = Nanos::from_millis(50);

/// How often the disks are read while more of them appear.
const READS_MAX: u32 = 8;

/// The search for a seed.
#[derive(Debug)]
pub struct SeedSearch {
    stage: Stage,
    /// Until when a disk may still appear.
    until: Raw,
    /// The disks that were read last, and what came of it; none before the first time.
    read: Option<(Vec<String>, Verdict)>,
    reads: u32,
}

#[derive(Debug)]
enum Stage {
    /// Nothing is to be looked for, or all has been found.
    Done,
    /// A disk may still appear.
    Looking {
        next: Raw,
    },
    Reading(Reader),
}

/// How the search stands.
#[derive(Debug)]
#[must_use]
pub enum SearchProgress {
    /// It goes on.
    Pending,
    /// The reader was started; wait for its output too.
    ReaderStarted,
    /// It is over, in this way. Said once.
    Finished(Result<Verdict, String>),
}

impl SeedSearch {
    /// Looks for disks from `now` on, if the image wants a seed.
    #[must_use]
    pub fn new(config: &SeedConfig, now: Raw) -> Self {
        Self {
            stage: if config.enabled {
                Stage::Looking { next: now }
            } else {
                Stage::Done
            },
            until: now + config.wait,
            read: None,
            reads: 0,
        }
    }

    /// When [`SeedSearch::poll`] is to be called at the latest; none once all is over.
    #[must_use]
    pub fn deadline(&self) -> Option<Raw> {
        match &self.stage {
            Stage::Done => None,
            Stage::Looking { next } => Some(*next),
            Stage::Reading(reader) => Some(reader.deadline()),
        }
    }

    /// Where the reader's answer comes from, while there is a reader.
    #[must_use]
    pub fn output(&self) -> Option<&OwnedFd> {
        match &self.stage {
            Stage::Reading(reader) => Some(reader.output()),
            Stage::Done | Stage::Looking { .. } => None,
        }
    }

    /// Goes on as far as it can without waiting.
    pub fn poll(&mut self, now: Raw) -> SearchProgress {
        match &mut self.stage {
            Stage::Done => SearchProgress::Pending,
            Stage::Looking { next } if *next > now => SearchProgress::Pending,
            Stage::Looking { .. } => self.look(now),
            Stage::Reading(reader) => match reader.poll(now) {
                ReaderProgress::Pending => SearchProgress::Pending,
                ReaderProgress::Finished(Ok(verdict)) if is_without_disk(&verdict) => {
                    if let Some((_, before)) = &mut self.read {
                        before.clone_from(&verdict);
                    }
                    self.wait_or_finish(now, verdict)
                }
                ReaderProgress::Finished(outcome) => self.finish(outcome),
            },
        }
    }

    /// Gives up, because the machine goes down; a reader that is still at work is killed with the rest.
    pub fn cancel(&mut self) {
        self.stage = Stage::Done;
    }

    fn look(&mut self, now: Raw) -> SearchProgress {
        let devices = block::list(Path::new(block::BLOCK));
        if let Some((read, verdict)) = &self.read
            && devices == *read
        {
            let verdict = verdict.clone();
            return self.wait_or_finish(now, verdict);
        }
        self.reads += 1;
        match Reader::start(&devices, now) {
            Ok(reader) => {
                self.read = Some((devices, Verdict::default()));
                self.stage = Stage::Reading(reader);
                SearchProgress::ReaderStarted
            }
            Err(problem) => self.finish(Err(problem)),
        }
    }

    /// No disk with a seed is there: waits for one, if it may still come.
    fn wait_or_finish(&mut self, now: Raw, verdict: Verdict) -> SearchProgress {
        let may_appear = block::more_may_appear(Path::new(block::SYS));
        if now < self.until && self.reads < READS_MAX && may_appear {
            self.stage = Stage::Looking {
                next: now + LOOK_AGAIN,
            };
            return SearchProgress::Pending;
        }
        self.finish(Ok(verdict))
    }

    fn finish(&mut self, outcome: Result<Verdict, String>) -> SearchProgress {
        self.stage = Stage::Done;
        SearchProgress::Finished(outcome)
    }
}

/// Whether no disk had a part in it: there is no seed, or it is all in credentials.
fn is_without_disk(verdict: &Verdict) -> bool {
    match &verdict.seed {
        Datasource::Absent => true,
        Datasource::Found { device, .. } => device == NO_DISK,
        Datasource::Refused { .. } => false,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_image_without_seeds_looks_for_none() {
        let config = SeedConfig::default();
        let mut search = SeedSearch::new(&config, Raw(0));
        assert_eq!(search.deadline(), None);
        assert!(matches!(search.poll(Raw(0)), SearchProgress::Pending));
    }
}
