//! The statistics of recovery times: percentiles, and a test of whether one set of times is longer
//! than another that allows for noise.
//!
//! The test is Mann and Whitney's: all times are ranked together, equal ones sharing the mean of
//! their ranks, and the sum of one set's ranks is compared with what it would be if each choice of
//! that many out of all were equally likely. No distribution of the times is assumed, and a time
//! without end (the clock did not recover) is simply the longest.

use noonmark_contract::units::Nanos;

/// Up to this many times in both sets together the sum of ranks is counted out exactly; beyond it
/// the normal approximation is as good as a decision needs (a test compares the two).
const EXACT_TOTAL_MAX: usize = 40;

/// The nearest-rank percentile of sorted values: the smallest that at least `percent` % of all
/// values do not exceed; none of no values.
#[must_use]
pub fn percentile<T: Copy>(sorted: &[T], percent: usize) -> Option<T> {
    let rank = (sorted.len() * percent).div_ceil(100);
    sorted.get(rank.checked_sub(1)?).copied()
}

/// The median, by the same method as every other percentile.
pub(crate) fn median(values: impl Iterator<Item = Nanos>) -> Option<Nanos> {
    let mut sorted: Vec<Nanos> = values.collect();
    sorted.sort_unstable();
    percentile(&sorted, 50)
}

/// The probability that a sum of ranks at least as large as that of `after` comes about by chance
/// (one-sided); 1 where either set is empty.
#[must_use]
pub fn chance_of_longer(before: &[Nanos], after: &[Nanos]) -> f64 {
    if before.is_empty() || after.is_empty() {
        return 1.0;
    }
    let ranks = doubled_ranks(before, after);
    let sum: usize = ranks[before.len()..].iter().sum();
    if ranks.len() <= EXACT_TOTAL_MAX {
        exact_tail(&ranks, after.len(), sum)
    } else {
        normal_tail(&ranks, after.len(), sum)
    }
}

/// The smallest probability that [`chance_of_longer`] can give for sets of these sizes: one over
/// the number of ways to choose one out of both.
#[must_use]
pub fn smallest_chance(before: usize, after: usize) -> f64 {
    (1..=after).fold(1.0, |chance, k| chance * k as f64 / (before + k) as f64)
}

/// By how much times have grown: the median of all ratios of a time after to a time before. None
/// where there are no times, or most ratios have no value since the clock did not recover.
#[must_use]
pub fn growth(before: &[Nanos], after: &[Nanos]) -> Option<f64> {
    let mut ratios: Vec<f64> = after
        .iter()
        .flat_map(|after| before.iter().map(move |before| ratio(*before, *after)))
        .collect();
    ratios.sort_unstable_by(f64::total_cmp);
    percentile(&ratios, 50).filter(|ratio| ratio.is_finite())
}

/// Holm's correction: each probability as it counts when so many claims are made at once. With it
/// the chance that any claim below a level is false stays below that level.
#[must_use]
pub fn holm(chances: &[f64]) -> Vec<f64> {
    let mut order: Vec<usize> = (0..chances.len()).collect();
    order.sort_unstable_by(|a, b| chances[*a].total_cmp(&chances[*b]));
    let mut corrected = vec![0.0; chances.len()];
    let mut floor = 0.0_f64;
    for (done, &index) in order.iter().enumerate() {
        let left = (chances.len() - done) as f64;
        floor = floor.max((chances[index] * left).min(1.0));
        corrected[index] = floor;
    }
    corrected
}

/// A time that never came is longer than all others.
fn ratio(before: Nanos, after: Nanos) -> f64 {
    match (before == Nanos::MAX, after == Nanos::MAX) {
        (true, true) => 1.0,
        (true, false) => 0.0,
        (false, true) => f64::INFINITY,
        // A nanosecond is the resolution; it also keeps a time of nothing from dividing.
        (false, false) => after.0.max(1) as f64 / before.0.max(1) as f64,
    }
}

/// Twice the rank of each value among all, so that the mean rank of equal values stays whole. In
/// the order given, `before` first.
fn doubled_ranks(before: &[Nanos], after: &[Nanos]) -> Vec<usize> {
    let all: Vec<Nanos> = before.iter().chain(after).copied().collect();
    let mut sorted = all.clone();
    sorted.sort_unstable();
    all.iter()
        .map(|value| {
            let below = sorted.partition_point(|other| other < value);
            let through = sorted.partition_point(|other| other <= value);
            below + 1 + through
        })
        .collect()
}

