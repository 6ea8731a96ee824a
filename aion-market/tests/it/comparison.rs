//! Comparisons that may be looked at after every event: how often they are wrong, and how soon right.

use aion_market::Error;
use aion_market::compare::{Assumption, Comparison, Options};
use proptest::prelude::*;

const ASSUMPTIONS: [Assumption; 2] = [Assumption::Drifting, Assumption::Constant];

/// A stream of numbers in `[0, 1)`: xorshift64*, seeded.
struct Stream(u64);

impl Stream {
    fn next(&mut self) -> f64 {
        self.0 ^= self.0 >> 12;
        self.0 ^= self.0 << 25;
        self.0 ^= self.0 >> 27;
        (self.0.wrapping_mul(0x2545_f491_4f6c_dd1d) >> 11) as f64 / (1_u64 << 53) as f64
    }
}

fn comparison(assumption: Assumption, alpha: f64) -> Comparison {
    let options = Options::new(-1.0, 1.0).unwrap().with_alpha(alpha).unwrap();
    Comparison::new(options.with_assumption(assumption))
}

/// The runs of `runs` in which the interval ever missed the mean, and in which the p-value ever fell
/// to alpha.
fn errors(
    assumption: Assumption,
    runs: u64,
    steps: u64,
    draw: impl Fn(&mut Stream, u64) -> (f64, f64),
) -> (f64, f64) {
    let alpha = 0.1;
    let (mut missed, mut refuted) = (0, 0);
    for run in 0..runs {
        let (mut stream, mut comparison) = (Stream(0x9e37_79b9 * (run + 1)), comparison(assumption, alpha));
        let (mut out, mut expected) = (false, 0.0);
        for step in 0..steps {
            let (mean, difference) = draw(&mut stream, step);
            expected += mean;
            comparison.push(difference, 0.0).unwrap();
            let interval = comparison.interval();
            out |= !interval.contains(expected / (step + 1) as f64);
        }
        missed += u32::from(out);
        refuted += u32::from(comparison.verdict().p_value <= alpha);
    }
    (f64::from(missed) / runs as f64, f64::from(refuted) / runs as f64)
}

/// Ville: looked at after every one of 300 events, an interval of 90% is ever wrong in at most 10% of
/// the runs (three standard errors of 300 runs are allowed).
#[test]
fn intervals_hold_at_all_times_at_once() {
    let allowed = 0.1 + 3.0 * (0.1 * 0.9 / 300.0_f64).sqrt();
    for assumption in ASSUMPTIONS {
        let coin = |stream: &mut Stream, _| (0.0, if stream.next() < 0.5 { 1.0 } else { -1.0 });
        let (missed, refuted) = errors(assumption, 300, 300, coin);
        assert!(
            missed <= allowed && refuted <= allowed,
            "{assumption:?}: {missed} {refuted}"
        );
        // A rare large loss against many small gains, the hard case for normal approximations.
        let skewed = |stream: &mut Stream, _| (0.0, if stream.next() < 0.05 { -0.95 } else { 0.05 });
        let (missed, refuted) = errors(assumption, 300, 300, skewed);
        assert!(
            missed <= allowed && refuted <= allowed,
            "{assumption:?}: {missed} {refuted}"
        );
    }
}

/// Where the expected difference changes from event to event, the interval is about its mean so far.
#[test]
fn a_drifting_mean_is_covered_too() {
    let allowed = 0.1 + 3.0 * (0.1 * 0.9 / 300.0_f64).sqrt();
    let drift = |stream: &mut Stream, step: u64| {
        let mean = if step % 100 < 50 { 0.4 } else { -0.6 };
        (mean, (mean + (stream.next() - 0.5) * 0.8).clamp(-1.0, 1.0))
    };
    let (missed, _) = errors(Assumption::Drifting, 300, 300, drift);
    assert!(missed <= allowed, "{missed}");
}

