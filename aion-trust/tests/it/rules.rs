//! The rules: worked numbers, the four properties of weighted scores, the flaws of the published rule.

use aion_market::Target;
use aion_trust::fixed::{FRACTION_BITS, ln};
use aion_trust::rule::{Voter, published, weighted_score};
use aion_trust::{Error, Kappa, Rule};
use aion_types::{MilliTrust, PpmDist};
use proptest::collection::vec;
use proptest::prelude::*;

fn dist(p: u32) -> PpmDist {
    PpmDist::new(vec![p, 1_000_000 - p]).unwrap()
}

fn voters(votes: &[(u64, PpmDist)]) -> Vec<Voter<'_>> {
    votes
        .iter()
        .map(|(trust, dist)| Voter {
            trust: MilliTrust::new(*trust),
            dist,
        })
        .collect()
}

fn deltas(rule: Rule, votes: &[(u64, PpmDist)], y: usize) -> Vec<i64> {
    rule.deltas(&voters(votes), &Target::outcome(y, 2).unwrap())
        .unwrap()
}

fn weighted(permille: u32) -> Rule {
    Rule::WeightedScore {
        kappa: Kappa::new(permille).unwrap(),
    }
}

fn kelly(permille: u32) -> Rule {
    Rule::Kelly {
        kappa: Kappa::new(permille).unwrap(),
    }
}

fn crowd() -> impl Strategy<Value = Vec<(u64, PpmDist)>> {
    vec((0_u64..10_000_000, (0_u32..=1_000_000).prop_map(dist)), 1..12)
}

/// The report with the best expectation, on a grid of thousandths, by the real-valued rule that the
/// integers round.
fn best_report(belief: f64, gain: impl Fn(f64, usize) -> f64) -> f64 {
    let value = |p: f64| belief * gain(p, 0) + (1.0 - belief) * gain(p, 1);
    let grid = (1..10_000).map(|i| f64::from(i) / 10_000.0);
    grid.max_by(|a, b| value(*a).total_cmp(&value(*b))).unwrap()
}

/// A voter with so much of the trust reports towards the others: he is measured against a mean that
/// holds his own vote.
#[test]
fn the_published_rule_is_not_proper() {
    for (share, expected) in [(0.10, 0.781), (0.25, 0.756), (0.50, 0.719), (0.75, 0.690)] {
        let best = best_report(0.8, |p, y| {
            let q = [p, 1.0 - p][y];
            (q / (share * q + (1.0 - share) * 0.5)).ln()
        });
        assert!(
            (best - expected).abs() < 6e-4,
            "{share}: {best}, expected {expected}"
        );
    }
    // The integer rule pays the same: with half of the trust, .719 beats the belief of .8.
    let expected = |p: u32| {
        let votes = [(5_000, dist(p)), (5_000, dist(500_000))];
        let paid = |y| published::deltas(1_000_000, &voters(&votes), y).unwrap()[0];
        8 * paid(0) + 2 * paid(1)
    };
    assert!(expected(719_000) > expected(800_000));
}

/// Two fresh keys with opposite bets: one wins about 693 millitrust, the other has nothing to lose.
#[test]
fn the_published_rule_pays_fresh_keys_without_risk() {
    let votes = [(10_000, dist(500_000)), (0, dist(999_999)), (0, dist(1))];
    for y in [0, 1] {
        let paid = deltas(
            Rule::Published {
                alpha_milli: published::ALPHA_MILLI,
            },
            &votes,
            y,
        );
        // A balance never falls below 0, so the losing key is thrown away.
        let kept: i64 = paid[1..].iter().map(|delta| (*delta).max(0)).sum();
        assert_eq!(kept, 693, "{paid:?}");
        assert_eq!(paid[0], 0);
    }
    // Weighted scores give such keys nothing.
    assert_eq!(deltas(weighted(1_000), &votes, 0)[1..], [0, 0]);
}

/// The published rule makes and destroys trust.
#[test]
fn the_published_rule_does_not_conserve() {
    let votes = [(10_000, dist(800_000)), (5_000, dist(300_000))];
    let rule = Rule::Published {
        alpha_milli: published::ALPHA_MILLI,
    };
    assert_eq!(deltas(rule, &votes, 0).iter().sum::<i64>(), 233 - 748);
}

/// Whoever minds only the mean bets everything on what the others undervalue.
#[test]
fn kelly_is_not_proper_for_the_mean() {
    let best = best_report(0.8, |p, y| {
        let q = [p, 1.0 - p][y];
        q / (0.1 * q + 0.9 * 0.5)
    });
    assert!(best > 0.99, "{best}");
}

#[test]
fn rules_refuse_what_they_cannot_settle() {
    let mixture = aion_market::Resolution::Mixture { dist: dist(400_000) };
    let mixture = mixture.target(2).unwrap().unwrap();
    let votes = [(10_000, dist(800_000)), (5_000, dist(300_000))];
    assert!(matches!(
        kelly(100).deltas(&voters(&votes), &mixture),
        Err(Error::NeedsOutcome)
    ));
    assert_eq!(
        weighted(100)
            .deltas(&voters(&votes), &mixture)
            .unwrap()
            .iter()
            .sum::<i64>(),
        0
    );
    let much = [(u64::MAX, dist(800_000)), (u64::MAX, dist(300_000))];
    let yes = Target::outcome(0, 2).unwrap();
    assert!(matches!(
        weighted(100).deltas(&voters(&much), &yes),
        Err(Error::Overflow(_))
    ));
    assert!(Kappa::new(0).is_err() && Kappa::new(1_001).is_err());
    assert!(weighted(100).deltas(&[], &yes).unwrap().is_empty());
    assert_eq!(deltas(weighted(100), &[(0, dist(1))], 0), [0]);
}

