//! The fit: scikit-learn's coefficients, the laws of the minimum, separation, bad input.

use aion_market::predict::logistic::{ClassWeights, FitStatus, LogisticOptions, fit, fit_weighted};
use proptest::prelude::*;
use serde::Deserialize;

#[derive(Deserialize)]
struct Golden {
    cases: Vec<Case>,
}

#[derive(Deserialize)]
struct Case {
    columns: usize,
    ridge: f64,
    balanced: bool,
    x: Vec<f64>,
    y: Vec<f64>,
    weight: Vec<f64>,
    coefficients: Vec<f64>,
}

/// Coefficients equal scikit-learn's to 1e-6, with and without ridge, class weights and row weights.
#[test]
fn coefficients_are_those_of_scikit_learn() {
    let text = include_str!("../../golden/logistic.json");
    let golden: Golden = serde_json::from_str(text).unwrap();
    assert_eq!(golden.cases.len(), 6);
    for (n, case) in golden.cases.iter().enumerate() {
        let classes = if case.balanced {
            ClassWeights::Balanced
        } else {
            ClassWeights::Equal
        };
        let options = LogisticOptions::default()
            .with_ridge(case.ridge)
            .with_class_weights(classes);
        let fit = fit_weighted(&case.x, case.columns, &case.y, &case.weight, &options).unwrap();
        assert_eq!(fit.status, FitStatus::Converged, "case {n}");
        for (ours, theirs) in fit.coefficients.iter().zip(&case.coefficients) {
            assert!(
                (ours - theirs).abs() <= 1e-6 * (1.0 + theirs.abs()),
                "case {n}: {ours} {theirs}"
            );
        }
    }
}

/// A draw from a seed, uniform on (0, 1).
fn uniform(state: &mut u64) -> f64 {
    *state = state
        .wrapping_mul(6_364_136_223_846_793_005)
        .wrapping_add(1_442_695_040_888_963_407);
    ((*state >> 11) as f64 + 0.5) / (1_u64 << 53) as f64
}

fn drawn(n: usize, d: usize, seed: u64) -> (Vec<f64>, Vec<f64>) {
    let mut state = seed;
    let x: Vec<f64> = (0..n * d).map(|_| 2.0 * uniform(&mut state) - 1.0).collect();
    let y = x
        .chunks(d)
        .map(|row| {
            let z: f64 = row.iter().enumerate().map(|(j, x)| x * (1.0 - j as f64)).sum();
            f64::from(u8::from(uniform(&mut state) < 1.0 / (1.0 + (-z).exp())))
        })
        .collect();
    (x, y)
}

/// Many rows are solved from the minimum over a few: it must be the same minimum.
#[test]
fn a_head_start_ends_where_a_plain_start_does() {
    let (d, n) = (4, 40_000);
    let (x, y) = drawn(n, d, 3);
    let options = LogisticOptions::default().with_ridge(2.0);
    let whole = fit(&x, d, &y, &options).unwrap();
    // Small enough to be solved without a head start: two halves as one problem of double weights.
    assert!(whole.steps <= 3, "{}", whole.steps);
    let gradient = gradient(&x, d, &y, 2.0, &whole.coefficients);
    assert!(gradient.iter().all(|g| g.abs() < 1e-6), "{gradient:?}");
}

fn gradient(x: &[f64], d: usize, y: &[f64], ridge: f64, beta: &[f64]) -> Vec<f64> {
    let mut sum: Vec<f64> = beta[..d].iter().map(|b| ridge * b).collect();
    sum.push(0.0);
    for (row, y) in x.chunks(d).zip(y) {
        let z: f64 = row.iter().zip(beta).map(|(x, b)| x * b).sum::<f64>() + beta[d];
        let off = 1.0 / (1.0 + (-z).exp()) - y;
        for (sum, x) in sum.iter_mut().zip(row.iter().chain([&1.0])) {
            *sum += off * x;
        }
    }
    sum
}

