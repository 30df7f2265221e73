//! Which servers are right, and what time that makes it.
//!
//! Each server says that the time lies in an interval: its own, give or take its root distance. As
//! long as most servers are honest, the time lies where most intervals overlap (Marzullo's
//! algorithm, as in RFC 5905, 11.2.1). A server whose interval doesn't reach there is a falseticker
//! and has no say.

use alloc::vec::Vec;

use noonmark_contract::ntp::Measurement;
use noonmark_contract::units::{Nanos, Raw};

/// What the servers that agree say together.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Selection {
    /// The time, and how far it can be off if the majority is honest.
    pub measurement: Measurement,
    /// The places of the servers that agree.
    pub truechimers: Vec<usize>,
    /// The places of those that contradict them.
    pub falsetickers: Vec<usize>,
}

/// Selects from measurements, at most one a server, all carried to `now`.
///
/// None where no majority agrees, where fewer than `min_sources` do, or where all that do are
/// further off than `max_distance`.
#[must_use]
pub fn select(
    measurements: &[Measurement],
    now: Raw,
    min_sources: usize,
    max_distance: Nanos,
) -> Option<Selection> {
    let carried: Vec<(usize, Measurement)> = measurements
        .iter()
        .enumerate()
        .map(|(place, measurement)| (place, measurement.at(now)))
        .filter(|(_, m)| m.distance >= Nanos::ZERO && m.distance <= max_distance)
        .collect();
    let (low, high, agreeing) = intersection(&carried)?;
    if agreeing * 2 <= carried.len() || agreeing < min_sources.max(1) {
        return None;
    }
    let overlaps = |m: &Measurement| start(m) <= high && end(m) >= low;
    let (truechimers, falsetickers): (Vec<_>, Vec<_>) =
        carried.iter().partition(|(_, m)| overlaps(m));
    // The best of them gives the time, which wanders less than the middle of an intersection whose
    // ends are those of the worst; the intersection gives the bound.
    let (_, best) = truechimers.iter().min_by_key(|(_, m)| m.distance)?;
    let reference = best.reference.0.clamp(low, high);
    let distance = (high.saturating_sub(reference)).max(reference.saturating_sub(low));
    Some(Selection {
        measurement: Measurement {
            raw: now,
            reference: noonmark_contract::units::Utc(reference),
            distance: Nanos(distance).max(Nanos(1)),
        },
        truechimers: truechimers.iter().map(|(place, _)| *place).collect(),
        falsetickers: falsetickers.iter().map(|(place, _)| *place).collect(),
    })
}

fn start(measurement: &Measurement) -> i64 {
    (measurement.reference - measurement.distance).0
}

fn end(measurement: &Measurement) -> i64 {
    (measurement.reference + measurement.distance).0
}

/// The stretch that most intervals share, and how many those are. Where two stretches are shared by
/// as many, neither is a majority's, or the first is a part of it.
fn intersection(carried: &[(usize, Measurement)]) -> Option<(i64, i64, usize)> {
    let mut edges: Vec<(i64, bool)> = carried
        .iter()
        .flat_map(|(_, m)| [(start(m), false), (end(m), true)])
        .collect();
    // A start before an end at the same instant: intervals that touch share that instant.
    edges.sort_unstable();
    let mut best: Option<(i64, i64, usize)> = None;
    let mut open = 0;
    for (at, edge) in edges.iter().enumerate() {
        if edge.1 {
            open -= 1;
            continue;
        }
        open += 1;
        if best.is_none_or(|(.., most)| open > most) {
            // The stretch ends at the next end of any interval.
            let until = edges[at..].iter().find(|edge| edge.1)?;
            best = Some((edge.0, until.0, open));
        }
    }
    best
}

#[cfg(test)]
mod tests {
    use noonmark_contract::units::Utc;
    use proptest::prelude::*;

    use super::*;

    const NOW: Raw = Raw(1_000_000_000);
    const FAR: Nanos = Nanos::from_secs(10);

    /// A server that is off by `error` and admits to `distance`.
    fn server(error: i64, distance: i64) -> Measurement {
        Measurement {
            raw: NOW,
            reference: Utc(1_800_000_000_000_000_000 + error),
            distance: Nanos(distance),
        }
    }

