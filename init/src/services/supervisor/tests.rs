//! The supervisor's claims, on made-up time.

mod held;
mod notified;

use noonmark_contract::record::ServiceState;
use proptest::prelude::*;

use super::*;

const SYNCED: Clock = Clock {
    synced: true,
    doubtful: false,
    repairs: 0,
};
const DISRUPTED: Clock = Clock {
    doubtful: true,
    ..SYNCED
};
const REPAIRED: Clock = Clock {
    repairs: 1,
    ..SYNCED
};

fn service(name: &str, change: impl FnOnce(&mut Service)) -> Service {
    let mut service = Service::new(name, vec!["/x".into()]);
    change(&mut service);
    service
}

fn at(ms: i64) -> Raw {
    Raw(0) + Nanos::from_millis(ms)
}

fn exit(code: i32) -> Exit {
    Exit {
        clean: code == 0,
        how: format!("exited {code}"),
    }
}

/// Runs what is due, starting whatever is to be started; gives the other actions.
fn due(supervisor: &mut Supervisor, ms: i64) -> Vec<Action> {
    let mut actions = Vec::new();
    supervisor.due(at(ms), &mut actions);
    let starts: Vec<Id> = actions
        .iter()
        .filter_map(|action| match action {
            Action::Start(id) => Some(*id),
            _ => None,
        })
        .collect();
    for id in starts {
        supervisor.started(id, 100 + id.0 as u32, at(ms), &mut Vec::new());
    }
    actions
}

fn states(supervisor: &Supervisor) -> Vec<ServiceState> {
    supervisor.status().map(|status| status.state).collect()
}

fn set_clock(supervisor: &mut Supervisor, clock: Clock) -> Vec<Action> {
    let mut actions = Vec::new();
    supervisor.set_clock(clock, at(0), &mut actions);
    actions
}

fn end(supervisor: &mut Supervisor, place: usize, code: i32, ms: i64) {
    supervisor.ended(Id(place), exit(code), at(ms), &mut Vec::new());
}

#[test]
fn a_service_waits_for_the_clock_unless_it_starts_at_boot() {
    let early = service("early", |s| s.start = Start::Boot);
    let mut supervisor = Supervisor::new(vec![service("late", |_| {}), early], at(0));
    assert_eq!(due(&mut supervisor, 0), [Action::Start(Id(1))]);
    assert_eq!(due(&mut supervisor, 1_000_000), []);
    set_clock(&mut supervisor, SYNCED);
    assert_eq!(due(&mut supervisor, 1_000_001), [Action::Start(Id(0))]);
}

#[test]
fn nothing_that_needs_the_clock_starts_while_it_is_wrong() {
    let mut supervisor = Supervisor::new(vec![service("a", |_| {})], at(0));
    set_clock(&mut supervisor, DISRUPTED);
    assert_eq!(due(&mut supervisor, 5), []);
    set_clock(&mut supervisor, SYNCED);
    assert_eq!(due(&mut supervisor, 6), [Action::Start(Id(0))]);
}

#[test]
fn a_wait_for_the_clock_ends_as_its_service_says() {
    let fails = service("fails", |s| s.start_timeout_s = Some(2));
    let starts = service("starts", |s| {
        s.start_timeout_s = Some(2);
        s.on_start_timeout = OnStartTimeout::Start;
    });
    let mut supervisor = Supervisor::new(vec![fails, starts], at(0));
    assert_eq!(supervisor.wake_at(), Some(at(2_000)));
    assert_eq!(due(&mut supervisor, 1_999), []);
    let actions = due(&mut supervisor, 2_000);
    assert!(matches!(&actions[0], Action::Report(Id(0), why) if why.contains("within 2 s")));
    assert_eq!(actions[1], Action::Start(Id(1)));
    set_clock(&mut supervisor, SYNCED);
    assert_eq!(due(&mut supervisor, 2_001), []);
    assert_eq!(
        states(&supervisor),
        [ServiceState::Failed, ServiceState::Running]
    );
}

#[test]
fn many_services_are_started_one_at_a_time() {
    let many = (0..200).map(|n| service(&n.to_string(), |s| s.start = Start::Boot));
    let mut supervisor = Supervisor::new(many.collect(), at(0));
    for place in 0..200 {
        assert_eq!(supervisor.wake_at(), Some(at(0)));
        assert_eq!(due(&mut supervisor, 1), [Action::Start(Id(place))]);
    }
    assert_eq!(supervisor.wake_at(), None);
}

