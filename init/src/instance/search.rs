//! What is done between the clock's first correction and the first service: disks are looked
//! through for a seed, and what it says is put in the place of the image's settings.
//!
//! PID 1 itself reads none of it: see [`Reader`]. The clock waits for nothing here, and the services
//! for at most [`SeedConfig::wait`] and [`super::reader::LONGEST`].

use std::path::Path;

use noonmark_contract::config::system::SeedConfig;
use noonmark_contract::seed::verdict::{Seed, Verdict};
use noonmark_contract::units::{Nanos, Raw};
use rustix::fd::OwnedFd;

use crate::boot::disks::block;

use super::reader::{Progress, Reader};

/// How soon disks are looked for again while one may still appear.
const LOOK_AGAIN: Nanos = Nanos::from_millis(50);

/// How often the disks are read while more of them appear.
const READS_MAX: u32 = 8;

/// The search for a seed.
#[derive(Debug)]
pub struct Setup {
    stage: Stage,
    /// Until when a disk may still appear.
    until: Raw,
    /// The disks that were read last.
    read: Vec<String>,
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
pub enum Found {
    /// It goes on.
    NotYet,
    /// The reader was started; wait for its output too.
    Started,
    /// It is over, in this way. Said once.
    Over(Result<Verdict, String>),
}

impl Setup {
    /// Looks for disks from `now` on, if the image wants a seed.
    #[must_use]
    pub fn begin(config: &SeedConfig, now: Raw) -> Self {
        Self {
            stage: if config.enabled {
                Stage::Looking { next: now }
            } else {
                Stage::Done
            },
            until: now + config.wait,
            read: Vec::new(),
            reads: 0,
        }
    }

    /// When [`Setup::proceed`] is to be called at the latest; none once all is over.
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
    pub fn proceed(&mut self, now: Raw) -> Found {
        match &mut self.stage {
            Stage::Done => Found::NotYet,
            Stage::Looking { next } if *next > now => Found::NotYet,
            Stage::Looking { .. } => self.look(now),
            Stage::Reading(reader) => match reader.proceed(now) {
                Progress::Reading => Found::NotYet,
                Progress::Over(Ok(verdict)) if verdict.seed == Seed::Absent => {
                    self.wait_or_end(now, verdict)
                }
                Progress::Over(outcome) => self.end(outcome),
            },
        }
    }

    /// Gives up: the machine goes down, and whoever still reads goes with it.
    pub fn abandon(&mut self) {
        self.stage = Stage::Done;
    }

    fn look(&mut self, now: Raw) -> Found {
        let devices = block::list(Path::new(block::BLOCK));
        if devices == self.read {
            return self.wait_or_end(now, Verdict::default());
        }
        self.reads += 1;
        match Reader::start(&devices, now) {
            Ok(reader) => {
                self.read = devices;
                self.stage = Stage::Reading(reader);
                Found::Started
            }
            Err(problem) => self.end(Err(problem)),
        }
    }

    /// No seed is there: waits for one, if it may still come.
    fn wait_or_end(&mut self, now: Raw, verdict: Verdict) -> Found {
        let may_appear = block::more_may_appear(Path::new(block::SYS));
        if now < self.until && self.reads < READS_MAX && may_appear {
            self.stage = Stage::Looking {
                next: now + LOOK_AGAIN,
            };
            return Found::NotYet;
        }
        self.end(Ok(verdict))
    }

    fn end(&mut self, outcome: Result<Verdict, String>) -> Found {
        self.stage = Stage::Done;
        Found::Over(outcome)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_image_without_seeds_looks_for_none() {
        let config = SeedConfig::default();
        let mut setup = Setup::begin(&config, Raw(0));
        assert_eq!(setup.deadline(), None);
        assert!(matches!(setup.proceed(Raw(0)), Found::NotYet));
    }
}