    fn error(selection: &Selection) -> i64 {
        selection.measurement.reference.0 - 1_800_000_000_000_000_000
    }

    #[test]
    fn one_server_is_taken_at_its_word() {
        let selected = select(&[server(300, 500)], NOW, 1, FAR).unwrap();
        assert_eq!(error(&selected), 300);
        assert_eq!(selected.measurement.distance, Nanos(501));
    }

    #[test]
    fn a_falseticker_among_three_has_no_say() {
        let servers = [
            server(-200, 1_000),
            server(3_600_000_000_000, 10),
            server(300, 1_000),
        ];
        let selected = select(&servers, NOW, 1, FAR).unwrap();
        assert_eq!(selected.falsetickers, [1]);
        assert_eq!(selected.truechimers, [0, 2]);
        assert!(error(&selected).abs() <= 1_300);
    }

    #[test]
    fn two_that_contradict_each_other_say_nothing() {
        let servers = [server(0, 100), server(1_000_000, 100)];
        assert_eq!(select(&servers, NOW, 1, FAR), None);
    }

    #[test]
    fn fewer_than_must_agree_say_nothing() {
        let servers = [server(0, 100), server(10, 100)];
        assert!(select(&servers, NOW, 2, FAR).is_some());
        assert_eq!(select(&servers, NOW, 3, FAR), None);
        assert_eq!(select(&[], NOW, 0, FAR), None);
    }

    #[test]
    fn a_server_that_may_be_too_far_off_is_not_used() {
        let servers = [server(0, 100), server(5, 2_000)];
        let selected = select(&servers, NOW, 1, Nanos(1_000)).unwrap();
        assert_eq!(selected.truechimers, [0]);
        assert_eq!(select(&servers[1..], NOW, 1, Nanos(1_000)), None);
    }

    proptest! {
        /// Honest servers are off by no more than they admit; falsetickers say what they like.
        #[test]
        fn while_most_are_honest_the_truth_is_within_the_bound(
            honest in prop::collection::vec((-1.0_f64..1.0, 1_i64..10_000_000), 1..6),
            falsetickers in prop::collection::vec((any::<i32>(), 1_i64..10_000_000), 0..5),
        ) {
            prop_assume!(falsetickers.len() < honest.len());
            let honest = honest
                .iter()
                .map(|(share, distance)| server((share * *distance as f64) as i64, *distance));
            let falsetickers = falsetickers.iter().map(|(off, distance)| server(i64::from(*off), *distance));
            let servers: Vec<_> = honest.chain(falsetickers).collect();
            let selected = select(&servers, NOW, 1, FAR).unwrap();
            // The majority that agrees has an honest server in it, but need not be honest in whole.
            let honest_is_in = selected.truechimers.len() * 2 > servers.len();
            prop_assert!(honest_is_in);
        }

        #[test]
        fn honest_servers_alone_bound_the_truth(
            honest in prop::collection::vec((-1.0_f64..1.0, 1_i64..10_000_000), 1..8),
        ) {
            let servers: Vec<_> = honest
                .iter()
                .map(|(share, distance)| server((share * *distance as f64) as i64, *distance))
                .collect();
            let selected = select(&servers, NOW, 1, FAR).unwrap();
            prop_assert!(error(&selected).abs() <= selected.measurement.distance.0);
            prop_assert!(selected.falsetickers.is_empty());
            let widest = servers.iter().map(|m| m.distance).min().unwrap();
            prop_assert!(selected.measurement.distance <= widest + widest + Nanos(4));
        }

        #[test]
        fn no_measurements_upset_the_selection(
            any in prop::collection::vec((any::<i64>(), any::<i64>(), any::<i64>()), 0..8),
        ) {
            let servers: Vec<_> = any
                .iter()
                .map(|&(raw, reference, distance)| Measurement {
                    raw: Raw(raw),
                    reference: Utc(reference),
                    distance: Nanos(distance),
                })
                .collect();
            let _ = select(&servers, NOW, 1, FAR);
        }
    }
}
