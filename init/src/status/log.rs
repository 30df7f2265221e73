//! Events on the console, by the kernel's log.

use noonmark_contract::record::{Event, SeedState};
use noonmark_linux::kmsg::{self, Level};

/// Writes `event` to the log, at the level that it deserves.
pub fn write(event: &Event) {
    let level = match event {
        // The console is slow, and the repair comes first; its own line tells of the disruption too.
        Event::Disrupted { .. } => return,
        Event::Failure { .. }
        | Event::Seed {
            state: SeedState::Refused,
            ..
        } => Level::Error,
        Event::Source { to: None, .. } | Event::Alert { standing: true, .. } => Level::Warning,
        Event::Synced { .. }
        | Event::Recovered { .. }
        | Event::Source { .. }
        | Event::Frozen { .. }
        | Event::Thawed { .. }
        | Event::Shutdown { .. } => Level::Notice,
        Event::HostRate { .. }
        | Event::Alert { .. }
        | Event::Service { .. }
        | Event::Seed { .. } => Level::Info,
    };
    kmsg::write(level, format_args!("{event}"));
}
