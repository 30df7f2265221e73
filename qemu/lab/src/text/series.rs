//! The guest's clock against the host's over time, as a table.

use noonmark_contract::units::Nanos;

use crate::report::Report;
use crate::report::error::PRECISE_LIMIT;
use crate::report::series::ErrorSeries;

use super::table::{lines, table};
use super::words::{NOTHING_TO_SAY, time};

/// The first and the second of the instants from which on a column tells the largest error.
pub(crate) const LATER: [Nanos; 2] = [Nanos::from_secs(1), Nanos::from_secs(10)];

/// The series of all runs, those of one name below each other; nothing where there are none. Each
/// run is a program that kept the clock, and its report.
pub(super) fn series(runs: &[(&str, &Report)]) -> String {
    let rows = rows(runs);
    if rows.is_empty() {
        return String::new();
    }
    let [soon, late] = LATER.map(|from| format!("from {from} on"));
    let limit = format!("within {PRECISE_LIMIT} from");
    let header = [
        "error against the host",
        "clock kept by",
        "readings",
        "largest",
        &soon,
        &late,
        "at the end",
        &limit,
    ];
    let mut table = table(&header, 2..8);
    for (keeper, one) in rows {
        let [soon, late] = LATER.map(|from| time(one.largest_from(from)));
        table.add_row([
            one.name.clone(),
            keeper.to_owned(),
            one.points.len().to_string(),
            time(one.largest_from(Nanos(i64::MIN))),
            soon,
            late,
            one.last()
                .map_or_else(|| NOTHING_TO_SAY.to_owned(), |error| error.to_string()),
            one.within_since(PRECISE_LIMIT)
                .map_or_else(|| "never".to_owned(), |at| at.max(Nanos::ZERO).to_string()),
        ]);
    }
    let mut text = format!("\n{}", lines(&table));
    for (keeper, one) in self::rows(runs) {
        if !one.detail.is_empty() {
            text += &format!("{}, {keeper}: {}\n", one.name, one.detail);
        }
    }
    text
}

/// Each series with who kept the clock, grouped by name in the order in which the names come.
pub(crate) fn rows<'a>(runs: &[(&'a str, &'a Report)]) -> Vec<(&'a str, &'a ErrorSeries)> {
    let all = || {
        let of = |(keeper, report): &(&'a str, &'a Report)| {
            let keeper = *keeper;
            report.series.iter().map(move |one| (keeper, one))
        };
        runs.iter().flat_map(of)
    };
    let mut names: Vec<&str> = Vec::new();
    for (_, one) in all() {
        if !names.contains(&&*one.name) {
            names.push(&one.name);
        }
    }
    let named = |name: &&'a str| {
        let name = *name;
        all().filter(move |(_, one)| one.name == name)
    };
    names.iter().flat_map(named).collect()
}

#[cfg(test)]
mod tests {
    use crate::fixture;

    use super::*;

    #[test]
    fn who_kept_the_clock_stand_below_each_other_for_each_thing_that_was_done() {
        let mut ours = fixture::report();
        ours.series = vec![
            fixture::series("host-step:+3s", &[5, -3_000_000_000, -7, 12]),
            fixture::series("host with chronyd", &[5, 60]),
        ];
        let mut peer = fixture::report();
        peer.series = vec![fixture::series(
            "host-step:+3s",
            &[5, -3_000_000_000, 4_000],
        )];
        peer.series[0].detail = "it steps at its first three updates alone".into();
        let text = series(&[("noonmark", &ours), ("chronyd", &peer)]);
        let expected = "
error against the host  clock kept by  readings  largest  from 1.000 s on  from 10.000 s on        at the end  within 1.000 us from
host-step:+3s           noonmark              4  3.000 s          3.000 s                 -     12 ns ± 10 ns               2.000 s
host-step:+3s           chronyd               3  3.000 s          3.000 s                 -  4.000 us ± 10 ns                 never
host with chronyd       noonmark              2    60 ns            60 ns                 -     60 ns ± 10 ns                  0 ns
host-step:+3s, chronyd: it steps at its first three updates alone
";
        assert_eq!(text, expected);
        assert_eq!(series(&[("noonmark", &fixture::report())]), "");
    }
}
