//! What a service has said of itself since it was started, and by when it has to say more.

use noonmark_contract::config::{Ready, Service};
use noonmark_contract::units::{Nanos, Raw};

use crate::services::notify::message::Message;

/// How a service that runs is doing, by its own words.
#[derive(Debug, Default)]
pub struct Health {
    /// It is ready, or doesn't say when it is.
    pub ready: bool,
    /// What it says in words.
    pub status: Option<String>,
    stopping: bool,
    /// Until when it has to say what is expected of it.
    until: Option<Raw>,
    /// What it failed to do in time, for which it was killed.
    failed: Option<String>,
}

impl Health {
    /// It was just started.
    pub fn new(service: &Service, now: Raw) -> Self {
        let mut health = Self {
            ready: service.ready == Ready::Started,
            ..Self::default()
        };
        health.renew(service, now);
        health
    }

    /// All that it is waited for begins anew.
    pub fn renew(&mut self, service: &Service, now: Raw) {
        let expected = self.expected(service).filter(|_| self.failed.is_none());
        self.until = expected.map(|(_, within_s)| now + Nanos::from_secs(within_s.into()));
    }

    /// What is expected of it next, and within how many seconds.
    fn expected(&self, service: &Service) -> Option<(&'static str, u32)> {
        if self.stopping {
            return Some(("did not end after STOPPING=1", service.stop_timeout_s));
        }
        if !self.ready {
            return Some(("no READY=1", service.ready_timeout_s));
        }
        Some(("no WATCHDOG=1", service.watchdog_s?))
    }

    /// Takes in what it says; gives what of that is news.
    pub fn hear(&mut self, message: Message, service: &Service, now: Raw) -> Option<&'static str> {
        self.status = message.status.or(self.status.take());
        let news = if message.stopping && !self.stopping {
            self.stopping = true;
            Some("stops by itself")
        } else if message.ready && !self.ready {
            self.ready = true;
            Some("is ready")
        } else {
            None
        };
        if news.is_some() || (message.alive && self.ready && !self.stopping) {
            self.renew(service, now);
        }
        if let (Some(until), Some(extension)) = (self.until, message.extension) {
            self.until = Some(until.max(now + extension));
        }
        news
    }

    /// Until when it is waited for.
    #[must_use]
    pub fn until(&self) -> Option<Raw> {
        self.until
    }

    /// What it failed to do until now, told once.
    pub fn fail(&mut self, service: &Service, now: Raw) -> Option<String> {
        self.until.take_if(|until| *until <= now)?;
        let (what, within_s) = self.expected(service)?;
        let failed = format!("{what} within {within_s} s");
        self.failed = Some(failed.clone());
        Some(failed)
    }

    /// What makes its end a failure, whatever it exited with.
    #[must_use]
    pub fn fault(&mut self) -> Option<String> {
        let early = (!self.ready).then(|| "no READY=1 before it".to_owned());
        self.failed.take().or(early)
    }
}
