//! The data disks of the configuration: waited for before the first service, and what came of each.

pub mod block;
pub mod mounting;
pub mod superblock;

use std::sync::Arc;

use mounting::Outcomes;
use noonmark_contract::config::system::DataDisk;
use noonmark_contract::record::{DiskState, DiskStatus};
use noonmark_contract::units::{Nanos, Raw};

use crate::helper;

/// How long mounting may take beyond the wait for a disk, e.g. to replay a journal: what systemd
/// gives a mount unit.
const MOUNTING: Nanos = Nanos::from_secs(90);

/// How soon the loop looks again at what the thread has done. It does so during boot alone.
const LOOK_AGAIN: Nanos = Nanos::from_millis(10);

/// The data disks, and how far each is.
#[derive(Debug, Default)]
pub struct DataDisks {
    required: Vec<bool>,
    status: Vec<DiskStatus>,
    /// The thread's outcomes, until all disks are done.
    outcomes: Option<Arc<Outcomes>>,
    next: Raw,
    deadline: Raw,
}

impl DataDisks {
    /// Starts to look for them.
    #[must_use]
    pub fn begin(disks: Vec<DataDisk>, now: Raw) -> Self {
        let longest = disks.iter().map(|disk| disk.wait).max();
        let status = |disk| mounting::status(disk, DiskState::Waiting);
        let mut disks_begun = Self {
            required: disks.iter().map(|disk| disk.required).collect(),
            status: disks.iter().map(status).collect(),
            outcomes: None,
            next: now,
            deadline: now + longest.unwrap_or_default() + MOUNTING,
        };
        if disks.is_empty() {
            return disks_begun;
        }
        let outcomes = Arc::new(Outcomes::default());
        let own = Arc::clone(&outcomes);
        let started = helper::start(Box::new(move || mounting::run(&disks, now, &own)));
        match started {
            Ok(()) => disks_begun.outcomes = Some(outcomes),
            Err(error) => disks_begun.give_up(&format!("no thread to mount it: {error}")),
        }
        disks_begun
    }

    /// When [`DataDisks::proceed`] is to be called at the latest; none once all is over.
    #[must_use]
    pub fn deadline(&self) -> Option<Raw> {
        self.outcomes.as_ref().map(|_| self.next)
    }

    /// Takes in what has come of them; true once nothing more is to come.
    pub fn proceed(&mut self, now: Raw) -> bool {
        let Some(outcomes) = &self.outcomes else {
            return true;
        };
        // The thread may be at it, and is not waited for.
        if let Ok(mut outcomes) = outcomes.try_lock() {
            for (place, status) in outcomes.drain(..) {
                if let Some(entry) = self.status.get_mut(place) {
                    *entry = status;
                }
            }
        }
        let waits = |status: &DiskStatus| status.state == DiskState::Waiting;
        if now >= self.deadline {
            self.give_up("it was not mounted in time: the disk does not answer");
        }
        if !self.status.iter().any(waits) {
            self.outcomes = None;
            return true;
        }
        self.next = now + LOOK_AGAIN;
        false
    }

    /// Each one's part of the status record.
    #[must_use]
    pub fn status(&self) -> &[DiskStatus] {
        &self.status
    }

    /// Those that are not mounted: whether the guest needs it, and why it is not.
    pub fn missing(&self) -> impl Iterator<Item = (bool, String)> {
        let pairs = self.required.iter().zip(&self.status);
        pairs
            .filter(|(_, status)| status.state != DiskState::Mounted)
            .map(|(required, status)| (*required, describe(status)))
    }

    fn give_up(&mut self, why: &str) {
        for status in &mut self.status {
            if status.state == DiskState::Waiting {
                status.state = DiskState::Failed;
                status.problem = Some(why.to_owned());
            }
        }
        self.outcomes = None;
    }
}

/// A disk for a report: which, where, and what is wrong with it.
#[must_use]
pub fn describe(status: &DiskStatus) -> String {
    let DiskStatus { label, path, .. } = status;
    let device = status.device.as_deref().unwrap_or("no device");
    let problem = status.problem.as_deref().unwrap_or("all is well");
    format!("data disk `{label}` for {path} ({device}): {problem}")
}

#[cfg(test)]
mod tests {
    use std::thread;
    use std::time::{Duration, Instant};

    use noonmark_contract::config::system::FileSystem;
    use noonmark_linux::clocks;

    use super::*;

    fn disk(required: bool) -> DataDisk {
        DataDisk {
            label: "noonmark-none".parse().unwrap(),
            path: "/nowhere".parse().unwrap(),
            kind: FileSystem::Ext4,
            read_only: true,
            exec: false,
            required,
            wait: Nanos(0),
        }
    }

    #[test]
    fn an_image_without_data_disks_waits_for_none() {
        let mut disks = DataDisks::begin(Vec::new(), Raw(0));
        assert_eq!(disks.deadline(), None);
        assert!(disks.proceed(Raw(0)));
        assert_eq!(disks.missing().count(), 0);
    }

    #[test]
    fn disks_that_are_not_there_are_told_each_with_its_weight() {
        let mut disks = DataDisks::begin(vec![disk(true), disk(false)], clocks::raw());
        let until = Instant::now() + Duration::from_secs(60);
        while !disks.proceed(clocks::raw()) {
            assert!(Instant::now() < until, "it never ends");
            thread::sleep(Duration::from_millis(1));
        }
        assert_eq!(disks.deadline(), None);
        let missing: Vec<_> = disks.missing().collect();
        assert_eq!([missing[0].0, missing[1].0], [true, false]);
        assert!(missing[0].1.contains("no disk is labelled `noonmark-none`"));
    }

    #[test]
    fn a_disk_that_never_answers_is_given_up() {
        let mut disks = DataDisks {
            required: vec![true],
            status: vec![mounting::status(&disk(true), DiskState::Waiting)],
            outcomes: Some(Arc::default()),
            next: Raw(0),
            deadline: Raw(1_000),
        };
        assert!(!disks.proceed(Raw(999)));
        assert!(disks.proceed(Raw(1_000)));
        let (_, why) = disks.missing().next().unwrap();
        assert!(why.contains("does not answer"), "{why}");
    }
}
