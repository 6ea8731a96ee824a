//! Calibrators: what a fit may promise, what it refuses, and how it is saved.

use aion_market::Error;
use aion_market::calibration::{
    Calibrator, Examples, Folds, Losses, Map, Method, Recipe, Targets, isotonic, isotonic_into, out_of_fold,
};
use proptest::collection::vec;
use proptest::prelude::*;

const METHODS: [Method; 4] = [Method::Temperature, Method::Platt, Method::Beta, Method::Isotonic];

fn rows() -> impl Strategy<Value = (Vec<f64>, Vec<f64>)> {
    let p = prop_oneof![4 => 0.0..=1.0_f64, 1 => Just(0.0), 1 => Just(1.0), 2 => (0_u8..=10).prop_map(|p| f64::from(p) / 10.0)];
    vec((p, any::<bool>()), 1..60).prop_map(|rows| {
        let o = rows.iter().map(|(_, o)| f64::from(u8::from(*o))).collect();
        (rows.into_iter().map(|(p, _)| p).collect(), o)
    })
}

/// The log loss of forecasts clipped as the fit saw them, in nats.
fn clipped_loss(p: &[f64], t: &[f64], eps: f64) -> f64 {
    let one = |(p, t): (&f64, &f64)| {
        let p = p.clamp(eps, 1.0 - eps);
        -t * p.ln() - (1.0 - t) * (-p).ln_1p()
    };
    p.iter().zip(t).map(one).sum()
}

fn smoothed(o: &[f64]) -> Vec<f64> {
    let (n, hits) = (o.len() as f64, o.iter().sum::<f64>());
    let (high, low) = ((hits + 1.0) / (hits + 2.0), 1.0 / (n - hits + 2.0));
    o.iter().map(|o| low + (high - low) * o).collect()
}

#[test]
fn its_own_rows_are_refused() {
    let (p, o) = ([0.2, 0.4, 0.6, 0.8], [0.0, 1.0, 0.0, 1.0]);
    let plain = Calibrator::fit(Recipe::new(Method::Platt), &Examples::new(&p, &o).unwrap()).unwrap();
    // The same rows in another order are the same rows.
    let (again, happened) = ([0.8, 0.2, 0.4, 0.6], [1.0, 0.0, 1.0, 0.0]);
    let shuffled = Examples::new(&again, &happened).unwrap();
    assert!(matches!(
        plain.evaluate(&shuffled),
        Err(Error::TrainedOn { row: 0 })
    ));
    let others = Examples::new(&[0.3, 0.7], &[0.0, 1.0]).unwrap();
    let evaluation = plain.evaluate(&others).unwrap();
    assert_eq!(evaluation.rows, 2);
    assert_eq!(evaluation.before, Losses::of(&others).unwrap());

    let named = Examples::new(&p, &o)
        .unwrap()
        .with_keys(["a", "b", "c", "c"])
        .unwrap();
    let fit = Calibrator::fit(Recipe::new(Method::Platt), &named).unwrap();
    assert_eq!(fit.training().keys.len(), 3);
    let fresh = Examples::new(&[0.3, 0.7], &[0.0, 1.0])
        .unwrap()
        .with_keys(["x", "b"])
        .unwrap();
    assert!(matches!(fit.evaluate(&fresh), Err(Error::TrainedOn { row: 1 })));
    let fresh = fresh.with_keys(["x", "y"]).unwrap();
    assert!(fit.evaluate(&fresh).is_ok());
}

#[test]
fn a_saved_calibrator_is_the_same_to_the_bit() {
    let p: Vec<f64> = (1..40).map(|i| f64::from(i) / 40.3).collect();
    let o: Vec<f64> = (1..40).map(|i| f64::from(u8::from(i * 7 % 11 < i / 4))).collect();
    let mut digests = Vec::new();
    for method in METHODS {
        let names: Vec<String> = (1..40).map(|i| format!("task-{i}")).collect();
        let examples = Examples::new(&p, &o).unwrap().with_keys(&names).unwrap();
        let fit = Calibrator::fit(Recipe::new(method).with_eps(1.0 / 3e5).unwrap(), &examples).unwrap();
        let text = serde_json::to_string(&fit).unwrap();
        let read: Calibrator = serde_json::from_str(&text).unwrap();
        assert_eq!(read, fit);
        assert_eq!(read.digest().unwrap(), fit.digest().unwrap());
        assert_eq!(
            read.apply(0.37).unwrap().to_bits(),
            fit.apply(0.37).unwrap().to_bits()
        );
        assert_eq!(fit.map().method(), method);
        digests.push(fit.digest().unwrap());
    }
    digests.sort();
    digests.dedup();
    assert_eq!(digests.len(), METHODS.len());
}

