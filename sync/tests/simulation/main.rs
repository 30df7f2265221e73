//! The closed-loop simulator: the engine against clocks, sources and faults that are data.
//!
//! `NOONMARK_SEED=123 cargo test -p noonmark-sync --test simulation` replays one scenario, and
//! `NOONMARK_SCENARIOS=100000` runs as many of them as asked for.

mod clocks;
mod counter;
mod host_clock;
mod judge;
mod machine;
mod named;
mod named_busy;
mod named_host;
mod named_rtc;
mod scenario;
mod sources;
mod width;
mod world;

/// Scenarios in an ordinary run.
const SCENARIOS: u64 = 20_000;

#[test]
fn no_scenario_ends_outside_its_bound() {
    if let Ok(seed) = std::env::var("NOONMARK_SEED") {
        let seed = seed.parse().expect("NOONMARK_SEED is a number");
        let scenario = scenario::Scenario::from_seed(seed);
        println!("{scenario:?}");
        if let Err(failure) = scenario.run(true, &mut width::Widths::default()) {
            panic!("seed {seed}: {failure}");
        }
        return;
    }
    let count = std::env::var("NOONMARK_SCENARIOS").map_or(SCENARIOS, |count| {
        count.parse().expect("NOONMARK_SCENARIOS is a number")
    });
    let mut widths = width::Widths::default();
    let failures: Vec<(u64, String)> = (0..count)
        .filter_map(|seed| {
            let outcome = scenario::Scenario::from_seed(seed).run(false, &mut widths);
            outcome.err().map(|failure| (seed, failure))
        })
        .collect();
    for (seed, failure) in failures.iter().take(20) {
        println!("seed {seed}: {failure}");
    }
    if let Some((seed, failure)) = failures.first() {
        panic!(
            "{} of {count} scenarios failed; the first, seed {seed}: {failure}\nreplay it with \
             NOONMARK_SEED={seed} cargo test -p noonmark-sync --test simulation -- --nocapture",
            failures.len()
        );
    }
    if count >= SCENARIOS {
        widths.assert_meaningful();
    }
}
