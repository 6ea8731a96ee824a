//! Information between distributions, in nats: KL, Jensen-Shannon, entropy, cross-entropy.
//! Definitions and worked numbers: `docs/math/scoring.md`.

use crate::error::{Result, check_dist, check_len};

/// `KL(p || q) = sum_k p_k ln(p_k / q_k)` in nats: at least 0, never NaN.
///
/// `0 ln 0` is 0; where `q_k = 0 < p_k` it is infinite, and says so. Computed as `sum q phi(t)` with
/// `t = (p - q)/q` and `phi(t) = (1 + t) ln(1 + t) - t`, whose terms are not negative, so that nearly
/// equal distributions do not cancel:
///
/// ```
/// use aion_market::divergence::kl;
///
/// let p = 0.5 + 1e-9;
/// let near = kl(&[p, 1.0 - p], &[0.5, 0.5])?;
/// assert!((near / 1.999_999_886_872_28e-18 - 1.0).abs() < 1e-12);
/// assert_eq!(kl(&[0.5, 0.5], &[1.0, 0.0])?, f64::INFINITY);
/// assert_eq!(kl(&[1.0, 0.0], &[0.5, 0.5])?, std::f64::consts::LN_2);
/// # Ok::<(), aion_market::Error>(())
/// ```
///
/// # Errors
/// [`crate::Error`] if one is no distribution or they differ in length.
pub fn kl(p: &[f64], q: &[f64]) -> Result<f64> {
    check_pair(p, q)?;
    Ok(p.iter().zip(q).map(|(p, q)| kl_term(*p, *q)).sum())
}

/// The Jensen-Shannon divergence in nats, in `[0, ln 2]`; symmetric and always finite.
///
/// ```
/// use aion_market::divergence::jensen_shannon;
///
/// assert_eq!(jensen_shannon(&[1.0, 0.0], &[0.0, 1.0])?, std::f64::consts::LN_2);
/// # Ok::<(), aion_market::Error>(())
/// ```
///
/// # Errors
/// [`crate::Error`] if one is no distribution or they differ in length.
pub fn jensen_shannon(p: &[f64], q: &[f64]) -> Result<f64> {
    check_pair(p, q)?;
    let half = |(p, q): (&f64, &f64)| {
        let m = p.midpoint(*q);
        0.5 * (kl_term(*p, m) + kl_term(*q, m))
    };
    Ok(p.iter().zip(q).map(half).sum())
}

/// The entropy `-sum p ln p` in nats, in `[0, ln K]`.
///
/// ```
/// use aion_market::divergence::entropy;
///
/// assert_eq!(entropy(&[0.5, 0.5])?, std::f64::consts::LN_2);
/// assert_eq!(entropy(&[1.0, 0.0])?, 0.0);
/// # Ok::<(), aion_market::Error>(())
/// ```
///
/// # Errors
/// [`crate::Error`] if `p` is no distribution.
pub fn entropy(p: &[f64]) -> Result<f64> {
    check_dist("p", p)?;
    Ok(p.iter().map(|p| cross_term(*p, *p)).sum())
}

/// The cross-entropy `-sum p ln q` in nats: the mean code length of `p` under `q`; infinite where
/// `q_k = 0 < p_k`.
///
/// ```
/// use aion_market::divergence::{cross_entropy, entropy, kl};
///
/// let (p, q) = ([0.5, 0.5], [0.25, 0.75]);
/// assert!((cross_entropy(&p, &q)? - entropy(&p)? - kl(&p, &q)?).abs() < 1e-15);
/// assert_eq!(cross_entropy(&p, &[1.0, 0.0])?, f64::INFINITY);
/// # Ok::<(), aion_market::Error>(())
/// ```
///
/// # Errors
/// [`crate::Error`] if one is no distribution or they differ in length.
pub fn cross_entropy(p: &[f64], q: &[f64]) -> Result<f64> {
    check_pair(p, q)?;
    Ok(p.iter().zip(q).map(|(p, q)| cross_term(*p, *q)).sum())
}

fn check_pair(p: &[f64], q: &[f64]) -> Result<()> {
    check_dist("p", p)?;
    check_dist("q", q)?;
    check_len("q", q.len(), p.len())
}

fn cross_term(p: f64, q: f64) -> f64 {
    if p == 0.0 { 0.0 } else { -p * q.ln() }
}

/// `p ln(p/q) - p + q`, which sums to the divergence of distributions.
fn kl_term(p: f64, q: f64) -> f64 {
    if p == 0.0 {
        return q;
    }
    if q == 0.0 {
        return f64::INFINITY;
    }
    let t = (p - q) / q;
    if t.is_infinite() {
        return p * (p.ln() - q.ln()) - p + q;
    }
    q * phi(t)
}

/// `phi(t) = (1 + t) ln(1 + t) - t` for `t > -1`, by its series near 0.
fn phi(t: f64) -> f64 {
    if t.abs() >= 0.1 {
        return (1.0 + t) * t.ln_1p() - t;
    }
    // sum over n >= 2 of (-t)^n / (n (n - 1)), from the smallest term up.
    let series = (2..=18).rev().fold(0.0, |sum, n| {
        let n = f64::from(n);
        sum * -t + 1.0 / (n * (n - 1.0))
    });
    series * t * t
}
