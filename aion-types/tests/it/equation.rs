//! The persistence equation: worked numbers, monotonicity, attribution, composition, lifetime.

use aion_types::Composition::{KOfN, Parallel, Series};
use aion_types::{Factors, Lifetime, Prob};
use proptest::collection::vec;
use proptest::prelude::*;

fn factors() -> impl Strategy<Value = Factors> {
    (
        0.01..10.0,
        0.01..=1.0,
        0.01..10.0,
        0.0..5.0,
        0.0..5.0,
        0.01..=1.0,
        0.01..=1.0,
    )
        .prop_map(|(income, coupling, tax, delusion, fatigue, substrate, shelter)| {
            Factors::new()
                .with_power_income(income)
                .and_then(|f| f.with_coupling_efficiency(coupling))
                .and_then(|f| f.with_entropic_tax(tax))
                .and_then(|f| f.with_delusion(delusion))
                .and_then(|f| f.with_fatigue(fatigue))
                .and_then(|f| f.with_substrate(substrate))
                .and_then(|f| f.with_shelter(shelter))
                .unwrap()
        })
}

#[test]
fn worked_number_of_the_equation() {
    let factors: Factors = serde_json::from_str(
        r#"{"power_income":2,"coupling_efficiency":0.8,"entropic_tax":1,"delusion":0.25,
            "fatigue":0.15,"substrate":0.9,"shelter":0.95}"#,
    )
    .unwrap();
    assert!((factors.ratio() - 0.977_142_9).abs() < 5e-8);
    assert!((factors.ratio().ln() - -0.023_122_4).abs() < 5e-8);
}

#[test]
fn worked_number_of_the_lifetime() {
    let Lifetime::Seconds(seconds) = Lifetime::of(1000.0, 10.0, 0.8, 0.0).unwrap() else {
        panic!("R below 1 has an end");
    };
    assert!((seconds - 500.0).abs() < 1e-9);
}

#[test]
fn a_term_outside_its_range_is_named() {
    let error = Factors::new().with_shelter(0.0).unwrap_err();
    assert_eq!(error.to_string(), "shelter must be in (0, 1], got 0");
    for bad in [
        r#"{"power_income":-1}"#,
        r#"{"power_income":1}"#,
        r#"{"unknown":1}"#,
    ] {
        assert!(serde_json::from_str::<Factors>(bad).is_err(), "{bad}");
    }
    assert!(Factors::new().with_delusion(f64::NAN).is_err());
    assert!(Lifetime::of(f64::NAN, 1.0, 0.5, 0.0).is_err());
}

proptest! {
    /// ln R is the sum of the logs of its factors.
    #[test]
    fn attribution_sums_to_ln_ratio(f in factors()) {
        prop_assert!((f.attribution().ln_ratio() - f.ratio().ln()).abs() < 1e-9);
    }

    /// R grows with income, coupling, substrate and shelter, and falls with tax, delusion and fatigue.
    #[test]
    fn ratio_is_monotone_in_every_term(f in factors(), up in 1.001..2.0_f64) {
        let r = f.ratio();
        prop_assert!(f.with_power_income(f.power_income() * up).unwrap().ratio() > r);
        prop_assert!(f.with_coupling_efficiency(f.coupling_efficiency() / up).unwrap().ratio() < r);
        prop_assert!(f.with_entropic_tax(f.entropic_tax() * up).unwrap().ratio() < r);
        prop_assert!(f.with_delusion(f.delusion() + up).unwrap().ratio() < r);
        prop_assert!(f.with_fatigue(f.fatigue() + up).unwrap().ratio() < r);
        prop_assert!(f.with_substrate(f.substrate() / up).unwrap().ratio() < r);
        prop_assert!(f.with_shelter(f.shelter() / up).unwrap().ratio() < r);
    }

    /// Income and tax in another unit give the same ratio.
    #[test]
    fn ratio_is_scale_invariant(f in factors(), scale in 0.01..100.0_f64) {
        let scaled = f.with_power_income(f.power_income() * scale).unwrap()
            .with_entropic_tax(f.entropic_tax() * scale).unwrap();
        prop_assert!((scaled.ratio() / f.ratio() - 1.0).abs() < 1e-12);
    }

    /// Series <= each part <= parallel, and k of n lies between the two and falls with k.
    #[test]
    fn composition_is_bounded_by_its_ends(parts in vec(0.0..3.0_f64, 1..8)) {
        let series = Series.integrity(&parts).unwrap();
        let parallel = Parallel.integrity(&parts).unwrap();
        for part in &parts {
            prop_assert!(series <= part.min(1.0) && part.min(1.0) <= parallel + 1e-12);
        }
        let mut last = 1.0 + 1e-12;
        for k in 1..=parts.len() {
            let some = KOfN { k }.integrity(&parts).unwrap();
            prop_assert!(series - 1e-12 <= some && some <= parallel + 1e-12 && some <= last + 1e-12);
            last = some;
        }
        prop_assert_eq!(KOfN { k: 1 }.integrity(&parts).unwrap(), parallel);
        prop_assert_eq!(KOfN { k: parts.len() }.integrity(&parts).unwrap(), series);
        for k in [0, parts.len() + 1] {
            let refused = KOfN { k }.integrity(&parts).is_err();
            prop_assert!(refused);
        }
    }

    /// A sustained delusion D shortens the lifetime by e^-D.
    #[test]
    fn delusion_shortens_life(ratio in 0.0..0.99_f64, d in 0.0..5.0_f64) {
        let seconds = |d| match Lifetime::of(100.0, 2.0, ratio, d).unwrap() {
            Lifetime::Seconds(s) => s,
            Lifetime::Unbounded => f64::INFINITY,
        };
        prop_assert!((seconds(d) / seconds(0.0) - (-d).exp()).abs() < 1e-12);
    }

    /// logit p = ln R: factors add in log-odds.
    #[test]
    fn odds_link(ln_ratio in -20.0..20.0_f64) {
        let p = Prob::from_ratio(ln_ratio.exp()).unwrap();
        prop_assert!((p.logit() - ln_ratio).abs() < 1e-6);
        prop_assert!((Prob::from_logit(ln_ratio).unwrap().get() - p.get()).abs() < 1e-12);
    }
}
