//! What services say of themselves, and what follows from that or from their silence.

use noonmark_contract::config::Ready;

use super::*;

fn said(text: &str) -> Option<Message> {
    Message::parse(text.as_bytes())
}

fn hear(supervisor: &mut Supervisor, place: usize, text: &str, ms: i64) -> Vec<Action> {
    let mut actions = Vec::new();
    supervisor.hear(Id(place), said(text), at(ms), &mut actions);
    actions
}

fn notifies(change: impl FnOnce(&mut Service)) -> Service {
    service("n", |s| {
        s.start = Start::Boot;
        s.ready = Ready::Notify;
        change(s);
    })
}

/// The one that is due to be killed, and why.
fn killed(actions: &[Action]) -> &str {
    match actions {
        [Action::Report(id, why), Action::Kill(killed), ..] if id == killed => why,
        other => panic!("nobody is killed: {other:?}"),
    }
}

#[test]
fn what_comes_after_a_service_that_notifies_waits_until_that_is_ready() {
    let second = service("b", |s| {
        s.start = Start::Boot;
        s.after = Some("n".into());
    });
    let mut supervisor = Supervisor::new(vec![notifies(|_| {}), second], at(0));
    assert_eq!(due(&mut supervisor, 0), [Action::Start(Id(0))]);
    assert_eq!(states(&supervisor)[0], ServiceState::Starting);
    assert_eq!(hear(&mut supervisor, 0, "STATUS=soon", 10), []);
    assert_eq!(due(&mut supervisor, 10), []);
    assert_eq!(hear(&mut supervisor, 0, "READY=1\nSTATUS=up", 20).len(), 1);
    assert_eq!(hear(&mut supervisor, 0, "READY=1", 20), []);
    assert_eq!(due(&mut supervisor, 20), [Action::Start(Id(1))]);
    let status = supervisor.status().next().unwrap();
    assert_eq!(status.state, ServiceState::Running);
    assert_eq!(status.status_text.as_deref(), Some("up"));
    // 90 s that are over no longer matter.
    assert_eq!(due(&mut supervisor, 100_000), []);
}

#[test]
fn a_service_that_is_not_ready_in_time_is_killed_and_restarted_by_its_policy() {
    let late = notifies(|s| s.restart = Restart::OnFailure);
    let mut supervisor = Supervisor::new(vec![late], at(0));
    due(&mut supervisor, 0);
    assert_eq!(supervisor.wake_at(), Some(at(90_000)));
    hear(&mut supervisor, 0, "EXTEND_TIMEOUT_USEC=20000000", 80_000);
    assert_eq!(due(&mut supervisor, 99_999), []);
    let actions = due(&mut supervisor, 100_000);
    assert!(killed(&actions).contains("no READY=1 within 90 s"));
    // Told and killed once.
    assert_eq!(due(&mut supervisor, 100_001), []);
    end(&mut supervisor, 0, 137, 100_002);
    let status = supervisor.status().next().unwrap();
    assert_eq!(status.state, ServiceState::Backoff);
    let how = status.last_exit.unwrap();
    assert_eq!(how, "exited 137 (no READY=1 within 90 s)");
    due(&mut supervisor, 100_200);
    assert_eq!(states(&supervisor), [ServiceState::Starting]);
}

#[test]
fn an_end_before_readiness_is_a_failure_whatever_it_exits_with() {
    let mut supervisor = Supervisor::new(vec![notifies(|_| {})], at(0));
    due(&mut supervisor, 0);
    end(&mut supervisor, 0, 0, 1);
    assert_eq!(states(&supervisor), [ServiceState::Failed]);
}

#[test]
fn a_watchdog_that_is_not_heard_in_time_kills() {
    let watched = service("a", |s| {
        s.start = Start::Boot;
        s.watchdog_s = Some(2);
    });
    let mut supervisor = Supervisor::new(vec![watched], at(0));
    due(&mut supervisor, 0);
    assert_eq!(states(&supervisor), [ServiceState::Running]);
    hear(&mut supervisor, 0, "WATCHDOG=1", 1_500);
    // What doesn't count changes nothing but the count.
    supervisor.hear(Id(0), None, at(3_000), &mut Vec::new());
    assert_eq!(due(&mut supervisor, 3_499), []);
    assert_eq!(supervisor.wake_at(), Some(at(3_500)));
    let actions = due(&mut supervisor, 3_500);
    assert!(killed(&actions).contains("no WATCHDOG=1 within 2 s"));
    assert_eq!(supervisor.status().next().unwrap().notifications_refused, 1);
}

#[test]
fn a_machine_that_was_away_is_not_taken_for_a_service_that_hangs() {
    let watched = service("a", |s| s.watchdog_s = Some(2));
    let mut supervisor = running(vec![watched]);
    let set = |supervisor: &mut Supervisor, clock, ms| {
        supervisor.set_clock(clock, at(ms), &mut Vec::new());
    };
    set(&mut supervisor, DISRUPTED, 60_000);
    assert_eq!(due(&mut supervisor, 60_000), []);
    assert_eq!(supervisor.wake_at(), None);
    set(&mut supervisor, REPAIRED, 60_010);
    assert_eq!(due(&mut supervisor, 60_010), []);
    assert_eq!(supervisor.wake_at(), Some(at(62_010)));
    // A repair that was over before anybody looked.
    let again = Clock {
        repairs: 2,
        ..SYNCED
    };
    set(&mut supervisor, again, 90_000);
    assert_eq!(due(&mut supervisor, 90_000), []);
    killed(&due(&mut supervisor, 92_000));
}

#[test]
fn a_service_that_stops_by_itself_has_as_long_as_one_that_is_stopped() {
    let stops = notifies(|s| {
        s.watchdog_s = Some(1);
        s.stop_timeout_s = 5;
    });
    let mut supervisor = Supervisor::new(vec![stops], at(0));
    due(&mut supervisor, 0);
    hear(&mut supervisor, 0, "READY=1", 10);
    hear(&mut supervisor, 0, "STOPPING=1", 100);
    hear(&mut supervisor, 0, "WATCHDOG=1\nSTOPPING=1", 4_000);
    assert_eq!(due(&mut supervisor, 5_099), []);
    let actions = due(&mut supervisor, 5_100);
    assert!(killed(&actions).contains("did not end after STOPPING=1"));
}
