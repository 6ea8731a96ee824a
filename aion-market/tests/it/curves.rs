//! Reliability curves: bins, errors, and P19, Murphy's identity.

use aion_market::interval::{Interval, Z_95};
use aion_market::reliability::{Binning, MAX_BINS, Reliability};
use proptest::collection::vec;
use proptest::prelude::*;

fn binning() -> impl Strategy<Value = Binning> {
    prop_oneof![
        (1_usize..30).prop_map(Binning::EqualWidth),
        (1_usize..30).prop_map(Binning::EqualMass)
    ]
}

fn forecasts() -> impl Strategy<Value = Vec<(f64, f64)>> {
    let p = prop_oneof![3 => 0.0..=1.0_f64, 1 => Just(0.0), 1 => Just(1.0), 2 => (0_u8..=4).prop_map(|p| f64::from(p) / 4.0)];
    vec((p, prop_oneof![Just(0.0), Just(1.0), 0.0..=1.0_f64]), 1..150)
}

#[test]
fn bins_are_bounded_and_rows_are_checked() {
    for bins in [0, MAX_BINS + 1, usize::MAX] {
        for binning in [Binning::EqualWidth(bins), Binning::EqualMass(bins)] {
            assert!(Reliability::binned(&[0.5], &[1.0], binning).is_err());
        }
    }
    assert!(Reliability::of(&[], &[], 5).is_err());
    assert!(Reliability::of(&[0.5, f64::NAN], &[1.0, 0.0], 5).is_err());
    assert!(Reliability::of(&[0.5], &[1.5], 5).is_err());
}

/// The interval of Wilson holds the frequency, stays in [0, 1] and shrinks with n.
#[test]
fn wilson_intervals_hold_the_frequency() {
    for f in [0.0, 0.1, 0.5, 1.0] {
        let mut width = f64::INFINITY;
        for n in [1_u64, 10, 100, 10_000] {
            let interval = Interval::wilson(f * n as f64, n, Z_95).unwrap();
            assert!(interval.lower >= 0.0 && interval.upper <= 1.0 && interval.contains(f));
            assert!(interval.width() < width);
            width = interval.width();
        }
    }
}

#[test]
fn equal_forecasts_share_a_bin() {
    let (p, o) = ([0.5; 10], [1.0, 0.0, 1.0, 0.0, 1.0, 0.0, 1.0, 0.0, 1.0, 0.0]);
    let curve = Reliability::binned(&p, &o, Binning::EqualMass(5)).unwrap();
    assert_eq!(curve.bins.len(), 1);
    assert_eq!(
        (curve.bins[0].lower, curve.bins[0].upper, curve.bins[0].n),
        (0.0, 1.0, 10)
    );
    assert_eq!((curve.ece(), curve.mce(), curve.sharpness()), (0.0, 0.0, 0.0));
}

proptest! {
    /// P19: the five parts give back the Brier score, for any binning and for outcomes in parts.
    #[test]
    fn murphys_parts_sum_to_the_brier_score(rows in forecasts(), binning in binning()) {
        let (p, o): (Vec<f64>, Vec<f64>) = rows.iter().copied().unzip();
        let direct = rows.iter().map(|(p, o)| (p - o).powi(2)).sum::<f64>() / rows.len() as f64;
        let curve = Reliability::binned(&p, &o, binning).unwrap();
        let parts = curve.murphy();
        let sum = parts.reliability - parts.resolution + parts.uncertainty() + parts.variance_within - parts.covariance_within;
        prop_assert!((sum - direct).abs() < 1e-12, "{sum} {direct}");
        prop_assert!((parts.brier() - direct).abs() < 1e-12);
        let mean = o.iter().sum::<f64>() / o.len() as f64;
        let variance = o.iter().map(|o| (o - mean).powi(2)).sum::<f64>() / o.len() as f64;
        prop_assert!((parts.uncertainty() - variance).abs() < 1e-12);
    }

    /// Bins part the unit interval, hold every forecast once, and do not depend on the order of rows.
    #[test]
    fn bins_part_the_forecasts(rows in forecasts(), binning in binning()) {
        let (p, o): (Vec<f64>, Vec<f64>) = rows.iter().copied().unzip();
        let curve = Reliability::binned(&p, &o, binning).unwrap();
        prop_assert_eq!(curve.bins[0].lower, 0.0);
        prop_assert_eq!(curve.bins[curve.bins.len() - 1].upper, 1.0);
        prop_assert!(curve.bins.windows(2).all(|pair| pair[0].upper == pair[1].lower));
        prop_assert_eq!(curve.bins.iter().map(|bin| bin.n).sum::<u64>(), rows.len() as u64);
        for bin in curve.bins.iter().filter(|bin| bin.n > 0) {
            prop_assert!(bin.mean_forecast >= bin.lower - 1e-12 && bin.mean_forecast <= bin.upper + 1e-12);
            let interval = bin.wilson(Z_95).unwrap().unwrap();
            prop_assert!(interval.contains(bin.mean_outcome), "{interval:?} {}", bin.mean_outcome);
        }
        let (p, o): (Vec<f64>, Vec<f64>) = rows.iter().rev().copied().unzip();
        let reversed = Reliability::binned(&p, &o, binning).unwrap();
        prop_assert_eq!(reversed.bins.len(), curve.bins.len());
        prop_assert!((reversed.ece() - curve.ece()).abs() < 1e-12);
    }

    /// The mean gap is at most the largest, and its square at most the reliability (Jensen).
    #[test]
    fn calibration_errors_are_ordered(rows in forecasts(), binning in binning()) {
        let (p, o): (Vec<f64>, Vec<f64>) = rows.iter().copied().unzip();
        let curve = Reliability::binned(&p, &o, binning).unwrap();
        prop_assert!(curve.ece() <= curve.mce() + 1e-12);
        prop_assert!(curve.ece().powi(2) <= curve.murphy().reliability + 1e-12);
        prop_assert!((0.0..=0.25 + 1e-12).contains(&curve.sharpness()));
        // Coarser bins of equal width hide gaps, they never make them.
        if let Binning::EqualWidth(bins) = binning {
            let finer = Reliability::of(&p, &o, 2 * bins).unwrap();
            prop_assert!(curve.ece() <= finer.ece() + 1e-12);
        }
    }
}
