//! Token persistence: worked numbers and laws.

use aion_types::{
    Calibration, FitOptions, PersistenceMeter, PersistenceSummary, Reference, Surroundings, TokenPersistence,
};
use proptest::collection::vec;
use proptest::prelude::*;

#[test]
fn worked_numbers_of_a_token() {
    let h = 32_768_f64.ln();
    let numbers = [
        (0.9, 10.310_851),
        (0.5, 6.731_374),
        (0.1, 3.450_996),
        (0.01, 2.033_338),
        (1.0 / 32_768.0, 1.0),
        (1e-6, 0.769_275),
    ];
    for (p, expected) in numbers {
        let ratio = TokenPersistence::new(-f64::ln(p), h).unwrap().ratio;
        assert!((ratio - expected).abs() < 5e-7, "p {p}: {ratio}");
    }
}

#[test]
fn worked_numbers_of_a_sequence() {
    let ratios = [0.2, 1.0, 3.0, 0.5].map(|s| TokenPersistence::new(s, 65_f64.ln()).unwrap().ratio);
    for (ratio, expected) in ratios.iter().zip([4.311_989, 2.587_194, 1.293_597, 3.449_592]) {
        assert!((ratio - expected).abs() < 1e-6);
    }
    let s = PersistenceSummary::of(&ratios, Reference::Uniform)
        .unwrap()
        .unwrap();
    let got = [s.r_mean, s.r_min, s.r_var, s.r_harm, s.r_geo];
    for (value, expected) in got
        .iter()
        .zip([2.910_593, 1.293_597, 1.243_424, 2.379_029, 2.656_246])
    {
        assert!((value - expected).abs() < 1e-6, "{value} is not {expected}");
    }
    assert_eq!((s.r_min_token_idx, s.n, s.frac_below_1), (2, 4, 0.0));
}

#[test]
fn the_keys_are_those_of_usage_persistence() {
    let summary = PersistenceSummary::of(&[2.0, 0.5], Reference::Unigram).unwrap();
    let json = serde_json::to_value(summary).unwrap();
    for key in [
        "R_mean",
        "R_min",
        "R_var",
        "R_min_token_idx",
        "R_harm",
        "R_geo",
        "frac_below_1",
        "n",
    ] {
        assert!(json[key].is_number(), "{key}");
    }
    assert_eq!(json["reference"], "unigram");
    assert_eq!(
        serde_json::to_value(PersistenceSummary::of(&[], Reference::Uniform).unwrap()).unwrap(),
        serde_json::Value::Null
    );
}

#[test]
fn a_surprise_of_88_in_single_precision_is_finite() {
    let surprise = f64::from(-f32::exp(-88.0).ln());
    let token = TokenPersistence::new(surprise, 49_152_f64.ln()).unwrap();
    assert!(token.ratio.is_finite() && token.ratio > 0.0);
    assert!(TokenPersistence::new(f64::INFINITY, 1.0).is_err());
    assert!(TokenPersistence::new(f64::NAN, 1.0).is_err());
}

/// A worked case: of ten answers with R = 4 nine were right, of ten with R = 1 six, of ten with R = 1/4 one. The
/// regression balances what was foreseen with what came, overall and along ln R.
#[test]
fn a_fit_balances_what_was_foreseen_with_what_came() {
    let (mut ln_ratios, mut outcomes) = (Vec::new(), Vec::new());
    for (ratio, right) in [(4.0_f64, 9), (1.0, 6), (0.25, 1)] {
        ln_ratios.extend([ratio.ln(); 10]);
        outcomes.extend((0..10).map(|i| f64::from(u8::from(i < right))));
    }
    let plain = FitOptions::default().with_ridge(0.0);
    let fit = Calibration::fit(&ln_ratios, &outcomes, plain).unwrap();
    let foreseen = |ratio: f64| fit.calibration.prob(ratio).unwrap().get();
    let (high, middle, low) = (foreseen(4.0), foreseen(1.0), foreseen(0.25));
    assert!((10.0 * (high + middle + low) - 16.0).abs() < 1e-9);
    assert!((10.0 * (high - low) - 8.0).abs() < 1e-9);
    assert!(
        (fit.calibration.a - 1.600_759).abs() < 1e-6 && (fit.calibration.c - 0.234_475).abs() < 1e-6,
        "{fit:?}"
    );
    assert!(fit.bits_after < fit.bits_before && fit.n == 30);
    let held = Calibration::fit(&ln_ratios, &outcomes, FitOptions::default())
        .unwrap()
        .calibration;
    assert!(held.a > 1.0 && held.a < fit.calibration.a);
    assert_eq!(
        Calibration::fit(&[], &[], FitOptions::default())
            .unwrap()
            .calibration,
        Calibration::default()
    );
    for (ln_ratio, outcome) in [
        (f64::NAN, 1.0),
        (f64::INFINITY, 1.0),
        (0.0, 1.5),
        (0.0, -0.1),
        (0.0, f64::NAN),
    ] {
        assert!(Calibration::fit(&[ln_ratio], &[outcome], FitOptions::default()).is_err());
    }
    assert!(Calibration::fit(&[0.0], &[], FitOptions::default()).is_err());
    assert!(Calibration::fit(&[0.0], &[1.0], FitOptions::default().with_ridge(-1.0)).is_err());
}

