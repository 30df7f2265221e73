//! A service and what it is doing.

use noonmark_contract::config::{Ready, Service};
use noonmark_contract::record::ServiceState;
use noonmark_contract::units::Raw;

use super::health::Health;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Phase {
    Waiting,
    Starting,
    Running { pid: u32, since: Raw, frozen: bool },
    Backoff { until: Raw },
    Ending { pid: u32, until: Raw, killed: bool },
    Stopped,
    Failed,
}

#[derive(Debug)]
pub struct Entry {
    pub service: Service,
    pub phase: Phase,
    pub health: Health,
    pub notifications_refused: u64,
    /// The place of the service that must be ready, or have ended, first.
    pub after: Option<usize>,
    /// Ends in a row, each of a short run.
    pub row: u32,
    pub restarts: u64,
    pub last_exit: Option<String>,
}

impl Phase {
    pub fn pid(self) -> Option<u32> {
        match self {
            Self::Running { pid, .. } | Self::Ending { pid, .. } => Some(pid),
            _ => None,
        }
    }
}

impl Entry {
    pub fn state(&self) -> ServiceState {
        match self.phase {
            Phase::Waiting | Phase::Starting => ServiceState::Waiting,
            Phase::Running { frozen: true, .. } => ServiceState::Frozen,
            Phase::Running { .. } if !self.health.ready => ServiceState::Starting,
            Phase::Running { .. } | Phase::Ending { .. } => ServiceState::Running,
            Phase::Backoff { .. } => ServiceState::Backoff,
            Phase::Stopped => ServiceState::Stopped,
            Phase::Failed => ServiceState::Failed,
        }
    }

    /// Whether a service that comes after this one may start.
    pub fn lets_others_start(&self) -> bool {
        let notifies = self.service.ready == Ready::Notify;
        match self.phase {
            Phase::Running { .. } => notifies && self.health.ready,
            Phase::Stopped | Phase::Failed => true,
            _ => false,
        }
    }
}
