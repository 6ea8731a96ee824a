//! Probabilities, distributions in parts per million, and units.

use aion_types::{Bits, MicroBits, MilliTrust, Nats, PPM_ONE, Ppm, PpmDist, Prob};
use proptest::collection::vec;
use proptest::prelude::*;

#[test]
fn worked_numbers_of_the_odds_link() {
    assert_eq!(PpmDist::from_ratio(1.5).unwrap().parts(), [600_000, 400_000]);
    assert_eq!(PpmDist::from_ratio(0.7).unwrap().parts(), [411_765, 588_235]);
    assert_eq!(Prob::from_ratio(f64::INFINITY).unwrap(), Prob::ONE);
    assert_eq!(Prob::from_ratio(0.0).unwrap(), Prob::ZERO);
    assert!(Prob::from_ratio(-1.0).is_err() && Prob::from_ratio(f64::NAN).is_err());
}

#[test]
fn serde_refuses_what_the_constructors_refuse() {
    for bad in ["1.5", "-0.1", "null", "\"x\""] {
        assert!(serde_json::from_str::<Prob>(bad).is_err(), "{bad}");
    }
    for bad in [
        "[1000000]",
        "[]",
        "[500000,400000]",
        "[1000001,0]",
        "[-1,1000001]",
    ] {
        assert!(serde_json::from_str::<PpmDist>(bad).is_err(), "{bad}");
    }
    assert!(serde_json::from_str::<Ppm>("1000001").is_err());
    assert!(PpmDist::from_weights(&[0.0, 0.0]).is_err());
    assert!(PpmDist::from_weights(&[1.0, f64::NAN]).is_err());
    assert!(PpmDist::from_weights(&[1.0, -1.0]).is_err());
    assert!(PpmDist::from_weights(&vec![1.0; 4_097]).is_err());
    assert!(Bits::new(f64::NAN).is_err());
}

#[test]
fn trust_never_leaves_its_range() {
    let trust = MilliTrust::new(100);
    assert_eq!(trust.checked_change(-100).unwrap(), MilliTrust::new(0));
    assert!(trust.checked_change(-101).is_err());
    assert!(MilliTrust::new(u64::MAX).checked_change(1).is_err());
    assert!(MicroBits::level(Ppm::new(0).unwrap()).is_err());
}

proptest! {
    /// Largest remainder: the parts sum to one million and each is within 1 of its exact share.
    #[test]
    fn parts_sum_exactly(weights in vec(0.0..1e6_f64, 2..200)) {
        prop_assume!(weights.iter().sum::<f64>() > 0.0);
        let dist = PpmDist::from_weights(&weights).unwrap();
        prop_assert_eq!(dist.parts().iter().sum::<u32>(), PPM_ONE);
        let sum: f64 = weights.iter().sum();
        for (part, weight) in dist.parts().iter().zip(&weights) {
            prop_assert!((f64::from(*part) - weight / sum * 1e6).abs() < 1.0 + 1e-6);
        }
    }

    /// Gains are differences of integer levels, so they telescope exactly along any path.
    #[test]
    fn gains_telescope(path in vec(1..=PPM_ONE, 2..50)) {
        let level = |ppm: u32| MicroBits::level(Ppm::new(ppm).unwrap()).unwrap();
        let gains: MicroBits = path.windows(2).map(|w| level(w[1]) - level(w[0])).sum();
        prop_assert_eq!(gains, level(path[path.len() - 1]) - level(path[0]));
    }

    /// Nats and bits convert into each other without drift.
    #[test]
    fn nats_and_bits(x in -1e6..1e6_f64) {
        let back: Nats = Bits::from(Nats::new(x).unwrap()).into();
        prop_assert!((back.get() - x).abs() <= x.abs() * 1e-15);
    }
}