/// The share of all choices of `size` ranks whose sum is at least `sum`, by counting the choices
/// of each size and sum.
fn exact_tail(ranks: &[usize], size: usize, sum: usize) -> f64 {
    let total: usize = ranks.iter().sum();
    let width = total + 1;
    let mut ways = vec![0.0_f64; (size + 1) * width];
    ways[0] = 1.0;
    let mut so_far = 0;
    for (taken, &rank) in ranks.iter().enumerate() {
        so_far += rank;
        for chosen in (1..=size.min(taken + 1)).rev() {
            let (fewer, row) = ways.split_at_mut(chosen * width);
            let fewer = &fewer[(chosen - 1) * width..];
            for (more, one_less) in row[rank..=so_far].iter_mut().zip(fewer) {
                *more += one_less;
            }
        }
    }
    let of_size = &ways[size * width..];
    let all: f64 = of_size.iter().sum();
    let tail: f64 = of_size[sum.min(total)..].iter().sum();
    tail / all
}

/// The same by the normal distribution of the same mean and variance, with the variance that the
/// ranks really have (equal values make it smaller) and half a step between two sums allowed for.
fn normal_tail(ranks: &[usize], size: usize, sum: usize) -> f64 {
    let count = ranks.len() as f64;
    let mean = ranks.iter().sum::<usize>() as f64 / count;
    let spread: f64 = ranks.iter().map(|&rank| (rank as f64 - mean).powi(2)).sum();
    let chosen = size as f64;
    let variance = chosen * (count - chosen) * spread / (count * (count - 1.0));
    if variance <= 0.0 {
        // All values are equal.
        return 1.0;
    }
    let half_step = step(ranks) as f64 / 2.0;
    upper_tail((sum as f64 - chosen * mean - half_step) / variance.sqrt())
}

/// How far apart sums of equally many of these ranks lie: their differences' greatest common divisor.
/// That is 2 for doubled ranks, and 1 where an even number of equal values shares an odd one.
fn step(ranks: &[usize]) -> usize {
    let divisor = |mut a: usize, mut b: usize| {
        while b > 0 {
            (a, b) = (b, a % b);
        }
        a
    };
    ranks
        .iter()
        .fold(0, |step, rank| divisor(step, rank.abs_diff(ranks[0])))
}

/// The probability that a standard normal variable exceeds `z`, with an absolute error below
/// 1.5e-7 (Abramowitz and Stegun, Handbook of Mathematical Functions, 7.1.26).
fn upper_tail(z: f64) -> f64 {
    const COEFFICIENTS: [f64; 5] = [
        1.061_405_429,
        -1.453_152_027,
        1.421_413_741,
        -0.284_496_736,
        0.254_829_592,
    ];
    let x = z.abs() / std::f64::consts::SQRT_2;
    let t = 1.0 / (1.0 + 0.327_591_1 * x);
    let polynomial = COEFFICIENTS.iter().fold(0.0, |sum, c| (sum + c) * t);
    let beyond = 0.5 * polynomial * (-x * x).exp();
    if z >= 0.0 { beyond } else { 1.0 - beyond }
}

#[cfg(test)]
mod tests {
    use proptest::collection::vec;
    use proptest::prelude::*;

    use super::*;

    fn times(values: &[i64]) -> Vec<Nanos> {
        values.iter().copied().map(Nanos).collect()
    }

    #[test]
    fn percentiles_are_by_nearest_rank() {
        let hundred: Vec<i64> = (1..=100).collect();
        assert_eq!(percentile(&hundred, 50), Some(50));
        assert_eq!(percentile(&hundred, 99), Some(99));
        let ten: Vec<i64> = (1..=10).collect();
        assert_eq!(percentile(&ten, 50), Some(5));
        assert_eq!(percentile(&ten, 99), Some(10));
        assert_eq!(percentile(&[7], 50), Some(7));
        assert_eq!(percentile::<i64>(&[], 50), None);
    }

    #[test]
    fn sets_that_do_not_overlap_have_the_smallest_chance() {
        let chance = chance_of_longer(&times(&[1, 2, 3]), &times(&[4, 5, 6]));
        assert!((chance - 1.0 / 20.0).abs() < 1e-12, "{chance}");
        assert!((smallest_chance(3, 3) - 1.0 / 20.0).abs() < 1e-12);
        assert!((smallest_chance(10, 10) - 1.0 / 184_756.0).abs() < 1e-12);
        assert!((chance_of_longer(&times(&[4, 5, 6]), &times(&[1, 2, 3])) - 1.0).abs() < 1e-12);
    }

    #[test]
    fn equal_times_share_a_rank() {
        // Of the 6 choices of two out of 1, 2, 2, 3 the rank sums are 3.5 twice, 5 twice and 6.5
        // twice; 2 and 3 have 6.5.
        let chance = chance_of_longer(&times(&[1, 2]), &times(&[2, 3]));
        assert!((chance - 2.0 / 6.0).abs() < 1e-12, "{chance}");
        let same = chance_of_longer(&times(&[5; 4]), &times(&[5; 4]));
        assert!((same - 1.0).abs() < 1e-12, "{same}");
    }