proptest! {
    /// The integer logarithm agrees with the floating-point one to its last digits, and is monotone.
    #[test]
    fn the_integer_logarithm_is_the_logarithm(n in 1_u128..u128::MAX / 2, small in 1_u128..1_000_000) {
        for n in [n, small] {
            let fixed = ln(n).unwrap();
            let nats = fixed as f64 / (1_u64 << FRACTION_BITS) as f64;
            let float = (n as f64).ln();
            prop_assert!((nats - float).abs() <= 4.0 * f64::EPSILON * float.max(1.0), "{n}: {nats} {float}");
            prop_assert!(ln(n + 1).unwrap() >= fixed);
        }
    }

    /// `ln(a b) = ln a + ln b` to a few units of the last place.
    #[test]
    fn the_integer_logarithm_turns_products_into_sums(a in 1_u128..u128::from(u64::MAX), b in 1_u128..u128::from(u64::MAX)) {
        let apart = ln(a * b).unwrap() - ln(a).unwrap() - ln(b).unwrap();
        prop_assert!(apart.abs() <= 8, "{apart}");
    }

    /// P18, budget balance: weighted scores and Kelly conserve trust exactly.
    #[test]
    fn trust_is_conserved(votes in crowd(), y in 0_usize..2, permille in 1_u32..=1_000) {
        for rule in [weighted(permille), kelly(permille)] {
            prop_assert_eq!(deltas(rule, &votes, y).iter().sum::<i64>(), 0);
        }
    }

    /// P18, solvency: nobody loses more than he staked, so nobody falls below 0.
    #[test]
    fn nobody_falls_below_zero(votes in crowd(), y in 0_usize..2, permille in 1_u32..=1_000) {
        for rule in [weighted(permille), kelly(permille)] {
            for ((trust, _), delta) in votes.iter().zip(deltas(rule, &votes, y)) {
                let staked = (u128::from(*trust) * u128::from(permille)).div_ceil(1_000);
                prop_assert!(i128::from(delta) >= -(staked as i128), "{delta} of {trust}");
            }
        }
    }

    /// Properness (Lambert et al. 2008): within the clip no report has a better expectation than the
    /// belief, whatever the others say.
    #[test]
    fn the_belief_is_the_best_report(belief in 2_u32..99, report in 1_u32..100, others in crowd(), trust in 1_000_000_u64..100_000_000) {
        let expected = |p: u32| {
            let mut votes = others.clone();
            votes.push((trust, dist(p * 10_000)));
            let paid = |y| *deltas(weighted(1_000), &votes, y).last().unwrap();
            i64::from(belief) * paid(0) + i64::from(100 - belief) * paid(1)
        };
        // Each payment is rounded by less than 1, each score by half of 2^-30 of the stake.
        let rounding = 100 * 2 + (100 * trust as i64) / (1 << 28);
        prop_assert!(expected(belief) >= expected(report) - rounding);
    }

    /// P18, sybil-proofness: an account that splits gains at most 1 millitrust of rounding for each part.
    #[test]
    fn splitting_gains_at_most_a_millitrust_a_part(
        parts in vec(0_u64..1_000_000, 2..6),
        p in 0_u32..=1_000_000,
        others in crowd(),
        y in 0_usize..2,
    ) {
        let mut whole = others.clone();
        whole.push((parts.iter().sum(), dist(p)));
        let mut split = others.clone();
        split.extend(parts.iter().map(|part| (*part, dist(p))));
        let alone = *deltas(weighted(100), &whole, y).last().unwrap();
        let together: i64 = deltas(weighted(100), &split, y)[others.len()..].iter().sum();
        prop_assert!(together - alone <= parts.len() as i64, "{together} {alone}");
    }

    /// Who was closer to what happened never does worse, share for share.
    #[test]
    fn a_better_report_gains_more(a in 0_u32..=1_000_000, b in 0_u32..=1_000_000, trust in 1_u64..1_000_000) {
        let votes = [(trust, dist(a.max(b))), (trust, dist(a.min(b)))];
        let paid = deltas(weighted(100), &votes, 0);
        prop_assert!(paid[0] >= paid[1], "{paid:?}");
        prop_assert!(weighted_score::score(a.max(b)) >= weighted_score::score(a.min(b)));
    }

    /// The published rule is its formula, rounded down.
    #[test]
    fn the_published_rule_is_its_formula(votes in crowd(), y in 0_usize..2) {
        let total: f64 = votes.iter().map(|(trust, _)| *trust as f64).sum();
        prop_assume!(total > 0.0);
        let q = |dist: &PpmDist| f64::from(dist.parts()[y].max(1)) / 1e6;
        let mean: f64 = votes.iter().map(|(t, d)| *t as f64 * f64::from(d.parts()[y]) / 1e6).sum::<f64>() / total;
        prop_assume!(mean > 1e-6);
        let paid = deltas(Rule::Published { alpha_milli: 1_000 }, &votes, y);
        for ((_, dist), paid) in votes.iter().zip(paid) {
            let exact = 1_000.0 * (q(dist).ln() - mean.ln());
            prop_assert!(paid as f64 <= exact + 1e-6 && paid as f64 > exact - 1.0 - 1e-6, "{paid} {exact}");
        }
    }
}
