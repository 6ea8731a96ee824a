//! The Bayes mixture: its regret, tracking, silence.

use aion_market::predict::Mixture;
use proptest::prelude::*;

fn bits(p: f64, outcome: bool) -> f64 {
    -(if outcome { p } else { 1.0 - p }).log2()
}

/// The loss of the mixture and of each of `K`, in bits.
fn losses(mut mixture: Mixture, rounds: &[(Vec<f64>, bool)]) -> (f64, Vec<f64>) {
    let (mut mixed, mut single) = (0.0, vec![0.0; mixture.weights().len()]);
    for (says, outcome) in rounds {
        let given: Vec<Option<f64>> = says.iter().copied().map(Some).collect();
        mixed += bits(mixture.mix(&given).unwrap().unwrap(), *outcome);
        for (single, p) in single.iter_mut().zip(says) {
            *single += bits(*p, *outcome);
        }
        mixture.update(&given, f64::from(u8::from(*outcome))).unwrap();
    }
    (mixed, single)
}

fn rounds() -> impl Strategy<Value = Vec<(Vec<f64>, bool)>> {
    (1_usize..8).prop_flat_map(|k| {
        proptest::collection::vec(
            (proptest::collection::vec(1e-6..1.0 - 1e-6, k), any::<bool>()),
            0..200,
        )
        .prop_map(move |mut rounds| {
            if rounds.is_empty() {
                rounds.push((vec![0.5; k], true));
            }
            rounds
        })
    })
}

proptest! {
    /// The mixture loses at most log2 K bits more than the best of the K, over any sequence (Vovk 1998).
    #[test]
    fn regret_is_at_most_log2_k(rounds in rounds()) {
        let k = rounds[0].0.len();
        let (mixed, single) = losses(Mixture::new(k).unwrap(), &rounds);
        let best = single.into_iter().fold(f64::INFINITY, f64::min);
        prop_assert!(mixed - best <= (k as f64).log2() + 1e-6, "{} {}", mixed, best);
    }

    /// With fixed share the regret against the best constant one is at most
    /// log2 K - (n - 1) log2(1 - a) bits (Herbster and Warmuth 1998, no switch).
    #[test]
    fn a_share_costs_little_where_nothing_switches(rounds in rounds(), share in 0.0..0.5) {
        let k = rounds[0].0.len();
        let mixture = Mixture::new(k).unwrap().with_share(share).unwrap();
        let (mixed, single) = losses(mixture, &rounds);
        let best = single.into_iter().fold(f64::INFINITY, f64::min);
        let bound = (k as f64).log2() - (rounds.len() as f64 - 1.0) * (1.0 - share).log2();
        prop_assert!(mixed - best <= bound + 1e-6, "{} {} {}", mixed, best, bound);
    }

    /// The weights are a distribution whatever was said, and those that are silent keep theirs.
    #[test]
    fn weights_stay_a_distribution(
        says in proptest::collection::vec(proptest::collection::vec(proptest::option::of(0.0..=1.0), 4), 1..50),
        outcomes in proptest::collection::vec(0.0..=1.0, 50),
    ) {
        let mut mixture = Mixture::new(4).unwrap();
        for (says, outcome) in says.iter().zip(outcomes) {
            let before = mixture.weights().to_vec();
            mixture.update(says, outcome).unwrap();
            let sum: f64 = mixture.weights().iter().sum();
            prop_assert!((sum - 1.0).abs() < 1e-9);
            for ((before, after), says) in before.iter().zip(mixture.weights()).zip(says) {
                prop_assert!(says.is_some() || (before - after).abs() < 1e-9);
            }
        }
    }
}

#[test]
fn a_share_follows_a_best_one_that_changes() {
    // The first is right for 100 rounds, then the second.
    let rounds: Vec<(Vec<f64>, bool)> = (0..200)
        .map(|n| (if n < 100 { vec![0.9, 0.1] } else { vec![0.1, 0.9] }, true))
        .collect();
    let (plain, _) = losses(Mixture::new(2).unwrap(), &rounds);
    let (sharing, _) = losses(Mixture::new(2).unwrap().with_share(0.01).unwrap(), &rounds);
    assert!(sharing < 0.25 * plain, "{sharing} {plain}");
}

#[test]
fn nobody_and_nonsense() {
    assert!(Mixture::new(0).is_err());
    assert!(Mixture::new(2).unwrap().with_share(1.5).is_err());
    let mut mixture = Mixture::new(2).unwrap();
    assert_eq!(mixture.mix(&[None, None]).unwrap(), None);
    assert!(mixture.mix(&[Some(0.5)]).is_err());
    assert!(mixture.update(&[Some(f64::NAN), None], 1.0).is_err());
    assert!(mixture.update(&[Some(0.5), None], f64::NAN).is_err());
    // Both gave it no chance: nothing to tell them apart by.
    mixture.update(&[Some(0.0), Some(0.0)], 1.0).unwrap();
    assert_eq!(mixture.weights(), [0.5, 0.5]);
}