#[test]
fn each_end_in_a_row_doubles_the_wait_up_to_a_bound_and_a_long_run_ends_the_row() {
    let crashing = service("a", |s| {
        s.start = Start::Boot;
        s.restart = Restart::OnFailure;
    });
    let mut supervisor = Supervisor::new(vec![crashing], at(0));
    let mut now = 0;
    let mut waits = Vec::new();
    for _ in 0..11 {
        due(&mut supervisor, now);
        end(&mut supervisor, 0, 1, now);
        let until = supervisor.wake_at().unwrap();
        waits.push((until - at(now)).0 / 1_000_000);
        now = (until - at(0)).0 / 1_000_000;
    }
    assert_eq!(
        waits,
        [
            100, 200, 400, 800, 1_600, 3_200, 6_400, 12_800, 25_600, 30_000, 30_000
        ]
    );
    due(&mut supervisor, now);
    end(&mut supervisor, 0, 1, now + 10_000);
    assert_eq!(supervisor.wake_at(), Some(at(now + 10_100)));
    due(&mut supervisor, now + 10_100);
    end(&mut supervisor, 0, 0, now + 10_101);
    assert_eq!(states(&supervisor), [ServiceState::Stopped]);
    assert_eq!(supervisor.status().next().unwrap().restarts, 12);
}

#[test]
fn a_failure_that_is_not_retried_stays_visible() {
    let once = service("a", |s| s.start = Start::Boot);
    let mut supervisor = Supervisor::new(vec![once], at(0));
    due(&mut supervisor, 0);
    end(&mut supervisor, 0, 3, 1);
    let status = supervisor.status().next().unwrap();
    assert_eq!(status.state, ServiceState::Failed);
    assert_eq!(status.last_exit.as_deref(), Some("exited 3"));
    assert_eq!(supervisor.wake_at(), None);
}

fn freezes() -> Service {
    service("f", |s| s.on_disruption = OnDisruption::Freeze)
}

fn signalled() -> Service {
    service("s", |s| {
        s.on_disruption = OnDisruption::Signal(ServiceSignal::Hup);
    })
}

/// All of them, started once the clock was right, which by itself asks nothing of anybody.
fn running(services: Vec<Service>) -> Supervisor {
    let count = services.len();
    let mut supervisor = Supervisor::new(services, at(0));
    assert_eq!(set_clock(&mut supervisor, SYNCED), []);
    for _ in 0..count {
        due(&mut supervisor, 1);
    }
    supervisor
}

#[test]
fn a_disruption_freezes_until_the_clock_is_right_and_signals_after_it() {
    let mut supervisor = running(vec![freezes(), signalled(), service("k", |_| {})]);
    assert_eq!(
        set_clock(&mut supervisor, DISRUPTED),
        [Action::Freeze(Id(0))]
    );
    assert_eq!(states(&supervisor)[0], ServiceState::Frozen);
    assert_eq!(set_clock(&mut supervisor, DISRUPTED), []);
    assert_eq!(
        set_clock(&mut supervisor, REPAIRED),
        [
            Action::Thaw(Id(0)),
            Action::Signal(Id(1), ServiceSignal::Hup)
        ]
    );
}

#[test]
fn a_repair_that_was_over_before_anybody_looked_signals_all_the_same() {
    let mut supervisor = running(vec![freezes(), signalled()]);
    let hangup = Action::Signal(Id(1), ServiceSignal::Hup);
    assert_eq!(set_clock(&mut supervisor, REPAIRED), [hangup]);
    assert_eq!(set_clock(&mut supervisor, REPAIRED), []);
}

#[test]
fn a_doubt_that_comes_to_nothing_thaws_and_signals_nobody() {
    let mut supervisor = running(vec![freezes(), signalled()]);
    set_clock(&mut supervisor, DISRUPTED);
    assert_eq!(set_clock(&mut supervisor, SYNCED), [Action::Thaw(Id(0))]);
}

#[test]
fn services_are_stopped_last_first_each_within_its_grace() {
    let named = |name: &str, grace_s| {
        service(name, |s| {
            s.start = Start::Boot;
            s.stop_timeout_s = grace_s;
        })
    };
    let mut supervisor = Supervisor::new(vec![named("a", 1), named("b", 2)], at(0));
    due(&mut supervisor, 0);
    due(&mut supervisor, 0);
    // A second each for what must be killed.
    assert_eq!(supervisor.stop(), Nanos::from_secs(1 + 1 + 2 + 1));
    assert!(!supervisor.is_down());
    assert_eq!(due(&mut supervisor, 10), [Action::Terminate(Id(1))]);
    assert_eq!(supervisor.wake_at(), Some(at(2_010)));
    end(&mut supervisor, 1, 143, 20);
    assert_eq!(states(&supervisor)[1], ServiceState::Stopped);
    assert_eq!(due(&mut supervisor, 20), [Action::Terminate(Id(0))]);
    assert_eq!(due(&mut supervisor, 1_019), []);
    let actions = due(&mut supervisor, 1_020);
    assert!(matches!(&actions[0], Action::Report(Id(0), what) if what.contains("within 1 s")));
    assert_eq!(actions[1], Action::Kill(Id(0)));
    end(&mut supervisor, 0, 137, 1_021);
    due(&mut supervisor, 1_021);
    assert!(supervisor.is_down());
}