#[test]
fn what_was_tampered_with_is_not_read() {
    let read = |map: &str, eps: &str, rules: u32| {
        serde_json::from_str::<Calibrator>(&format!(
            r#"{{"rules":{rules},"map":{map},"eps":"{eps}","targets":"raw","training":{{"rows":1,"digest":"x","keys":["00000000000000ff"]}}}}"#
        ))
    };
    let platt = r#"{"method":"platt","a":"1","c":"0.5"}"#;
    assert!(read(platt, "0.001", 1).is_ok());
    assert!(read(platt, "0.001", 2).is_err());
    assert!(read(platt, "0.7", 1).is_err());
    for map in [
        r#"{"method":"platt","a":"NaN","c":"0"}"#,
        r#"{"method":"platt","a":"inf","c":"0"}"#,
        r#"{"method":"platt","a":"1","c":"0","d":"0"}"#,
        r#"{"method":"temperature","a":"-1"}"#,
        r#"{"method":"beta","a":"-1","b":"1","c":"0"}"#,
        r#"{"method":"isotonic","knots":[]}"#,
        r#"{"method":"isotonic","knots":[{"p":"0.1","q":"1.5"}]}"#,
        r#"{"method":"isotonic","knots":[{"p":"0.5","q":"0.2"},{"p":"0.1","q":"0.3"}]}"#,
        r#"{"method":"isotonic","knots":[{"p":"0.1","q":"0.3"},{"p":"0.5","q":"0.2"}]}"#,
    ] {
        assert!(read(map, "0.001", 1).is_err(), "{map}");
    }
}

#[test]
fn examples_are_checked() {
    assert!(matches!(
        Examples::new(&[], &[]),
        Err(Error::Shape { found: 0, .. })
    ));
    assert!(matches!(Examples::new(&[0.5], &[]), Err(Error::Shape { .. })));
    assert!(matches!(
        Examples::new(&[0.5, f64::NAN], &[0.0, 1.0]),
        Err(Error::BadEntry { index: 1, .. })
    ));
    assert!(matches!(
        Examples::new(&[0.5], &[-0.1]),
        Err(Error::BadEntry { index: 0, .. })
    ));
    let one = || Examples::new(&[0.5], &[1.0]).unwrap();
    assert!(one().with_weights(&[0.0]).is_err());
    assert!(one().with_weights(&[1.0, 1.0]).is_err());
    assert!(one().with_keys(["a", "b"]).is_err());
    assert!(out_of_fold(Recipe::new(Method::Platt), &one(), Folds::new(2, 0)).is_err());
    assert!(Recipe::new(Method::Platt).with_ridge(-1.0).is_err());
    assert!(Recipe::new(Method::Platt).with_eps(0.0).is_err());
    assert!(isotonic(&[1.0, f64::NAN], &[]).is_err());
    assert!(isotonic(&[1.0, 2.0], &[1.0]).is_err());
    assert!(isotonic_into(&[1.0], &[], &mut [0.0, 0.0]).is_err());
    assert!(isotonic(&[], &[]).unwrap().is_empty());
    let fit = Calibrator::fit(Recipe::new(Method::Isotonic), &one()).unwrap();
    assert!(fit.apply(1.5).is_err());
    assert!(fit.apply(f64::NAN).is_err());
    let mut out = [9.0];
    assert!(fit.apply_into(&[0.5, 0.5], &mut out).is_err());
    assert_eq!(out, [9.0]);
}