    #[test]
    fn a_clock_that_did_not_recover_took_longest() {
        let worse = chance_of_longer(
            &times(&[1, 2, 3, 4]),
            &[Nanos::MAX, Nanos::MAX, Nanos(8), Nanos(9)],
        );
        assert!((worse - smallest_chance(4, 4)).abs() < 1e-12, "{worse}");
        assert_eq!(growth(&times(&[10, 10]), &[Nanos::MAX, Nanos::MAX]), None);
    }

    #[test]
    fn growth_is_the_usual_ratio() {
        let before = times(&[100, 110, 120]);
        let after = times(&[200, 220, 240]);
        assert_eq!(growth(&before, &after), Some(2.0));
        assert_eq!(growth(&[], &after), None);
    }

    #[test]
    fn many_claims_at_once_need_stronger_evidence() {
        let corrected = holm(&[0.01, 0.04, 0.03]);
        let expected = [0.03, 0.06, 0.06];
        for (got, expected) in corrected.iter().zip(expected) {
            assert!((got - expected).abs() < 1e-12, "{corrected:?}");
        }
        assert_eq!(holm(&[]), Vec::<f64>::new());
        assert_eq!(holm(&[0.9, 0.8]), [1.0, 1.0]);
    }

    #[test]
    fn the_normal_tail_is_that_of_the_tables() {
        for (z, expected) in [(0.0, 0.5), (1.644_854, 0.05), (2.326_348, 0.01)] {
            assert!((upper_tail(z) - expected).abs() < 1e-6, "{z}");
            assert!((upper_tail(-z) - (1.0 - expected)).abs() < 1e-6, "-{z}");
        }
    }

    /// Two sets drawn from the same values differ significantly as rarely as promised.
    #[test]
    fn noise_alone_is_rarely_called_longer() {
        let mut random = fastrand::Rng::with_seed(1);
        let mut draw = || -> Vec<Nanos> {
            let times = (0..10).map(|_| Nanos(random.i64(0..1_000_000)));
            times.collect()
        };
        let alarms = (0..1000).filter(|_| chance_of_longer(&draw(), &draw()) < 0.05);
        let alarms = alarms.count();
        // 50 are expected, give or take 7.
        assert!((25..=75).contains(&alarms), "{alarms} of 1000");
    }

    /// Two equal values share an odd doubled rank, so that sums lie 1 apart, not 2.
    #[test]
    fn the_normal_tail_allows_for_the_step_that_the_sums_really_have() {
        let before = times(&[
            297, 92, 79, 387, 29, 388, 332, 137, 333, 298, 378, 222, 102, 178, 52, 100, 79, 423,
        ]);
        let after = times(&[
            136, 153, 386, 246, 320, 91, 51, 101, 267, 376, 76, 296, 177, 331, 28, 221, 82, 377,
        ]);
        let ranks = doubled_ranks(&before, &after);
        let sum = ranks[before.len()..].iter().sum();
        let exact = exact_tail(&ranks, after.len(), sum);
        let normal = normal_tail(&ranks, after.len(), sum);
        assert!((exact - normal).abs() < 5e-3, "{exact} {normal}");
    }

    proptest! {
        // Counting out the ranks takes a while without optimization.
        #![proptest_config(ProptestConfig::with_cases(32))]

        #[test]
        fn the_exact_and_the_normal_tail_agree(
            before in vec(0_i64..500, 18..20),
            after in vec(0_i64..500, 18..20),
        ) {
            let (before, after) = (times(&before), times(&after));
            let ranks = doubled_ranks(&before, &after);
            let sum = ranks[before.len()..].iter().sum();
            let exact = exact_tail(&ranks, after.len(), sum);
            let normal = normal_tail(&ranks, after.len(), sum);
            prop_assert!((exact - normal).abs() < 5e-3, "{exact} {normal}");
        }

        #[test]
        fn a_chance_is_a_probability_no_smaller_than_the_smallest(
            before in vec(0_i64..50, 1..20),
            after in vec(0_i64..50, 1..20),
        ) {
            let chance = chance_of_longer(&times(&before), &times(&after));
            let smallest = smallest_chance(before.len(), after.len());
            prop_assert!(chance <= 1.0 + 1e-9);
            prop_assert!(chance >= smallest * (1.0 - 1e-9), "{chance} {smallest}");
        }

        /// The order in which times are listed says nothing.
        #[test]
        fn a_chance_depends_on_no_order(
            before in vec(0_i64..50, 1..15),
            after in vec(0_i64..50, 1..15),
        ) {
            let reversed = |values: &[i64]| -> Vec<Nanos> {
                values.iter().rev().copied().map(Nanos).collect()
            };
            let chance = chance_of_longer(&times(&before), &times(&after));
            let other = chance_of_longer(&reversed(&before), &reversed(&after));
            prop_assert!((chance - other).abs() < 1e-9, "{chance} {other}");
        }
    }
}