proptest! {
    /// At the minimum the gradient of the penalised loss is zero (first-order condition).
    #[test]
    fn the_gradient_vanishes(seed: u64, n in 5_usize..60, d in 1_usize..5, ridge in 0.05..20.0) {
        let (x, y) = drawn(n, d, seed);
        let both = y.contains(&0.0) && y.contains(&1.0);
        prop_assume!(both);
        let fit = fit(&x, d, &y, &LogisticOptions::default().with_ridge(ridge)).unwrap();
        prop_assert_eq!(fit.status, FitStatus::Converged);
        for g in gradient(&x, d, &y, ridge, &fit.coefficients) {
            prop_assert!(g.abs() < 1e-6, "{}", g);
        }
    }

    /// A weight of 2 is the row twice.
    #[test]
    fn a_weight_is_a_count(seed: u64, n in 8_usize..40) {
        let (x, y) = drawn(n, 2, seed);
        let options = LogisticOptions::default();
        let weight: Vec<f64> = (0..n).map(|i| 1.0 + (i % 2) as f64).collect();
        let (mut twice_x, mut twice_y) = (x.clone(), y.clone());
        for i in (1..n).step_by(2) {
            twice_x.extend_from_slice(&x[2 * i..2 * i + 2]);
            twice_y.push(y[i]);
        }
        prop_assume!(y.contains(&0.0) && y.contains(&1.0));
        let weighted = fit_weighted(&x, 2, &y, &weight, &options).unwrap();
        let counted = fit(&twice_x, 2, &twice_y, &options).unwrap();
        for (a, b) in weighted.coefficients.iter().zip(&counted.coefficients) {
            prop_assert!((a - b).abs() < 1e-7, "{} {}", a, b);
        }
    }

    /// Any finite input gives finite coefficients, parted classes and constant columns included.
    #[test]
    fn whatever_is_finite_fits(
        x in proptest::collection::vec(-1e6..1e6_f64, 12),
        y in proptest::collection::vec(0..2_u8, 6),
        ridge in prop_oneof![Just(0.0), 0.0..1e3_f64],
    ) {
        let y: Vec<f64> = y.into_iter().map(f64::from).collect();
        let fit = fit(&x, 2, &y, &LogisticOptions::default().with_ridge(ridge)).unwrap();
        prop_assert!(fit.coefficients.iter().all(|b| b.is_finite()));
        prop_assert!(fit.loss_nats.is_finite());
    }
}

#[test]
fn parted_classes_are_named_and_stay_finite() {
    let x = [-2.0, -1.0, 1.0, 2.0];
    let plain = LogisticOptions::default().with_ridge(0.0);
    let parted = fit(&x, 1, &[0.0, 0.0, 1.0, 1.0], &plain).unwrap();
    assert_eq!(parted.status, FitStatus::Separated);
    assert!(parted.coefficients.iter().all(|b| b.is_finite()));
    // Parted but for rows on the plane itself.
    let touching = fit(&[-1.0, 0.0, 0.0, 1.0], 1, &[0.0, 0.0, 1.0, 1.0], &plain).unwrap();
    assert_eq!(touching.status, FitStatus::Separated);
    // One class alone.
    let alone = fit(&x, 1, &[1.0; 4], &plain).unwrap();
    assert_eq!(alone.status, FitStatus::Separated);
    // A ridge holds the slope.
    let held = fit(&x, 1, &[0.0, 0.0, 1.0, 1.0], &LogisticOptions::default()).unwrap();
    assert_eq!(held.status, FitStatus::Converged);
    assert!(held.coefficients[0] < 2.0);
}

#[test]
fn the_ridge_pulls_to_the_prior() {
    let (x, y) = drawn(30, 2, 9);
    let far = LogisticOptions::default()
        .with_ridge(1e9)
        .with_prior(vec![1.0, -0.5]);
    let held = fit(&x, 2, &y, &far).unwrap();
    assert!((held.coefficients[0] - 1.0).abs() < 1e-6);
    assert!((held.coefficients[1] + 0.5).abs() < 1e-6);
}

#[test]
fn bad_rows_are_named() {
    let options = LogisticOptions::default();
    let error = |x: &[f64], d, y: &[f64]| fit(x, d, y, &options).unwrap_err().to_string();
    assert_eq!(error(&[], 1, &[]), "rows has 0 entries, expected 1");
    assert_eq!(error(&[1.0], 1, &[1.0, 0.0]), "x has 1 entries, expected 2");
    assert_eq!(
        error(&[1.0, f64::NAN], 1, &[1.0, 0.0]),
        "x[1] must be finite, got NaN"
    );
    assert_eq!(
        error(&[1.0, 2.0], 1, &[1.0, 1.5]),
        "outcomes[1] must be in [0, 1], got 1.5"
    );
    let ridge = LogisticOptions::default().with_ridge(-1.0);
    assert!(fit(&[1.0], 1, &[1.0], &ridge).is_err());
    let prior = LogisticOptions::default().with_prior(vec![0.0; 2]);
    assert!(fit(&[1.0], 1, &[1.0], &prior).is_err());
    assert!(fit_weighted(&[1.0], 1, &[1.0], &[-1.0], &options).is_err());
    assert!(fit_weighted(&[1.0], 1, &[1.0], &[0.0], &options).is_err());
    assert!(fit(&[], usize::MAX, &[1.0, 1.0], &options).is_err());
}