#[test]
fn folds_keep_rows_of_one_name_together() {
    // Two tasks, each told four times: a fold never sees its own task, so neither can shine.
    let (p, o) = ([0.5; 8], [1.0, 1.0, 1.0, 1.0, 0.0, 0.0, 0.0, 0.0]);
    let names = ["a", "a", "a", "a", "b", "b", "b", "b"];
    let examples = Examples::new(&p, &o).unwrap().with_keys(names).unwrap();
    let recipe = Recipe::new(Method::Isotonic).with_targets(Targets::Raw);
    for seed in 0..8 {
        assert_eq!(
            out_of_fold(recipe, &examples, Folds::new(2, seed)).unwrap(),
            [0.0, 0.0, 0.0, 0.0, 1.0, 1.0, 1.0, 1.0]
        );
    }
    assert!(out_of_fold(recipe, &examples, Folds::new(3, 0)).is_err());
}

/// Every second row happened. Dealt in the order of the file, two folds would be all of one kind and
/// of the other: each row would be told the opposite of what happened.
#[test]
fn a_pattern_of_the_file_is_no_pattern_of_the_folds() {
    let o: Vec<f64> = (0..400).map(|i| f64::from(i % 2)).collect();
    let p = vec![0.5; o.len()];
    let examples = Examples::new(&p, &o).unwrap();
    let recipe = Recipe::new(Method::Isotonic).with_targets(Targets::Raw);
    let dealt = |seed| out_of_fold(recipe, &examples, Folds::new(2, seed)).unwrap();
    for seed in 0..20 {
        let honest = dealt(seed);
        assert!(
            honest.iter().all(|q| (0.35..=0.65).contains(q)),
            "{seed}: {honest:?}"
        );
        assert_eq!(honest, dealt(seed));
    }
    assert!((1..20).any(|seed| dealt(seed) != dealt(0)));
}

/// A forecaster who says twice the log-odds that he should: every method finds it out on rows that it
/// has not seen.
#[test]
fn every_method_helps_who_dares_too_much() {
    let truth = |p: f64| 1.0 / (1.0 + (-0.5 * (p / (1.0 - p)).ln() - 0.2).exp());
    let p: Vec<f64> = (0..2_000)
        .map(|i| 0.01 + 0.98 * (f64::from(i) * 0.618_034).fract())
        .collect();
    let o: Vec<f64> = p
        .iter()
        .enumerate()
        .map(|(i, p)| f64::from(u8::from((i as f64 * 0.754_877).fract() < truth(*p))))
        .collect();
    let (train, test) = (
        Examples::new(&p[..1_000], &o[..1_000]).unwrap(),
        Examples::new(&p[1_000..], &o[1_000..]).unwrap(),
    );
    for method in METHODS {
        let evaluation = Calibrator::fit(Recipe::new(method), &train)
            .unwrap()
            .evaluate(&test)
            .unwrap();
        assert!(
            evaluation.after.log_bits < evaluation.before.log_bits - 0.02,
            "{method:?} {evaluation:?}"
        );
        assert!(evaluation.after.brier < evaluation.before.brier, "{method:?}");
        assert!(evaluation.after.ece < evaluation.before.ece, "{method:?}");
    }
}

