//! A comparison as a person reads it.

use noonmark_contract::units::Nanos;

use crate::report::compare::{Comparison, Finding, Row};

use super::table::{lines, table};
use super::words::figure;

/// The whole comparison: what was measured differently, a table, and what got slower. Ends with a
/// line's end.
#[must_use]
pub fn comparison(comparison: &Comparison) -> String {
    let mut text = String::new();
    for difference in &comparison.differences {
        text += &format!("measured differently: {difference}\n");
    }
    for gap in &comparison.lacking {
        text += &format!("lacking: {gap}\n");
    }
    for name in &comparison.unmatched {
        text += &format!("not compared: {name}\n");
    }
    if !text.is_empty() {
        text.push('\n');
    }
    text.push_str(&faults(comparison));
    text.push('\n');
    let slower: Vec<&Row> = comparison.slower().collect();
    if slower.is_empty() {
        text += &format!("nothing got slower ({})\n", criteria(comparison));
    }
    for row in slower {
        let what = match (row.finding, row.growth) {
            (Finding::Lost, _) => "no longer always recovers".to_owned(),
            (_, Some(growth)) => format!("got slower, {growth:.2} times as long"),
            (_, None) => "got slower".to_owned(),
        };
        text += &format!(
            "{}: {what} ({}, chance {})\n",
            name(row),
            criteria(comparison),
            chance(row.chance)
        );
    }
    text
}

fn criteria(comparison: &Comparison) -> String {
    let criteria = comparison.criteria;
    format!(
        "rank test of the boots at {} over all faults, from {:.0} % on",
        criteria.level,
        (criteria.growth - 1.0) * 100.0
    )
}

fn faults(comparison: &Comparison) -> String {
    let header = [
        "fault",
        "boots",
        "then",
        "recovered",
        "then",
        "p50",
        "then",
        "max",
        "then",
        "growth",
        "chance",
        "finding",
    ];
    let mut table = table(&header, 1..11);
    for row in &comparison.rows {
        let (before, after) = (&row.before, &row.after);
        let time = |time, of| figure(time, of, Nanos::ZERO);
        table.add_row([
            name(row),
            row.boots[0].to_string(),
            row.boots[1].to_string(),
            format!("{}/{}", before.recovered, before.count),
            format!("{}/{}", after.recovered, after.count),
            time(before.p50_ns, before),
            time(after.p50_ns, after),
            time(before.max_ns, before),
            time(after.max_ns, after),
            row.growth
                .map_or_else(|| "-".to_owned(), |growth| format!("{growth:.2}")),
            chance(row.chance),
            finding(row.finding),
        ]);
    }
    lines(&table)
}

fn name(row: &Row) -> String {
    if row.peer == "noonmark" {
        row.fault.clone()
    } else {
        format!("{}, {}", row.peer, row.fault)
    }
}

fn chance(chance: f64) -> String {
    if chance < 1e-4 {
        "<0.0001".to_owned()
    } else {
        format!("{chance:.4}")
    }
}

fn finding(finding: Finding) -> String {
    match finding {
        Finding::Same => "no difference".to_owned(),
        Finding::Slower => "slower".to_owned(),
        Finding::Faster => "faster".to_owned(),
        Finding::Lost => "no longer recovers".to_owned(),
        Finding::TooFew { needed } => format!("too few boots; take {needed} of each"),
    }
}

#[cfg(test)]
mod tests {
    use crate::fixture;
    use crate::report::compare::Criteria;
    use crate::report::document::Document;

    use super::*;

    #[test]
    fn a_comparison_reads_like_this() {
        let document = |step: &[i64], pause: &[i64]| {
            let mut report = fixture::report();
            report.host.qemu_waited_share = None;
            report.faults = vec![
                fixture::fault("step:-1h", step),
                fixture::fault("step:+1h", pause),
            ];
            Document::Report(Box::new(report))
        };
        let usual: Vec<i64> = (600..610).collect();
        let twice: Vec<i64> = (1200..1210).collect();
        let comparison = Comparison::of(
            &document(&usual, &[700, 710]),
            &document(&twice, &[700, 710]),
            Criteria::default(),
        );
        let expected = "\
fault     boots  then  recovered   then         p50       then         max       then  growth  chance  finding
step:-1h     10    10      10/10  10/10  604.000 us   1.204 ms  609.000 us   1.209 ms    1.99  <0.0001  slower
";
        let text = super::comparison(&comparison);
        assert!(
            text.contains("step:-1h: got slower, 1.99 times as long"),
            "{text}"
        );
        assert!(text.contains("too few boots; take 6 of each"), "{text}");
        let words = |line: &str| line.split_whitespace().collect::<Vec<_>>().join(" ");
        for (line, expected) in text.lines().zip(expected.lines()) {
            assert_eq!(words(line), words(expected));
        }
    }
}