/// The mistake that this replaces: a 90% interval of the normal approximation, looked at after every
/// event, is wrong far more often than it says.
#[test]
fn peeking_at_a_fixed_time_interval_is_wrong() {
    let mut wrong = 0;
    for run in 0..300_u64 {
        let mut stream = Stream(0x9e37_79b9 * (run + 1));
        let (mut sum, mut peeked) = (0.0, false);
        for n in 1..=300 {
            sum += if stream.next() < 0.5 { 1.0 } else { -1.0 };
            peeked |= n >= 10 && f64::abs(sum) > 1.645 * f64::from(n).sqrt();
        }
        wrong += u32::from(peeked);
    }
    assert!(wrong > 120, "{wrong} of 300");
}

/// A real difference is found, by both; betting with its stronger assumption is not the wider one.
#[test]
fn a_better_forecaster_is_found() {
    let mut found = Vec::new();
    for assumption in ASSUMPTIONS {
        let (mut stream, mut comparison) = (Stream(7), comparison(assumption, 0.05));
        let mut first = None;
        for n in 1..=2_000 {
            let difference = 0.1 + (stream.next() - 0.5) * 0.6;
            comparison.push(0.5 + difference, 0.5).unwrap();
            if first.is_none() && comparison.verdict().a_is_better() {
                first = Some(n);
            }
        }
        let verdict = comparison.verdict();
        assert!(
            verdict.interval.contains(0.1) && verdict.interval.width() < 0.1,
            "{verdict:?}"
        );
        assert!(verdict.e_a_better > 1e6 && verdict.e_b_better < 1.0 && verdict.p_value < 1e-6);
        assert!(!verdict.b_is_better());
        found.push((first.unwrap(), verdict.interval.width()));
    }
    let [(drifting, wide), (constant, tight)] = found[..] else {
        panic!()
    };
    assert!(drifting < 250 && constant < 150, "{found:?}");
    assert!(tight <= wide, "{found:?}");
}

#[test]
fn what_no_comparison_takes_changes_nothing() {
    for assumption in ASSUMPTIONS {
        let mut comparison = comparison(assumption, 0.05);
        let fresh = comparison.verdict();
        assert_eq!((fresh.n, fresh.mean, fresh.p_value), (0, 0.0, 1.0));
        assert_eq!((fresh.interval.lower, fresh.interval.upper), (-1.0, 1.0));
        for (a, b) in [
            (2.0, 0.0),
            (f64::NAN, 0.0),
            (f64::NEG_INFINITY, f64::NEG_INFINITY),
            (0.0, f64::INFINITY),
        ] {
            assert!(matches!(comparison.push(a, b), Err(Error::OutOfRange { .. })));
        }
        assert_eq!(comparison.verdict(), fresh);
    }
    for (least, most) in [
        (0.0, 1.0),
        (-1.0, 0.0),
        (f64::NAN, 1.0),
        (-1.0, f64::INFINITY),
        (-1e308, 1e308),
    ] {
        assert!(Options::new(least, most).is_err());
    }
    for alpha in [0.0, 1.0, f64::NAN, -0.1] {
        assert!(Options::new(-1.0, 1.0).unwrap().with_alpha(alpha).is_err());
    }
}

#[test]
fn extremes_stay_numbers() {
    for assumption in ASSUMPTIONS {
        for difference in [1.0, -1.0, 0.0] {
            let mut comparison = comparison(assumption, 0.05);
            for _ in 0..5_000 {
                comparison.push(difference, 0.0).unwrap();
            }
            let verdict = comparison.verdict();
            assert!(verdict.e_value.is_finite() && !verdict.p_value.is_nan());
            // A capital beyond all numbers would not survive being stored.
            let stored = serde_json::to_string(&comparison).unwrap();
            assert!(
                serde_json::from_str::<Comparison>(&stored).is_ok(),
                "{assumption:?}"
            );
            assert!(
                verdict.interval.contains(difference),
                "{assumption:?} {verdict:?}"
            );
            assert!(verdict.interval.width() < 0.02, "{assumption:?} {verdict:?}");
        }
    }
}

