//! What becomes of services while the guest is frozen for a snapshot.

use super::*;

fn hold(supervisor: &mut Supervisor, held: bool, ms: i64) -> Vec<Action> {
    let mut actions = Vec::new();
    supervisor.hold(held, at(ms), &mut actions);
    actions
}

#[test]
fn each_stands_still_unless_it_chose_otherwise_whatever_the_clock_does_meanwhile() {
    let told = service("told", |s| {
        s.on_freeze = OnDisruption::Signal(ServiceSignal::Usr1);
    });
    let kept = service("kept", |s| s.on_freeze = OnDisruption::Keep);
    let mut supervisor = running(vec![freezes(), service("plain", |_| {}), told, kept]);
    let signal = Action::Signal(Id(2), ServiceSignal::Usr1);
    let expected = [signal, Action::Freeze(Id(0)), Action::Freeze(Id(1))];
    assert_eq!(hold(&mut supervisor, true, 10), expected);
    assert_eq!(hold(&mut supervisor, true, 10), []);
    assert_eq!(supervisor.frozen().collect::<Vec<_>>(), [Id(0), Id(1)]);
    // Its own freeze begins and ends within this one.
    assert_eq!(set_clock(&mut supervisor, DISRUPTED), []);
    assert_eq!(set_clock(&mut supervisor, REPAIRED), []);
    set_clock(&mut supervisor, DISRUPTED);
    // Or it lasts longer.
    assert_eq!(hold(&mut supervisor, false, 20), [Action::Thaw(Id(1))]);
    let repaired = Clock {
        repairs: 2,
        ..SYNCED
    };
    assert_eq!(set_clock(&mut supervisor, repaired), [Action::Thaw(Id(0))]);
}

#[test]
fn nothing_is_started_or_found_overdue_meanwhile_but_what_runs_on() {
    let again = |s: &mut Service| s.restart = Restart::Always;
    let kept = service("kept", |s| {
        again(s);
        s.on_freeze = OnDisruption::Keep;
    });
    let watched = service("watched", |s| s.watchdog_s = Some(1));
    let mut supervisor = running(vec![service("plain", again), kept, watched]);
    hold(&mut supervisor, true, 10);
    for id in [Id(0), Id(1)] {
        supervisor.ended(id, exit(0), at(20), &mut Vec::new());
    }
    assert_eq!(due(&mut supervisor, 30_000), [Action::Start(Id(1))]);
    assert_eq!(supervisor.wake_at(), None);
    hold(&mut supervisor, false, 40_000);
    // The watchdog's time begins anew.
    assert_eq!(due(&mut supervisor, 40_000), [Action::Start(Id(0))]);
    assert!(!due(&mut supervisor, 41_001).is_empty());
}

#[test]
fn a_service_without_what_it_is_for_waits_until_that_is_there() {
    let early = service("early", |s| s.start = Start::Boot);
    let mut supervisor = Supervisor::new(vec![early], at(0));
    supervisor.set_absent(Id(0), true);
    assert_eq!(due(&mut supervisor, 0), []);
    assert_eq!(supervisor.wake_at(), None);
    supervisor.set_absent(Id(0), false);
    assert_eq!(due(&mut supervisor, 1), [Action::Start(Id(0))]);
}
