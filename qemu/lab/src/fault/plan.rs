//! What an experiment is to do.

use std::ops::Range;
use std::time::Duration;

use fastrand::Rng;
use noonmark_contract::units::Nanos;
use noonmark_qemu::called;

use super::definition::Fault;
use super::family::Family;

/// An experiment's plan. The same plan with the same seed does the same faults with the same
/// pauses between them.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Plan {
    /// The faults, in this order.
    pub faults: Vec<Fault>,
    /// Samples of each; a storm has its own number.
    pub count: u32,
    /// Of everything that is random.
    pub seed: u64,
    /// Of each fault only the sample of this number is taken, after the first fault after boot; 0
    /// is that one alone.
    pub only: Option<u32>,
    /// From this error on a read of the guest's clock counts as wrong.
    pub tolerance: Nanos,
    /// How long the clock must stay within tolerance before the observer believes it.
    pub settle: Nanos,
    /// The longest time to recover that still passes.
    pub max_recovery: Nanos,
    /// The strictest limit of the clock's error that any sample will be held to, where one was asked
    /// for: the error is measured as well as that takes.
    pub error_limit: Option<Nanos>,
    /// What a command line needs beside the fault to do the same on the same machine: `--accel kvm`.
    pub options: String,
}

impl Plan {
    /// A plan with the usual settings: 10 samples each, 1 ms tolerance, 50 ms to recover.
    #[must_use]
    pub fn new(faults: Vec<Fault>) -> Self {
        Self {
            faults,
            count: 10,
            seed: 1,
            only: None,
            tolerance: Nanos::from_millis(1),
            settle: Nanos::from_millis(100),
            max_recovery: Nanos::from_millis(50),
            error_limit: None,
            options: String::new(),
        }
    }

    /// The numbers of the samples to take of `fault`.
    pub(crate) fn numbers(&self, fault: Fault) -> Range<u32> {
        let first = self.only.map_or(1, |only| only.max(1));
        let end = match self.only {
            None => fault.samples(self.count).saturating_add(1),
            // None at all for 0, which is the first fault after boot.
            Some(only) => only.saturating_add(1),
        };
        first..end
    }

    /// How many samples are to be taken of `fault`.
    pub(crate) fn wanted(&self, fault: Fault) -> u32 {
        u32::try_from(self.numbers(fault).len()).unwrap_or(u32::MAX)
    }

    /// What the random choices of one sample are drawn from. It depends on nothing but the plan's
    /// seed, the fault and the number, so that the sample can be taken again by itself.
    pub(crate) fn sample_seed(&self, fault: Fault, number: u32) -> u64 {
        let name = format!("{}/{fault}/{number}", self.seed);
        // FNV-1a, 64 bits: fixed for ever, unlike the standard library's hasher.
        name.bytes().fold(0xcbf2_9ce4_8422_2325, |hash, byte| {
            (hash ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3)
        })
    }

    /// The command that takes one sample again.
    pub(crate) fn replay(&self, fault: Fault, number: u32) -> String {
        let seed = self.seed;
        let mut command = format!(
            "{} recover --fault '{fault}' --seed {seed} --only {number}",
            called::name()
        );
        if !self.options.is_empty() {
            command += " ";
            command += &self.options;
        }
        command
    }
}

/// The pause before a sample: 50..=250 ms, so that faults fall on no fixed phase of the guest's
/// watch tick; in a storm less than that.
pub(crate) fn pause(fault: Fault, random: &mut Rng) -> Duration {
    Duration::from_micros(match fault {
        Fault::Storm { .. } => random.u64(0..=40_000),
        _ => random.u64(50_000..=250_000),
    })
}

/// A step such as somebody or something could do: either way, from 2 ms to ten years, each order
/// of magnitude as likely as the next.
pub(crate) fn random_step(random: &mut Rng) -> Nanos {
    const LEAST_NS: f64 = 2e6;
    const MOST_NS: f64 = 3.15e17;
    let size = LEAST_NS * (MOST_NS / LEAST_NS).powf(random.f64());
    let span = Nanos(size as i64);
    if random.bool() { span } else { -span }
}

/// One of the disturbances of a combined fault.
pub(crate) fn random_fault(random: &mut Rng) -> Fault {
    match random.u32(0..4) {
        0 | 1 => Fault::Step(random_step(random)),
        2 => {
            let members = Fault::of_family(Family::Skew);
            members[random.usize(0..members.len())]
        }
        _ => Fault::Pause {
            span: Duration::from_millis(random.u64(20..=1_000)),
            kick: random.bool(),
        },
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// All that is random in a plan's samples, in words.
    fn sequence(plan: &Plan) -> Vec<String> {
        let mut told = Vec::new();
        for &fault in &plan.faults {
            for number in plan.numbers(fault) {
                let mut random = Rng::with_seed(plan.sample_seed(fault, number));
                let pause = pause(fault, &mut random);
                let drawn = match fault {
                    Fault::Combined => random_fault(&mut random).to_string(),
                    Fault::Storm { .. } => random_step(&mut random).to_string(),
                    fault => fault.to_string(),
                };
                told.push(format!("{pause:?} {drawn}"));
            }
        }
        told
    }

    fn plan(seed: u64) -> Plan {
        Plan {
            seed,
            count: 20,
            ..Plan::new(Fault::matrix())
        }
    }

    #[test]
    fn a_seed_gives_the_same_faults_again_at_the_same_moments() {
        assert_eq!(sequence(&plan(7)), sequence(&plan(7)));
        assert_ne!(sequence(&plan(7)), sequence(&plan(8)));
    }

    #[test]
    fn a_sample_taken_by_itself_is_the_one_that_it_was_among_the_others() {
        let whole = Plan {
            faults: vec![Fault::Combined],
            ..plan(3)
        };
        let alone = Plan {
            only: Some(17),
            ..whole.clone()
        };
        assert_eq!(sequence(&alone), sequence(&whole)[16..17]);
        assert_eq!(alone.wanted(Fault::Combined), 1);
        let first = Plan {
            only: Some(0),
            ..whole
        };
        assert_eq!(first.wanted(Fault::Combined), 0);
    }

    #[test]
    fn pauses_are_bounded_and_steps_have_all_sizes_and_both_signs() {
        let mut random = Rng::with_seed(1);
        let bounds = Duration::from_millis(50)..=Duration::from_millis(250);
        let steps: Vec<Nanos> = (0..1_000).map(|_| random_step(&mut random)).collect();
        let migrate = Fault::Migrate { between: None };
        assert!((0..1_000).all(|_| bounds.contains(&pause(migrate, &mut random))));
        assert!(steps.iter().all(|step| step.abs() >= Nanos(1_999_999)));
        assert!(
            steps
                .iter()
                .any(|step| *step > Nanos::from_secs(86_400 * 365))
        );
        assert!(steps.iter().any(|step| *step < Nanos::ZERO));
        assert!(steps.iter().any(|step| step.abs() < Nanos::from_millis(20)));
    }

    #[test]
    fn the_command_that_repeats_a_sample_names_it() {
        let plan = plan(5);
        assert_eq!(
            plan.replay("skew:tick-10%".parse().unwrap(), 3),
            "cargo xtask recover --fault 'skew:tick-10%' --seed 5 --only 3"
        );
        let elsewhere = Plan {
            options: "--accel tcg --vcpus 1".into(),
            ..plan
        };
        let told = elsewhere.replay("step:-1h".parse().unwrap(), 0);
        assert!(told.ends_with("--only 0 --accel tcg --vcpus 1"), "{told}");
    }
}
