//! What the estimator promises.

use libm::fabs;
use noonmark_contract::sample::{Method, Source};
use noonmark_contract::units::Utc;
use proptest::prelude::*;

use super::*;

const START: i64 = 1_800_000_000_000_000_000;

/// A reading at `raw` of a reference that gains `ppb` on RAW, wrong by `error`.
fn reading(raw: i64, ppb: f64, error: i64, bound: i64) -> Reading {
    let gained = libm::round(raw as f64 * ppb / 1e9) as i64;
    Reading {
        source: Source::Kvm,
        method: Method::Precise,
        reference: Utc(START + raw + gained + error),
        realtime: Utc(0),
        raw: Raw(raw),
        bound: Nanos(bound),
    }
}

/// An estimator that has followed a reference at `ppb` for `seconds`, a reading each 20 ms.
fn followed(ppb: f64, seconds: i64) -> Estimator {
    let mut estimator = Estimator::default();
    for tick in 0..seconds * 50 {
        let _ = estimator.follow(&reading(tick * 20_000_000, ppb, tick % 7 - 3, 10));
        if tick % 25 == 24 {
            let _ = estimator.settle();
        }
    }
    estimator
}

#[test]
fn a_constant_rate_is_found_to_within_a_ppb() {
    let estimator = followed(-87_654.0, 30);
    assert!(fabs(estimator.rate().0 + 87_654.0) < 1.0);
    assert!(estimator.rate_error().0 < 10.0);
}

#[test]
fn a_changed_rate_is_followed_within_a_few_blocks() {
    let mut estimator = followed(1_000.0, 30);
    let change = 30_000_000_000;
    let at_change = reading(change, 1_000.0, 0, 10).reference;
    for tick in 0..200 {
        let dt = tick * 20_000_000;
        let mut changed = reading(change + dt, 0.0, 0, 10);
        changed.reference = at_change + Nanos(dt) + Ppb(6_000.0).over(Nanos(dt));
        let _ = estimator.follow(&changed);
        if tick % 25 == 24 {
            let _ = estimator.settle();
        }
    }
    assert!(fabs(estimator.rate().0 - 6_000.0) < 20.0);
}

#[test]
fn a_jump_keeps_the_rate_and_moves_the_place() {
    let mut estimator = followed(5_000.0, 30);
    let rate = estimator.rate();
    let pause = 7_000_000_000;
    let at = 30_000_000_000;
    let after = reading(at, 5_000.0, pause, 10);
    let deviation = estimator.compare(&after).expect("it is not the first");
    assert!(deviation.exceeds());
    estimator.jump(&after);
    assert_eq!(estimator.rate(), rate);
    let later = reading(at + 1_000_000_000, 5_000.0, pause, 10);
    let prediction = estimator.predict(later.raw).expect("it has a model");
    assert!((prediction.reference - later.reference).abs() <= Nanos(20));
}

#[test]
fn without_readings_the_bound_grows_by_15_us_a_second_and_little_more() {
    let estimator = followed(5_000.0, 60);
    let bound = |raw| estimator.predict(Raw(raw)).expect("it has a model").bound();
    let (early, late) = (bound(60_000_000_000), bound(160_000_000_000));
    let growth = (late - early).0 as f64 / 100.0;
    assert!((15_000.0..15_100.0).contains(&growth), "{growth} ns/s");
}

#[test]
fn a_coarse_reading_guards_the_bound_but_moves_nothing() {
    let mut estimator = followed(5_000.0, 30);
    let at = Raw(31_000_000_000);
    let before = estimator.predict(at);
    let coarse = reading(at.0, 5_000.0, 300_000_000, 500_000_000);
    let _ = estimator.follow(&coarse);
    let _ = estimator.settle();
    assert_eq!(estimator.predict(at), before);
    let off = reading(at.0, 5_000.0, 600_000_000, 500_000_000);
    assert!(estimator.compare(&off).is_some_and(|d| d.exceeds()));
}

proptest! {
    #[test]
    fn the_truth_is_always_within_the_bound(
        ppb in -400_000.0..400_000.0,
        bound in 2_i64..200_000,
        errors in proptest::collection::vec((-1.0..=1.0, 1_i64..500), 2..200),
    ) {
        let mut estimator = Estimator::default();
        let mut raw = 0;
        for (n, (error, wait_ms)) in errors.into_iter().enumerate() {
            raw += wait_ms * 1_000_000;
            let error = libm::round(error * (bound - 1) as f64) as i64;
            let truth = reading(raw, ppb, 0, bound);
            if let Some(prediction) = estimator.predict(truth.raw) {
                prop_assert!(truth.reference >= prediction.reference - prediction.early);
                prop_assert!(truth.reference <= prediction.reference + prediction.late);
            }
            let seen = reading(raw, ppb, error, bound);
            prop_assert!(estimator.compare(&seen).is_none_or(|d| !d.exceeds()));
            let _ = estimator.follow(&seen);
            if n % 5 == 4 {
                let _ = estimator.settle();
            }
        }
    }
}

/// An estimator that has seen one reading of an RTC, good to a second, when the clock was `off` it.
fn by_the_rtc(off: Nanos) -> (Prediction, Utc) {
    let seen = reading(0, 0.0, 0, 1_000_000_000);
    let rtc = Reading {
        source: Source::Rtc,
        method: Method::Rtc,
        realtime: seen.reference + off,
        ..seen
    };
    let mut estimator = Estimator::default();
    let _ = estimator.follow(&rtc);
    let prediction = estimator.predict(rtc.raw).expect("it has a reading");
    (prediction, rtc.realtime)
}

#[test]
fn a_clock_within_the_rtcs_bound_is_left_where_it_is() {
    for ms in [-990, -400, 0, 709] {
        let off = Nanos::from_millis(ms);
        let (prediction, found) = by_the_rtc(off);
        assert_eq!(prediction.reference, found, "{ms}");
        let bound = Nanos::from_secs(1) + off.abs();
        assert!((prediction.bound() - bound).abs() <= Nanos(2), "{ms}");
    }
    let off = Nanos::from_millis(1_100);
    let (prediction, found) = by_the_rtc(off);
    assert_eq!(prediction.reference, found - off);
}
