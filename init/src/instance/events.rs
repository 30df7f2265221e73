//! What is reported of a seed.

use noonmark_contract::record::{self, Event};
use noonmark_contract::seed::instance::Instance;

/// What is reported of it; nothing where there is no seed.
pub fn seed_events(seed: &record::Seed, taken: &[Instance]) -> Vec<Event> {
    let state = seed.state;
    let on = seed.device.as_deref().map(|name| format!("{name}: "));
    let on = on.unwrap_or_default();
    let event = |what: String| Event::Seed {
        state,
        what: format!("{on}{what}"),
    };
    let mut events = Vec::new();
    if let Some(problem) = &seed.problem {
        events.push(event(format!(
            "{problem}; nothing of it is applied, and the image's own configuration stands"
        )));
    }
    if !taken.is_empty() {
        let id = seed
            .instance_id
            .as_deref()
            .unwrap_or("without an instance-id");
        let files: usize = taken.iter().map(|instance| instance.files.len()).sum();
        let programs: usize = taken.iter().map(|instance| instance.services.len()).sum();
        events.push(event(format!("{id}, {files} files, {programs} programs")));
    }
    for (what, notes) in [
        ("taken", &seed.taken),
        ("ignored", &seed.ignored),
        ("refused", &seed.refused),
    ] {
        events.extend(notes.iter().map(|note| event(format!("{what} {note}"))));
    }
    events
}
