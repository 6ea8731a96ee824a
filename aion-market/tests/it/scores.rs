//! Scores, divergences and calibration: worked numbers and laws.

use aion_market::calibration::{Calibration, FitOptions};
use aion_market::reliability::Reliability;
use aion_market::{Error, divergence, score, sequential};
use proptest::collection::vec;
use proptest::prelude::*;

/// A distribution over `n` outcomes; some of them may be 0.
fn dist(n: usize) -> impl Strategy<Value = Vec<f64>> {
    vec(prop_oneof![1 => Just(0.0), 6 => 1e-6..1.0_f64], n).prop_filter_map("a sum above 0", |weights| {
        let sum: f64 = weights.iter().sum();
        (sum > 0.0).then(|| weights.iter().map(|w| w / sum).collect())
    })
}

fn pair() -> impl Strategy<Value = (Vec<f64>, Vec<f64>)> {
    (2_usize..8).prop_flat_map(|n| (dist(n), dist(n)))
}

#[test]
fn report_scores_of_the_worked_example() {
    let reports = [
        ([0.8, 0.2], [0.5, 0.5]),
        ([0.6, 0.4], [0.65, 0.35]),
        ([0.1, 0.9], [0.64, 0.36]),
    ];
    let expected = [0.678_072, -0.115_477, -2.678_072];
    for ((report, before), bits) in reports.iter().zip(expected) {
        let nats = sequential::report_score(report, before, 0, 1.0).unwrap();
        assert!((nats / std::f64::consts::LN_2 - bits).abs() < 1e-6);
    }
}

#[test]
fn sequential_bits_of_the_four_price_path() {
    let path = [[0.5, 0.5], [0.7, 0.3], [0.6, 0.4], [0.9, 0.1]];
    let bits = |target: [f64; 2]| -> Vec<f64> {
        let nats = sequential::sequential_kl(&path, &target).unwrap();
        nats.iter().map(|s| s / std::f64::consts::LN_2).collect()
    };
    for (got, expected) in bits([1.0, 0.0]).iter().zip([0.485_427, -0.222_392, 0.584_963]) {
        assert!((got - expected).abs() < 1e-6);
    }
    assert!((bits([0.0, 1.0]).iter().sum::<f64>() - -2.321_928).abs() < 1e-6);
    for (got, expected) in bits([0.9, 0.1]).iter().zip([0.363_188, -0.158_649, 0.326_466]) {
        assert!((got - expected).abs() < 1e-6);
    }
}

#[test]
fn an_infinite_gain_and_loss_at_once_is_an_error_and_not_a_number() {
    let path = [[1.0, 0.0], [0.0, 1.0]];
    assert!(matches!(
        sequential::sequential_kl(&path, &[0.5, 0.5]),
        Err(Error::Undefined { step: 1 })
    ));
    assert_eq!(
        sequential::sequential_kl(&path, &[0.0, 1.0]).unwrap(),
        [f64::INFINITY]
    );
}

#[test]
fn rounding_is_no_bad_input() {
    let sum = 0.1 + 0.2 + 0.3 + 0.4 + f64::EPSILON;
    assert!(sum > 1.0);
    assert_eq!(divergence::kl(&[sum, 0.0], &[sum, 0.0]).unwrap(), 0.0);
    assert!(score::log_score(&[sum, 0.0], 0).unwrap().abs() < 1e-15);
}

#[test]
fn bad_input_is_named() {
    assert!(matches!(
        score::log_score(&[0.5, 0.6], 0),
        Err(Error::OutOfRange { .. })
    ));
    assert!(matches!(
        score::log_score(&[0.5, f64::NAN], 0),
        Err(Error::BadEntry { index: 1, .. })
    ));
    assert!(matches!(
        score::log_score(&[-0.5, 1.5], 0),
        Err(Error::BadEntry { index: 0, .. })
    ));
    assert!(matches!(
        score::log_score(&[1.0], 0),
        Err(Error::Shape { found: 1, .. })
    ));
    assert!(matches!(
        score::brier(&[0.5, 0.5], 2),
        Err(Error::UnknownOutcome {
            outcome: 2,
            outcomes: 2
        })
    ));
    assert!(matches!(
        divergence::kl(&[0.5, 0.5], &[0.2, 0.3, 0.5]),
        Err(Error::Shape { .. })
    ));
    assert!(score::crps_ensemble(&[], 0.0).is_err());
    assert!(score::crps_ensemble(&[f64::INFINITY], 0.0).is_err());
    assert!(matches!(
        score::crps_sorted(&[2.0, 1.0], 0.0),
        Err(Error::BadEntry { index: 1, .. })
    ));
    assert!(Reliability::of(&[0.5], &[0.5, 1.0], 10).is_err());
    assert!(Reliability::of(&[0.5], &[1.0], 0).is_err());
    assert!(Calibration::fit(&[f64::NAN], &[1.0], FitOptions::default()).is_err());
}