proptest! {
    /// A family that holds the identity never does worse than it on what it is fitted to.
    #[test]
    fn no_fit_is_worse_than_the_identity((p, o) in rows()) {
        for method in [Method::Temperature, Method::Platt, Method::Beta] {
            for (targets, aims) in [(Targets::Raw, o.clone()), (Targets::Smoothed, smoothed(&o))] {
                let fit = Calibrator::fit(Recipe::new(method).with_targets(targets), &Examples::new(&p, &o).unwrap()).unwrap();
                let mut fitted = vec![0.0; p.len()];
                fit.apply_into(&p, &mut fitted).unwrap();
                let (before, after) = (clipped_loss(&p, &aims, 1e-6), clipped_loss(&fitted, &aims, 1e-15));
                prop_assert!(after <= before + 1e-6 * (1.0 + before), "{method:?} {targets:?}: {after} > {before}");
            }
        }
    }

    /// Beta calibration holds Platt's maps, so on its training rows it is never worse.
    #[test]
    fn beta_is_never_worse_than_temperature_on_its_rows((p, o) in rows()) {
        let aims = smoothed(&o);
        let loss = |method| {
            let fit = Calibrator::fit(Recipe::new(method), &Examples::new(&p, &o).unwrap()).unwrap();
            let mut fitted = vec![0.0; p.len()];
            fit.apply_into(&p, &mut fitted).unwrap();
            clipped_loss(&fitted, &aims, 1e-15)
        };
        let (beta, temperature) = (loss(Method::Beta), loss(Method::Temperature));
        prop_assert!(beta <= temperature + 1e-6 * (1.0 + temperature), "{beta} > {temperature}");
    }

    /// Smoothed, no finite set of rows makes a calibrator certain; and every method but Platt's is
    /// monotone.
    #[test]
    fn calibrated_forecasts_are_monotone_and_never_certain((p, o) in rows()) {
        for method in METHODS {
            let fit = Calibrator::fit(Recipe::new(method), &Examples::new(&p, &o).unwrap()).unwrap();
            let asked: Vec<f64> = (0..=50).map(|i| f64::from(i) / 50.0).collect();
            let said: Vec<f64> = asked.iter().map(|p| fit.apply(*p).unwrap()).collect();
            prop_assert!(said.iter().all(|q| (0.0..=1.0).contains(q)));
            if method != Method::Platt {
                prop_assert!(said.windows(2).all(|pair| pair[0] <= pair[1] + 1e-15), "{method:?} {said:?}");
            }
            if let Map::Isotonic { knots } = fit.map() {
                prop_assert!(knots.iter().all(|knot| knot.q > 0.0 && knot.q < 1.0));
            }
        }
    }

    /// Pooling adjacent violators gives the best monotone fit: the max-min of the means of runs.
    #[test]
    fn isotonic_is_the_best_monotone_fit(rows in vec((-5.0..5.0_f64, 0.1..4.0_f64), 1..25)) {
        let (y, w): (Vec<f64>, Vec<f64>) = rows.into_iter().unzip();
        let fit = isotonic(&y, &w).unwrap();
        prop_assert!(fit.windows(2).all(|pair| pair[0] <= pair[1]));
        let mean = |j: usize, k: usize| {
            let sum: f64 = (j..=k).map(|i| y[i] * w[i]).sum();
            sum / w[j..=k].iter().sum::<f64>()
        };
        for (i, fit) in fit.iter().enumerate() {
            let best = (0..=i)
                .map(|j| (i..y.len()).map(|k| mean(j, k)).fold(f64::INFINITY, f64::min))
                .fold(f64::NEG_INFINITY, f64::max);
            prop_assert!((fit - best).abs() < 1e-9, "{fit} {best}");
        }
    }

    /// No other monotone sequence has a smaller squared error.
    #[test]
    fn no_monotone_sequence_beats_isotonic(y in vec(-5.0..5.0_f64, 1..20), other in vec(-5.0..5.0_f64, 20)) {
        let fit = isotonic(&y, &[]).unwrap();
        let mut other = other[..y.len()].to_vec();
        other.sort_by(f64::total_cmp);
        let error = |of: &[f64]| of.iter().zip(&y).map(|(a, b)| (a - b).powi(2)).sum::<f64>();
        prop_assert!(error(&fit) <= error(&other) + 1e-9);
        // Its own values are its own fit.
        prop_assert_eq!(isotonic(&fit, &[]).unwrap(), fit);
    }

    /// Equal rows, and rows that count twice, are the same.
    #[test]
    fn a_weight_of_two_is_a_row_told_twice((p, o) in rows()) {
        let (twice_p, twice_o) = ([p.clone(), p.clone()].concat(), [o.clone(), o.clone()].concat());
        let weights = vec![2.0; p.len()];
        for method in METHODS {
            let recipe = Recipe::new(method).with_ridge(0.5).unwrap();
            let weighted = Calibrator::fit(recipe, &Examples::new(&p, &o).unwrap().with_weights(&weights).unwrap()).unwrap();
            let doubled = Calibrator::fit(recipe, &Examples::new(&twice_p, &twice_o).unwrap()).unwrap();
            for asked in [0.0, 0.2, 0.5, 0.9, 1.0] {
                let (a, b) = (weighted.apply(asked).unwrap(), doubled.apply(asked).unwrap());
                prop_assert!((a - b).abs() < 1e-6, "{method:?} at {asked}: {a} {b}");
            }
        }
    }
}