#[test]
fn a_process_that_not_even_sigkill_ends_does_not_keep_the_machine_up() {
    let stuck = service("a", |s| {
        s.start = Start::Boot;
        s.stop_timeout_s = 0;
    });
    let mut supervisor = Supervisor::new(vec![stuck], at(0));
    due(&mut supervisor, 0);
    supervisor.stop();
    due(&mut supervisor, 1);
    due(&mut supervisor, 2);
    due(&mut supervisor, 1_002);
    assert!(supervisor.is_down());
}

#[test]
fn a_frozen_service_is_thawed_to_be_stopped() {
    let freezes = service("f", |s| s.on_disruption = OnDisruption::Freeze);
    let mut supervisor = Supervisor::new(vec![freezes], at(0));
    set_clock(&mut supervisor, SYNCED);
    due(&mut supervisor, 0);
    set_clock(&mut supervisor, DISRUPTED);
    supervisor.stop();
    assert_eq!(
        due(&mut supervisor, 1),
        [Action::Thaw(Id(0)), Action::Terminate(Id(0))]
    );
}

#[derive(Clone, Debug)]
enum Happening {
    Clock(bool, bool),
    Due,
    Ends(usize, i32),
    Stop,
}

fn happening() -> impl Strategy<Value = Happening> {
    prop_oneof![
        4 => (any::<bool>(), any::<bool>()).prop_map(|(s, d)| Happening::Clock(s, d)),
        8 => Just(Happening::Due),
        6 => (0usize..4, 0i32..2).prop_map(|(id, code)| Happening::Ends(id, code)),
        1 => Just(Happening::Stop),
    ]
}

proptest! {
    /// Whatever happens: no gated service starts with a wrong clock, what is frozen is running,
    /// and a stop comes to its end.
    #[test]
    fn no_order_of_events_breaks_a_promise(
        events in prop::collection::vec((happening(), 0i64..5_000), 0..120),
    ) {
        let services = vec![
            service("a", |s| s.on_disruption = OnDisruption::Freeze),
            service("b", |s| { s.start = Start::Boot; s.restart = Restart::Always; }),
            service("c", |s| s.restart = Restart::OnFailure),
            service("d", |s| s.start_timeout_s = Some(3)),
        ];
        let mut supervisor = Supervisor::new(services, at(0));
        let (mut now, mut clock) = (0, Clock::default());
        for (event, wait_ms) in events {
            now += wait_ms;
            match event {
                Happening::Clock(synced, doubtful) => {
                    let repairs = clock.repairs + u64::from(clock.doubtful && !doubtful);
                    clock = Clock { synced: synced || clock.synced, doubtful, repairs };
                    set_clock(&mut supervisor, clock);
                }
                Happening::Due => {
                    for action in due(&mut supervisor, now) {
                        if let Action::Start(id) = action {
                            prop_assert!(supervisor.stopping.is_none());
                            let gated = supervisor.service(id).start == Start::ClockSynced;
                            let first = supervisor.entries[id.0].restarts == 0;
                            prop_assert!(!gated || !first || (clock.synced && !clock.doubtful));
                        }
                    }
                }
                Happening::Ends(place, code) if supervisor.process(Id(place)).is_some() => {
                    end(&mut supervisor, place, code, now);
                }
                Happening::Ends(..) => {}
                Happening::Stop => {
                    supervisor.stop();
                }
            }
        }
        supervisor.stop();
        for _ in 0..20 {
            now += 11_000;
            due(&mut supervisor, now);
        }
        prop_assert!(supervisor.is_down());
    }
}

#[test]
fn a_service_after_another_waits_for_its_end_for_good_however_that_is() {
    let named = |name: &str, after: Option<&str>, restart| {
        service(name, |s| {
            s.start = Start::Boot;
            s.after = after.map(Into::into);
            s.restart = restart;
        })
    };
    let services = vec![
        named("first", None, Restart::OnFailure),
        named("second", Some("first"), Restart::No),
        named("third", Some("second"), Restart::No),
    ];
    let mut supervisor = Supervisor::new(services, at(0));
    assert_eq!(due(&mut supervisor, 0), [Action::Start(Id(0))]);
    assert_eq!(due(&mut supervisor, 10), []);
    assert_eq!(supervisor.wake_at(), None);
    // It is started again, so it has not ended for good.
    end(&mut supervisor, 0, 1, 20);
    assert_eq!(due(&mut supervisor, 1_000), [Action::Start(Id(0))]);
    assert_eq!(due(&mut supervisor, 1_010), []);
    end(&mut supervisor, 0, 0, 1_020);
    assert!(supervisor.wake_at().is_some());
    assert_eq!(due(&mut supervisor, 1_030), [Action::Start(Id(1))]);
    assert_eq!(due(&mut supervisor, 1_040), []);
    end(&mut supervisor, 1, 7, 1_050);
    assert_eq!(due(&mut supervisor, 1_060), [Action::Start(Id(2))]);
}