#[test]
fn a_fit_finds_the_calibration_that_made_the_data() {
    // Outcomes are the probabilities themselves, so the truth is the optimum whatever the sample.
    let truth = Calibration { a: 0.4, c: -0.7 };
    let ln_ratios: Vec<f64> = (0..200).map(|i| f64::from(i - 100) / 20.0).collect();
    let outcomes: Vec<f64> = ln_ratios
        .iter()
        .map(|x| truth.prob_of_ln(*x).unwrap().get())
        .collect();
    let fit = Calibration::fit(&ln_ratios, &outcomes, FitOptions::default().with_ridge(0.0)).unwrap();
    assert!((fit.calibration.a - truth.a).abs() < 1e-9, "{fit:?}");
    assert!((fit.calibration.c - truth.c).abs() < 1e-9, "{fit:?}");
    assert!(fit.bits_after < fit.bits_before);
}

#[test]
fn separable_examples_stay_finite() {
    for ridge in [0.0, 1.0] {
        let options = FitOptions::default().with_ridge(ridge);
        let fit = Calibration::fit(&[-1.0, 1.0], &[0.0, 1.0], options).unwrap();
        assert!(
            fit.calibration.a.is_finite() && fit.calibration.a > 0.0,
            "{fit:?}"
        );
    }
    let none = Calibration::fit(&[], &[], FitOptions::default()).unwrap();
    assert_eq!(none.calibration, Calibration::default());
}

#[test]
fn metaculus_peer_scores_sum_to_zero() {
    let scores = score::metaculus_peer(&[0.9, 0.5, 0.2]).unwrap();
    assert!(scores.iter().sum::<f64>().abs() < 1e-9);
    assert!(scores[0] > scores[1] && scores[1] > scores[2]);
    assert!(score::metaculus_peer(&[0.9]).is_err());
}

