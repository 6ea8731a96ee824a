//! The continuous ranked probability score: of an ensemble, and in closed form.

use crate::Result;
use crate::error::{Error, check, check_finite};

/// The continuous ranked probability score of an ensemble:
/// `mean |x_i - y| - sum |x_i - x_j| / (2 m^2)`, at least 0, in the unit of `y`.
///
/// Sorts a copy; [`crps_sorted`] is the form without allocation.
///
/// ```
/// use aion_market::score::crps_ensemble;
///
/// assert!((crps_ensemble(&[3.0, 1.0, 2.0], 2.5)? - 0.388_888_888_888_888_9).abs() < 1e-15);
/// assert_eq!(crps_ensemble(&[2.0], 5.0)?, 3.0);
/// # Ok::<(), aion_market::Error>(())
/// ```
///
/// # Errors
/// [`Error`] for no member, or one that is not finite.
///
/// # Sources
/// T. Gneiting and A. E. Raftery, Strictly proper scoring rules, prediction, and estimation, 2007,
/// equation 21, of the empirical distribution of the members.
pub fn crps_ensemble(members: &[f64], y: f64) -> Result<f64> {
    crps_sorted(&sorted(members)?, y)
}

/// [`crps_ensemble`] of members in ascending order.
///
/// With the members sorted, `sum |x_i - x_j| = 2 sum_i (2 i + 1 - m) x_i`.
///
/// ```
/// use aion_market::score::crps_sorted;
///
/// assert!((crps_sorted(&[1.0, 2.0, 3.0], 2.5)? - 0.388_888_888_888_888_9).abs() < 1e-15);
/// assert!(crps_sorted(&[2.0, 1.0], 2.5).is_err());
/// # Ok::<(), aion_market::Error>(())
/// ```
///
/// # Errors
/// [`Error`] for no member, one that is not finite, or members out of order.
pub fn crps_sorted(members: &[f64], y: f64) -> Result<f64> {
    let m = members.len() as f64;
    let (error, spread) = parts(members, y)?;
    Ok((error / m - spread / (m * m)).max(0.0))
}

/// The fair score of an ensemble: `mean |x_i - y| - sum |x_i - x_j| / (2 m (m - 1))`, in the unit of
/// `y`.
///
/// Its expectation does not depend on the number of members, so ensembles of different sizes may be
/// compared; a single lucky one may score below 0.
///
/// ```
/// use aion_market::score::crps_fair;
///
/// // mean |x - y| = 5/6, and the three pairs lie 1, 1 and 2 apart.
/// assert!((crps_fair(&[3.0, 1.0, 2.0], 2.5)? - 1.0 / 6.0).abs() < 1e-15);
/// # Ok::<(), aion_market::Error>(())
/// ```
///
/// # Errors
/// [`Error`] for fewer than two members, or one that is not finite.
///
/// # Sources
/// C. A. T. Ferro, Fair scores for ensemble forecasts, 2014, equation 10.
pub fn crps_fair(members: &[f64], y: f64) -> Result<f64> {
    if members.len() < 2 {
        return Err(Error::Shape {
            what: "an ensemble",
            found: members.len(),
            expected: 2,
        });
    }
    let m = members.len() as f64;
    let (error, spread) = parts(&sorted(members)?, y)?;
    Ok(error / m - spread / (m * (m - 1.0)))
}

/// The score of the normal distribution: `s (z (2 Phi(z) - 1) + 2 phi(z) - 1/sqrt(pi))` with
/// `z = (y - mean)/s`, in the unit of `y`.
///
/// ```
/// use aion_market::score::crps_normal;
///
/// assert!((crps_normal(0.0, 1.0, 0.0)? - 0.233_694_977_255_109_13).abs() < 1e-15);
/// # Ok::<(), aion_market::Error>(())
/// ```
///
/// # Errors
/// [`Error::OutOfRange`] for a number that is not finite, or a deviation that is not above 0.
///
/// # Sources
/// T. Gneiting et al., Calibrated probabilistic forecasting using ensemble model output statistics
/// and minimum CRPS estimation, 2005, equation 5.
pub fn crps_normal(mean: f64, deviation: f64, y: f64) -> Result<f64> {
    let z = standardise(mean, deviation, y)?;
    let density = (-0.5 * z * z).exp() * (2.0 / std::f64::consts::PI).sqrt();
    let centre = z * libm::erf(z * std::f64::consts::FRAC_1_SQRT_2);
    Ok(deviation * (centre + density - std::f64::consts::FRAC_2_SQRT_PI / 2.0))
}

/// The score of the logistic distribution: `s (|z| + 2 ln(1 + e^-|z|) - 1)` with
/// `z = (y - location)/s`, in the unit of `y`.
///
/// ```
/// use aion_market::score::crps_logistic;
///
/// assert!((crps_logistic(0.0, 1.0, 0.0)? - (2.0 * std::f64::consts::LN_2 - 1.0)).abs() < 1e-15);
/// # Ok::<(), aion_market::Error>(())
/// ```
///
/// # Errors
/// [`Error::OutOfRange`] for a number that is not finite, or a scale that is not above 0.
///
/// # Sources
/// A. Jordan, F. Krueger and S. Lerch, Evaluating probabilistic forecasts with scoringRules, 2019,
/// appendix A.
pub fn crps_logistic(location: f64, scale: f64, y: f64) -> Result<f64> {
    let z = standardise(location, scale, y)?.abs();
    Ok(scale * (z + 2.0 * (-z).exp().ln_1p() - 1.0))
}

fn standardise(location: f64, scale: f64, y: f64) -> Result<f64> {
    check("a location", "finite", location, location.is_finite())?;
    check(
        "a scale",
        "finite and above 0",
        scale,
        scale.is_finite() && scale > 0.0,
    )?;
    check("an observation", "finite", y, y.is_finite())?;
    let z = (y - location) / scale;
    check("a distance in scales", "finite", z, z.is_finite())
}

fn sorted(members: &[f64]) -> Result<Vec<f64>> {
    check_finite("an ensemble", members)?;
    let mut sorted = members.to_vec();
    sorted.sort_by(f64::total_cmp);
    Ok(sorted)
}

/// `sum |x_i - y|` and half of `sum |x_i - x_j|`, of members in ascending order.
fn parts(members: &[f64], y: f64) -> Result<(f64, f64)> {
    check_finite("an ensemble", members)?;
    check("an observation", "finite", y, y.is_finite())?;
    if members.is_empty() {
        return Err(Error::Shape {
            what: "an ensemble",
            found: 0,
            expected: 1,
        });
    }
    if let Some(i) = members.windows(2).position(|pair| pair[0] > pair[1]) {
        let (index, value) = (i + 1, members[i + 1]);
        return Err(Error::BadEntry {
            what: "an ensemble",
            index,
            range: "in ascending order",
            value,
        });
    }
    let m = members.len() as f64;
    // Distances from y keep the sums small.
    let error: f64 = members.iter().map(|x| (x - y).abs()).sum();
    let ranked = members
        .iter()
        .enumerate()
        .map(|(i, x)| (2.0 * i as f64 + 1.0 - m) * (x - y));
    let spread: f64 = ranked.sum();
    check("a sum of distances", "finite", error, error.is_finite())?;
    check("a spread", "finite", spread, spread.is_finite())?;
    Ok((error, spread))
}
