//! Off-policy evaluation: theorems on policies small enough to enumerate.

use aion_router::ope::{Logged, Modelled, OpeOptions, Refused, evaluate};
use proptest::collection::vec;
use proptest::prelude::*;

fn open() -> OpeOptions {
    let mut options = OpeOptions::default();
    (options.min_effective, options.max_weight) = (0.0, f64::INFINITY);
    options
}

fn normal(weights: &[f64]) -> Vec<f64> {
    let sum: f64 = weights.iter().sum();
    weights.iter().map(|weight| weight / sum).collect()
}

proptest! {
    /// IPS and DR are unbiased: their means over all logs of one decision, weighted by how likely each log is,
    /// are the true value of the policy, whatever the model says.
    #[test]
    fn ips_and_dr_are_unbiased(
        logging in vec(0.05..1.0_f64, 3), target in vec(0.0..1.0_f64, 3),
        rewards in vec(-1.0..1.0_f64, 3), model in vec(-1.0..1.0_f64, 3),
    ) {
        prop_assume!(target.iter().sum::<f64>() > 0.1);
        let (logging, target) = (normal(&logging), normal(&target));
        let value: f64 = target.iter().zip(&rewards).map(|(p, r)| p * r).sum();
        let expected: f64 = target.iter().zip(&model).map(|(p, r)| p * r).sum();
        let (mut ips, mut dr) = (0.0, 0.0);
        for arm in 0..3 {
            let model = Some(Modelled { served: model[arm], target: expected });
            let log = [Logged { propensity: logging[arm], target: target[arm], reward: rewards[arm], model }];
            let estimate = evaluate(&log, &open()).unwrap();
            ips += logging[arm] * estimate.ips;
            dr += logging[arm] * estimate.dr.unwrap();
        }
        prop_assert!((ips - value).abs() < 1e-9 && (dr - value).abs() < 1e-9, "{} {} {}", ips, dr, value);
    }

    /// SNIPS lies between the least and the largest reward, and a constant added to all rewards adds just that.
    #[test]
    fn snips_is_a_mean(rows in vec((0.05..1.0_f64, 0.01..1.0_f64, -5.0..5.0_f64), 1..40), shift in -3.0..3.0_f64) {
        let log = |shift: f64| -> Vec<Logged> {
            let rows = rows.iter();
            rows.map(|(propensity, target, reward)| Logged {
                propensity: *propensity, target: *target, reward: reward + shift, model: None,
            }).collect()
        };
        let estimate = evaluate(&log(0.0), &open()).unwrap();
        let least = rows.iter().map(|row| row.2).fold(f64::INFINITY, f64::min);
        let most = rows.iter().map(|row| row.2).fold(f64::NEG_INFINITY, f64::max);
        prop_assert!(estimate.snips >= least - 1e-9 && estimate.snips <= most + 1e-9);
        let shifted = evaluate(&log(shift), &open()).unwrap();
        prop_assert!((shifted.snips - estimate.snips - shift).abs() < 1e-9);
        prop_assert!(estimate.effective <= rows.len() as f64 + 1e-9);
        prop_assert!(estimate.dr.is_none());
    }
}

#[test]
fn what_a_log_cannot_know_is_refused() {
    let one = |propensity, target| Logged {
        propensity,
        target,
        reward: 1.0,
        model: None,
    };
    let options = OpeOptions::default();
    assert!(matches!(evaluate(&[], &options), Err(Refused::TooFew { .. })));
    assert!(matches!(
        evaluate(&vec![one(0.5, 0.0); 500], &options),
        Err(Refused::TooFew { .. })
    ));
    assert!(matches!(
        evaluate(&[one(0.0, 1.0)], &options),
        Err(Refused::BadPropensity { at: 0, .. })
    ));
    assert!(matches!(
        evaluate(&[one(f64::NAN, 1.0)], &options),
        Err(Refused::BadPropensity { .. })
    ));
    for propensity in [1e-310, 1e-200] {
        let far = vec![one(propensity, 1.0); 200];
        assert!(
            matches!(evaluate(&far, &options), Err(Refused::TooLarge)),
            "{propensity}"
        );
    }
    let heavy: Vec<Logged> = (0..40_000)
        .map(|_| one(0.5, 0.5))
        .chain([one(0.01, 1.0)])
        .collect();
    assert!(matches!(
        evaluate(&heavy, &options),
        Err(Refused::TooHeavy { .. })
    ));
    let infinite = Logged {
        reward: f64::INFINITY,
        ..one(0.5, 0.5)
    };
    assert_eq!(evaluate(&[infinite], &options), Err(Refused::NotFinite { at: 0 }));
    let known = evaluate(&vec![one(0.5, 0.5); 200], &options).unwrap();
    assert_eq!((known.snips, known.effective, known.coverage), (1.0, 200.0, 1.0));
}