/// A summary from before there was a probability reads and writes as it did.
#[test]
fn a_probability_is_there_only_where_it_was_asked_for() {
    let plain = PersistenceSummary::of(&[2.0, 0.5], Reference::Uniform)
        .unwrap()
        .unwrap();
    let written = serde_json::to_value(plain).unwrap();
    assert!(written.get("p").is_none() && written.get("calibration").is_none());
    assert_eq!(
        serde_json::from_value::<PersistenceSummary>(written).unwrap(),
        plain
    );
    let with = plain.calibrated(Calibration { a: 2.0, c: 0.5 });
    let written = serde_json::to_value(with).unwrap();
    assert_eq!(written["calibration"], serde_json::json!({"a": 2.0, "c": 0.5}));
    let expected = 1.0 / (1.0 + (-(2.0 * 0.8_f64.ln() + 0.5)).exp());
    assert!((written["p"].as_f64().unwrap() - expected).abs() < 1e-12);
    assert_eq!(
        serde_json::from_value::<PersistenceSummary>(written).unwrap(),
        with
    );
    assert_eq!(plain.calibrated(Calibration { a: f64::NAN, c: 0.0 }), plain);
}

proptest! {
    /// A fit never tells less of its own examples than the odds link does, its minimum is flat, and a probability is
    /// one and grows with R where the slope is positive.
    #[test]
    fn a_fit_is_a_minimum(
        examples in vec((-3.0..3.0_f64, 0.0..=1.0_f64), 1..60), ridge in 0.01..5.0_f64, at in -5.0..5.0_f64,
    ) {
        let (ln_ratios, outcomes): (Vec<f64>, Vec<f64>) = examples.into_iter().unzip();
        let fit = Calibration::fit(&ln_ratios, &outcomes, FitOptions::default().with_ridge(ridge)).unwrap();
        let Calibration { a, c } = fit.calibration;
        let (mut by_a, mut by_c) = (ridge * (a - 1.0), ridge * c);
        for (x, t) in ln_ratios.iter().zip(&outcomes) {
            let p = fit.calibration.prob_of_ln(*x).unwrap().get();
            by_a += (p - t) * x;
            by_c += p - t;
        }
        prop_assert!(by_a.abs() < 1e-6 && by_c.abs() < 1e-6, "{by_a} {by_c} {fit:?}");
        prop_assert!(fit.bits_after <= fit.bits_before + 1e-12);
        let (p, higher) = (fit.calibration.prob_of_ln(at).unwrap(), fit.calibration.prob_of_ln(at + 1.0).unwrap());
        let grows = if a >= 0.0 { higher >= p } else { higher <= p };
        prop_assert!(grows);
    }

    /// R = 1 exactly where s + Gamma = h; R falls with s and Gamma and grows with h; 0 < R <= 1 + h.
    #[test]
    fn laws_of_a_token(s in 0.0..88.0_f64, h in 0.001..20.0_f64, gamma in 0.0..5.0_f64, up in 0.01..5.0_f64) {
        let ratio = |s, h, fatigue| {
            TokenPersistence::within(s, h, Surroundings { fatigue, ..Surroundings::default() }).unwrap().ratio
        };
        let r = ratio(s, h, gamma);
        prop_assert!(r > 0.0 && r <= 1.0 + h);
        prop_assert!(ratio(s + up, h, gamma) < r && ratio(s, h, gamma + up) < r && ratio(s, h + up, gamma) > r);
        prop_assert!((ratio(s, s + gamma, gamma) - 1.0).abs() < 1e-12);
    }

    /// R_min <= R_harm <= R_geo <= R_mean.
    #[test]
    fn means_are_ordered(ratios in vec(0.01..20.0_f64, 1..200)) {
        let s = PersistenceSummary::of(&ratios, Reference::Uniform).unwrap().unwrap();
        prop_assert!(s.r_min <= s.r_harm * (1.0 + 1e-12));
        prop_assert!(s.r_harm <= s.r_geo * (1.0 + 1e-12));
        prop_assert!(s.r_geo <= s.r_mean * (1.0 + 1e-12));
        let mean = ratios.iter().sum::<f64>() / ratios.len() as f64;
        let var = ratios.iter().map(|r| (r - mean).powi(2)).sum::<f64>() / ratios.len() as f64;
        prop_assert!((s.r_mean - mean).abs() < 1e-9 && (s.r_var - var).abs() < 1e-9);
        prop_assert_eq!(ratios[s.r_min_token_idx as usize], s.r_min);
        prop_assert!(ratios[..s.r_min_token_idx as usize].iter().all(|r| *r > s.r_min));
    }

    /// R_harm of a concatenation is the token-weighted harmonic mean of the parts.
    #[test]
    fn harmonic_mean_composes(a in vec(0.01..20.0_f64, 1..50), b in vec(0.01..20.0_f64, 1..50)) {
        let harm = |r: &[f64]| PersistenceSummary::of(r, Reference::Uniform).unwrap().unwrap().r_harm;
        let whole = [a.as_slice(), b.as_slice()].concat();
        let (n, m) = (a.len() as f64, b.len() as f64);
        let parts = (n + m) / (n / harm(&a) + m / harm(&b));
        prop_assert!((harm(&whole) / parts - 1.0).abs() < 1e-12);
    }

    /// The streaming meter agrees with itself wherever it is asked.
    #[test]
    fn a_prefix_has_its_own_summary(ratios in vec(0.01..20.0_f64, 1..50), at in 0_usize..50) {
        let at = at.min(ratios.len());
        let mut meter = PersistenceMeter::new(Reference::Entropy);
        ratios[..at].iter().for_each(|r| meter.push(*r).unwrap());
        prop_assert_eq!(meter.summary(), PersistenceSummary::of(&ratios[..at], Reference::Entropy).unwrap());
    }
}