proptest! {
    /// P14, Gibbs: KL is never negative, 0 only of equals, and never NaN.
    #[test]
    fn kl_is_not_negative_and_never_nan((p, q) in pair()) {
        let kl = divergence::kl(&p, &q).unwrap();
        prop_assert!(kl >= -1e-12, "{kl}");
        prop_assert!(divergence::kl(&p, &p).unwrap() == 0.0);
        // Pinsker: at least half of the square of the distance.
        let distance: f64 = p.iter().zip(&q).map(|(p, q)| (p - q).abs()).sum();
        prop_assert!(kl >= distance * distance / 2.0 - 1e-12, "{kl} {distance}");
        let hidden = p.iter().zip(&q).any(|(p, q)| *p > 0.0 && *q == 0.0);
        prop_assert_eq!(kl.is_infinite(), hidden);
    }

    /// P14, data processing: merging outcomes never raises KL.
    #[test]
    fn merging_outcomes_never_raises_kl((p, q) in pair()) {
        prop_assume!(p.len() > 2);
        let merge = |d: &[f64]| -> Vec<f64> {
            let mut merged = vec![d[0] + d[1]];
            merged.extend_from_slice(&d[2..]);
            merged
        };
        let (before, after) = (divergence::kl(&p, &q).unwrap(), divergence::kl(&merge(&p), &merge(&q)).unwrap());
        prop_assert!(after <= before + 1e-12, "{after} > {before}");
    }

    /// `KL(p || q) = H(p, q) - H(p)`.
    #[test]
    fn kl_is_cross_entropy_less_entropy((p, q) in pair()) {
        let (kl, cross) = (divergence::kl(&p, &q).unwrap(), divergence::cross_entropy(&p, &q).unwrap());
        if cross.is_finite() {
            prop_assert!((kl - (cross - divergence::entropy(&p).unwrap())).abs() < 1e-9);
        } else {
            prop_assert!(kl.is_infinite());
        }
    }

    /// Jensen-Shannon is symmetric and within `[0, ln 2]`.
    #[test]
    fn jensen_shannon_is_symmetric_and_bounded((p, q) in pair()) {
        let (there, back) = (divergence::jensen_shannon(&p, &q).unwrap(), divergence::jensen_shannon(&q, &p).unwrap());
        prop_assert!((there - back).abs() < 1e-12);
        prop_assert!((-1e-12..=std::f64::consts::LN_2 + 1e-12).contains(&there));
    }

    /// The sequential scores telescope to `KL(f || p_0) - KL(f || p_N)`.
    #[test]
    fn sequential_scores_telescope(
        path in vec(vec(0.01..1.0_f64, 3), 2..12),
        target in dist(3),
    ) {
        let path: Vec<Vec<f64>> = path.iter().map(|w| w.iter().map(|x| x / w.iter().sum::<f64>()).collect()).collect();
        let scores = sequential::sequential_kl(&path, &target).unwrap();
        let whole = divergence::kl(&target, &path[0]).unwrap() - divergence::kl(&target, &path[path.len() - 1]).unwrap();
        prop_assert!((scores.iter().sum::<f64>() - whole).abs() < 1e-9);
    }

    /// A move that changes nothing scores 0, and the way back scores the opposite.
    #[test]
    fn sequential_scores_are_antisymmetric((p, q) in pair(), y in 0_usize..2) {
        prop_assume!(p[y] > 0.0 && q[y] > 0.0);
        let mut target = vec![0.0; p.len()];
        target[y] = 1.0;
        let there = sequential::sequential_kl(&[p.clone(), q.clone()], &target).unwrap()[0];
        let back = sequential::sequential_kl(&[q, p.clone()], &target).unwrap()[0];
        prop_assert_eq!(there, -back);
        prop_assert_eq!(sequential::sequential_kl(&[p.clone(), p], &target).unwrap()[0], 0.0);
    }

    /// Log, Brier, spherical and ranked probability scores are proper: on a grid, no report has a
    /// better expectation than the belief.
    #[test]
    fn scores_are_proper_on_a_grid(belief in 1_u32..20) {
        let belief = f64::from(belief) / 20.0;
        let expected = |of: &dyn Fn(&[f64], usize) -> f64, p: f64| {
            let q = [p, 1.0 - p];
            belief * of(&q, 0) + (1.0 - belief) * of(&q, 1)
        };
        type Reward<'a> = &'a dyn Fn(&[f64], usize) -> f64;
        let rewards: [Reward<'_>; 4] = [
            &|q, y| score::log_score(q, y).unwrap(),
            &|q, y| -score::brier(q, y).unwrap(),
            &|q, y| -score::rps(q, y).unwrap(),
            &|q, y| score::spherical(q, y).unwrap(),
        ];
        for reward in rewards {
            let honest = expected(reward, belief);
            for report in 1..100 {
                prop_assert!(expected(reward, f64::from(report) / 100.0) <= honest + 1e-12);
            }
        }
    }

    /// CRPS equals its defining double sum, and the absolute error for one member.
    #[test]
    fn crps_equals_its_double_sum(members in vec(-1e3..1e3_f64, 1..12), y in -1e3..1e3_f64) {
        let m = members.len() as f64;
        let error: f64 = members.iter().map(|x| (x - y).abs()).sum::<f64>() / m;
        let spread: f64 = members.iter().flat_map(|a| members.iter().map(move |b| (a - b).abs())).sum();
        let naive = error - spread / (2.0 * m * m);
        prop_assert!((score::crps_ensemble(&members, y).unwrap() - naive).abs() < 1e-9);
    }

    /// Two outcomes: RPS is the one-sided Brier score, and half of the two-sided one.
    #[test]
    fn brier_forms_agree(p in 0.0..=1.0_f64) {
        let q = [p, 1.0 - p];
        let one_sided = score::brier_binary(p, 1.0).unwrap();
        prop_assert!((score::rps(&q, 0).unwrap() - one_sided).abs() < 1e-12);
        prop_assert!((score::brier(&q, 0).unwrap() - 2.0 * one_sided).abs() < 1e-12);
    }

    /// Murphy: the parts give back the Brier score of the forecasts as they were.
    #[test]
    fn murphy_parts_sum_to_the_brier_score(rows in vec((0.0..=1.0_f64, any::<bool>()), 1..200), bins in 1_usize..20) {
        let p: Vec<f64> = rows.iter().map(|(p, _)| *p).collect();
        let o: Vec<f64> = rows.iter().map(|(_, o)| f64::from(u8::from(*o))).collect();
        let direct = p.iter().zip(&o).map(|(p, o)| (p - o).powi(2)).sum::<f64>() / p.len() as f64;
        let curve = Reliability::of(&p, &o, bins).unwrap();
        let parts = curve.murphy();
        prop_assert!((parts.brier() - direct).abs() < 1e-12);
        let sum = parts.reliability - parts.resolution + parts.uncertainty() + parts.within_bins();
        prop_assert!((sum - direct).abs() < 1e-12);
        prop_assert_eq!(curve.bins.iter().map(|bin| bin.n).sum::<u64>(), rows.len() as u64);
        // One forecast a bin and outcomes of 0 and 1: the three classic parts are enough.
        let coarse: Vec<f64> = p.iter().map(|p| if *p < 0.5 { 0.25 } else { 0.75 }).collect();
        let classic = Reliability::of(&coarse, &o, 2).unwrap().murphy();
        prop_assert!(classic.within_bins().abs() < 1e-12);
    }

    /// A fit is a stationary point of its own objective and never does worse on it than the start.
    #[test]
    fn a_fit_never_raises_the_loss_it_minimises(rows in vec((-5.0..5.0_f64, any::<bool>()), 1..60)) {
        let x: Vec<f64> = rows.iter().map(|(x, _)| *x).collect();
        let y: Vec<f64> = rows.iter().map(|(_, y)| f64::from(u8::from(*y))).collect();
        let fit = Calibration::fit(&x, &y, FitOptions::default()).unwrap();
        prop_assert!(fit.bits_after <= fit.bits_before + 1e-12);
        let Calibration { a, c } = fit.calibration;
        let residual = |x: &f64, y: &f64| fit.calibration.prob_of_ln(*x).unwrap().get() - y;
        let g_c: f64 = x.iter().zip(&y).map(|(x, y)| residual(x, y)).sum::<f64>() + c;
        let g_a: f64 = x.iter().zip(&y).map(|(x, y)| x * residual(x, y)).sum::<f64>() + (a - 1.0);
        prop_assert!(g_a.abs() < 1e-6 && g_c.abs() < 1e-6, "{g_a} {g_c}");
    }
}
