//! What the ladder promises.

use noonmark_contract::units::Utc;

use super::*;

fn ladder() -> Ladder {
    Ladder::new(&[Source::Kvm, Source::Host, Source::Rtc])
}

fn reading(source: Source) -> Reading {
    Reading {
        source,
        method: Method::Precise,
        reference: Utc(1_000),
        realtime: Utc(990),
        raw: Raw(5),
        bound: Nanos(3),
    }
}

fn probe(at: Raw) -> Probe {
    Probe {
        at,
        deviation: Nanos::ZERO,
        bound: Nanos(10),
    }
}

#[test]
fn sources_are_tried_in_the_order_of_the_configuration() {
    let mut ladder = ladder();
    let mut tried = Vec::new();
    while let Some(source) = ladder.candidate(Raw(0)) {
        ladder.bad(&source, ReadFailure::Absent, Raw(0));
        tried.push(source);
    }
    assert_eq!(tried, [Source::Kvm, Source::Host, Source::Rtc]);
    assert_eq!(
        ladder.candidate(Raw(0) + RETRY_FIRST),
        Some(Source::Kvm),
        "after a pause all may be tried again"
    );
}

#[test]
fn the_next_source_waits_for_the_answer_of_the_better_one() {
    let mut ladder = ladder();
    ladder.bad(&Source::Kvm, ReadFailure::Absent, Raw(0));
    ladder.asked(&Source::Host, Raw(0));
    assert_eq!(ladder.candidate(Raw(1)), None);
    assert_eq!(ladder.overdue(Raw(1)), None);
    let late = Raw(1) + ANSWER_DEADLINE;
    assert_eq!(ladder.overdue(late), Some(Source::Host));
}

#[test]
fn a_better_source_is_climbed_back_to_after_three_good_probes_in_a_row() {
    let mut ladder = ladder();
    ladder.follow(&Source::Host);
    let mut now = Raw(0);
    let mut step = |ladder: &mut Ladder| {
        now = now + PROBE_INTERVAL;
        ladder.probed(&reading(Source::Kvm), probe(now))
    };
    assert!(!step(&mut ladder));
    assert!(!step(&mut ladder));
    ladder.bad(&Source::Kvm, ReadFailure::Refused(19), Raw(0));
    assert!(!step(&mut ladder));
    assert!(!step(&mut ladder));
    assert!(step(&mut ladder));
}

#[test]
fn a_source_that_goes_on_failing_is_asked_less_and_less_often() {
    let mut ladder = Ladder::new(&[Source::Kvm]);
    let mut now = Raw(0);
    let mut asked = 0;
    while now < Raw(0) + Nanos::from_secs(60) {
        if ladder.candidate(now).is_some() {
            asked += 1;
            ladder.bad(&Source::Kvm, ReadFailure::Absent, now);
        }
        now = now + Nanos::from_millis(20);
    }
    assert!((8..16).contains(&asked), "{asked} times in a minute");
}

#[test]
fn a_falseticker_is_barred_and_must_prove_itself_longer_than_others() {
    let mut ladder = Ladder::new(&[Source::Host, Source::Rtc]);
    ladder.follow(&Source::Rtc);
    ladder.mark_falseticker(&Source::Host, "an hour off".into(), Raw(0));
    assert!(ladder.is_falseticker(&Source::Host));
    let before = Raw(0) + BAR_FIRST - Nanos(1);
    assert_eq!(ladder.candidate(before), None);
    let mut probes = 0;
    loop {
        probes += 1;
        if ladder.probed(&reading(Source::Host), probe(Raw(0))) {
            break;
        }
    }
    assert_eq!(probes, PROBES_OF_FALSETICKER);
    ladder.clear_falseticker(&Source::Host);
    assert!(!ladder.is_any_falseticker());
}

#[test]
fn a_source_that_times_out_twice_or_is_gone_is_lost() {
    let mut ladder = ladder();
    let bad = |ladder: &mut Ladder, why| ladder.bad(&Source::Host, why, Raw(0));
    assert_eq!(bad(&mut ladder, ReadFailure::Timeout), AfterFailure::Retry);
    assert_eq!(bad(&mut ladder, ReadFailure::Timeout), AfterFailure::Lost);
    ladder.good(&reading(Source::Host));
    assert_eq!(bad(&mut ladder, ReadFailure::Absent), AfterFailure::Lost);
}

#[test]
fn a_source_is_reported_with_its_last_word_and_how_the_last_eight_readings_went() {
    let mut ladder = ladder();
    ladder.good(&reading(Source::Host));
    ladder.bad(&Source::Host, ReadFailure::Timeout, Raw(10));
    ladder.good(&reading(Source::Host));
    ladder.good(&reading(Source::Host));
    let status = &ladder.status(Raw(25))[1];
    assert_eq!((status.good, status.bad, status.reach), (3, 1, 0b1011));
    let last = LastReading {
        ago_ns: Nanos(20),
        offset_ns: Nanos(10),
        bound_ns: Nanos(3),
    };
    assert_eq!(status.last, Some(last));
    ladder.follow(&Source::Host);
    let seen = GoodReading {
        at: Raw(30),
        offset: Nanos(-1),
        bound: Nanos(2),
    };
    ladder.followed_well(1_000, seen);
    assert_eq!(ladder.status(Raw(30))[1].reach, 0o377);
}
