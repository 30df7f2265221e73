//! What PID 1's own helpers find as their standard input: their way to PID 1, or to what they may write,
//! which nobody else can take by a name.

use std::os::fd::{AsFd as _, BorrowedFd, OwnedFd};

/// Descriptors that are kept for services, for each time that they are started.
#[derive(Debug, Default)]
pub struct Inputs(Vec<(&'static str, OwnedFd)>);

impl Inputs {
    /// Keeps one for the service of this name.
    pub fn give(&mut self, service: &'static str, input: OwnedFd) {
        self.0.push((service, input));
    }

    /// What is kept for this service.
    #[must_use]
    pub fn of(&self, service: &str) -> Option<BorrowedFd<'_>> {
        let mut kept = self.0.iter();
        let (_, input) = kept.find(|(name, _)| *name == service)?;
        Some(input.as_fd())
    }
}