/// The verdicts are the same to the last digits that JSON may lose.
fn close(a: f64, b: f64) -> bool {
    (a - b).abs() <= 1e-9 * (1.0 + a.abs())
}

#[test]
fn what_was_stored_and_changed_is_refused() {
    for assumption in ASSUMPTIONS {
        let mut comparison = comparison(assumption, 0.05);
        for _ in 0..50 {
            comparison.push(0.6, 0.5).unwrap();
        }
        let sound = serde_json::to_value(&comparison).unwrap();
        assert!(serde_json::from_value::<Comparison>(sound.clone()).is_ok());
        let mut changes: Vec<(&str, serde_json::Value)> = vec![
            ("/least", 1.0.into()),
            ("/alpha", 0.0.into()),
            ("/n", (u64::MAX).into()),
            ("/n", 1.into()),
            ("/sum", 1e9.into()),
            ("/best_e", 0.5.into()),
            ("/best_e", serde_json::Value::Null),
        ];
        changes.extend(match assumption {
            Assumption::Constant => vec![
                ("/state/constant/above", serde_json::json!([1.0])),
                ("/state/constant/below/3", (-1.0).into()),
                ("/state/constant/alive", serde_json::json!([5, 4])),
                ("/state/constant/alive", serde_json::json!([0, 1_025])),
                ("/state/constant/sum", 51.0.into()),
                ("/state/constant/spread", 0.0.into()),
            ],
            _ => vec![("/state/drifting/spread", (-1.0).into())],
        });
        for (pointer, value) in changes {
            let mut changed = sound.clone();
            *changed.pointer_mut(pointer).unwrap() = value;
            let read = serde_json::from_value::<Comparison>(changed);
            assert!(read.is_err(), "{assumption:?} {pointer}");
        }
    }
}

proptest! {
    /// Stored anywhere and read back, a comparison comes to what it would have come to.
    #[test]
    fn a_comparison_goes_on_where_it_was(seed in 1_u64.., n in 1_usize..150, cut in 0_usize..150) {
        for assumption in ASSUMPTIONS {
            let mut stream = Stream(seed);
            let (mut whole, mut parted) = (comparison(assumption, 0.05), comparison(assumption, 0.05));
            for step in 0..n {
                if step == cut.min(n - 1) {
                    let stored = serde_json::to_string(&parted).unwrap();
                    parted = serde_json::from_str(&stored).unwrap();
                }
                let (a, b) = (stream.next(), stream.next() * 0.5);
                whole.push(a, b).unwrap();
                parted.push(a, b).unwrap();
            }
            let (whole, parted) = (whole.verdict(), parted.verdict());
            prop_assert_eq!(whole.n, parted.n);
            prop_assert!(close(whole.mean, parted.mean) && close(whole.p_value, parted.p_value));
            prop_assert!(close(whole.interval.lower, parted.interval.lower));
            prop_assert!(close(whole.interval.upper, parted.interval.upper));
            prop_assert!(close(whole.e_a_better, parted.e_a_better));
        }
    }

    /// Who swaps the two gets the mirrored verdict.
    #[test]
    fn swapping_mirrors_the_verdict(seed in 1_u64.., n in 1_usize..120) {
        for assumption in ASSUMPTIONS {
            let mut stream = Stream(seed);
            let (mut there, mut back) = (comparison(assumption, 0.05), comparison(assumption, 0.05));
            for _ in 0..n {
                let (a, b) = (stream.next(), stream.next());
                there.push(a, b).unwrap();
                back.push(b, a).unwrap();
            }
            let (there, back) = (there.verdict(), back.verdict());
            prop_assert!((there.interval.lower + back.interval.upper).abs() < 1e-9);
            prop_assert!((there.interval.upper + back.interval.lower).abs() < 1e-9);
            prop_assert!((there.e_a_better - back.e_b_better).abs() < 1e-9 * (1.0 + there.e_a_better));
            prop_assert!(there.interval.lower <= there.mean + 1e-9 && there.mean <= there.interval.upper + 1e-9);
        }
    }
}
