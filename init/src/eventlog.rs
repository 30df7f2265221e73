//! Events in words, for the kernel's log.

use noonmark_sync::record::{Event, SeedState};

use crate::log;

/// Writes `event` to the log, at the level that it deserves.
pub fn write(event: &Event) {
    match event {
        Event::Synced {
            source,
            method,
            offset_ns,
            bound_ns,
        } => log!(
            Notice,
            "clock set from {source} ({method:?}): off by {offset_ns}, now within {bound_ns}"
        ),
        Event::Disrupted { .. } => {}
        Event::Recovered {
            cause,
            detected_by,
            took_ns,
            residual_ns,
            ..
        } => log!(
            Notice,
            "clock repaired in {took_ns} ({cause:?}, seen by {detected_by:?}), {residual_ns} left"
        ),
        Event::Source { to, why, .. } => match to {
            Some(to) => log!(Notice, "following {to}: {why}"),
            None => log!(Warning, "no source to follow: {why}"),
        },
        Event::Alert {
            alert,
            standing,
            why,
        } => {
            if *standing {
                log!(Warning, "alert {alert:?}: {why}");
            } else {
                log!(Info, "alert {alert:?} is over: {why}");
            }
        }
        Event::Service { name, what } => log!(Info, "service {name}: {what}"),
        Event::Seed {
            state: SeedState::Refused,
            what,
        } => log!(Error, "seed: {what}"),
        Event::Seed { what, .. } => log!(Info, "seed: {what}"),
        Event::Failure { what } => log!(Error, "{what}"),
        Event::Shutdown { why } => log!(Notice, "going down: {why}"),
    }
}
