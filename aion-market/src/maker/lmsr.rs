//! Hanson's logarithmic market scoring rule: `C(q) = b ln sum exp(q_k / b)`, price `softmax(q / b)`.
//!
//! Free functions over slices in floating point, and [`Lmsr`], whose ledger is exact: its costs are
//! differences of the integer potential `ceil(C(q))` in micro-units, so they telescope along any path.
//!
//! # Sources
//! R. Hanson, Logarithmic market scoring rules for modular combinatorial information aggregation, 2007.

use aion_types::PpmDist;
use serde::{Deserialize, Serialize};

use super::check_micro;
use super::shares::{add, check_target, most_after, price_of_logits};
use crate::Result;
use crate::error::{Error, check, check_dist, check_finite, check_len};
use crate::kernel::exp_sum;

pub use super::shares::MAX_SHARES_MICRO;

/// The cost function `C(q) = b ln sum exp(q_k / b)`, stable for any `q`.
///
/// ```
/// use aion_market::maker::lmsr::cost;
///
/// assert_eq!(cost(&[1e5, 0.0], 100.0)?, 1e5);
/// assert!((cost(&[0.0, 0.0], 100.0)? - 69.314_718_055_994_5).abs() < 1e-12);
/// # Ok::<(), aion_market::Error>(())
/// ```
///
/// # Errors
/// [`Error`] for fewer than two outcomes, a share that is not finite, or `b` not above 0.
pub fn cost(q: &[f64], b: f64) -> Result<f64> {
    let most = check_shares(q, b)?;
    Ok(most + b * exp_sum(q, most, b).ln())
}

/// The prices `softmax(q / b)` into `out`.
///
/// # Errors
/// [`Error`] as [`cost`], or if `out` has another length.
pub fn prices_into(q: &[f64], b: f64, out: &mut [f64]) -> Result<()> {
    let most = check_shares(q, b)?;
    check_len("out", out.len(), q.len())?;
    let sum = exp_sum(q, most, b);
    for (price, q) in out.iter_mut().zip(q) {
        *price = ((q - most) / b).exp() / sum;
    }
    Ok(())
}

/// What it costs to buy `d` shares (negative: to sell) at prices `p`: `b ln sum p_k exp(d_k / b)`.
///
/// Computed as `b ln1p(sum p_k expm1(d_k / b))`, exact to the last digits for tiny trades, and in its
/// shifted form for large ones.
///
/// ```
/// use aion_market::maker::lmsr::{prices_into, quote};
///
/// let mut p = [0.0; 2];
/// prices_into(&[1500.0, 0.0], 100.0, &mut p)?;
/// let close = |got: f64, expected: f64| (got / expected - 1.0).abs() < 1e-13;
/// assert!(close(quote(&p, &[1e-6, 0.0], 100.0)?, 9.999_996_940_977_75e-7));
/// assert!(close(quote(&p, &[0.0, 1e-6], 100.0)?, 3.059_022_284_551_35e-13));
/// assert!(close(quote(&[0.5, 0.5], &[800.0, 0.0], 1.0)?, 799.306_852_819_440_1));
/// # Ok::<(), aion_market::Error>(())
/// ```
///
/// # Errors
/// [`Error`] if `p` is no distribution, `d` is not finite or has another length, or `b` is not
/// above 0.
pub fn quote(p: &[f64], d: &[f64], b: f64) -> Result<f64> {
    check_dist("a price", p)?;
    check_finite("shares", d)?;
    check_len("shares", d.len(), p.len())?;
    check_liquidity(b)?;
    // What is impossible costs nothing, however much of it is bought.
    let possible = || p.iter().zip(d).filter(|(p, _)| **p > 0.0);
    let most = possible().map(|(_, d)| *d).fold(f64::NEG_INFINITY, f64::max);
    if most / b <= 30.0 {
        let moved: f64 = possible().map(|(p, d)| term(*p, d / b)).sum();
        // Below, the sum has lost digits that the shifted form keeps.
        if moved > -0.5 {
            return Ok(b * moved.ln_1p());
        }
    }
    let shifted: f64 = possible().map(|(p, d)| p * ((d - most) / b).exp()).sum();
    Ok(most + b * shifted.ln())
}

/// `p expm1(x)`; most orders leave most outcomes alone, and those need no exponential.
fn term(p: f64, x: f64) -> f64 {
    if x == 0.0 { 0.0 } else { p * x.exp_m1() }
}

/// The shares of one outcome that move its price from `from` to `to`: `b (logit to - logit from)`.
///
/// ```
/// use aion_market::maker::lmsr::{quote, shares_to};
///
/// let shares = shares_to(0.5, 0.8, 100.0)?;
/// assert!((shares - 138.629_436).abs() < 1e-6);
/// let paid = quote(&[0.5, 0.5], &[shares, 0.0], 100.0)?;
/// assert!((paid - 91.629_073).abs() < 1e-6);
/// assert!((shares - paid - 47.000_363).abs() < 1e-6);
/// # Ok::<(), aion_market::Error>(())
/// ```
///
/// # Errors
/// [`Error::OutOfRange`] unless both prices are in `(0, 1)` and `b` is above 0.
pub fn shares_to(from: f64, to: f64, b: f64) -> Result<f64> {
    for p in [from, to] {
        check("a price", "in (0, 1)", p, p > 0.0 && p < 1.0)?;
    }
    check_liquidity(b)?;
    let logit = |p: f64| p.ln() - (-p).ln_1p();
    Ok(b * (logit(to) - logit(from)))
}

/// The most that the maker can lose: `b ln(1 / min prior)`; `b ln K` from a uniform prior.
///
/// # Errors
/// [`Error`] if the prior is no distribution or `b` is not above 0.
pub fn max_loss(prior: &[f64], b: f64) -> Result<f64> {
    check_dist("a prior", prior)?;
    check_liquidity(b)?;
    Ok(-b * prior.iter().copied().fold(1.0, f64::min).ln())
}

fn check_liquidity(b: f64) -> Result<()> {
    check("liquidity", "finite and above 0", b, b.is_finite() && b > 0.0).map(drop)
}

fn check_shares(q: &[f64], b: f64) -> Result<f64> {
    check_finite("shares", q)?;
    check_liquidity(b)?;
    if q.len() < 2 {
        return Err(Error::Shape {
            what: "shares",
            found: q.len(),
            expected: 2,
        });
    }
    Ok(q.iter().copied().fold(f64::NEG_INFINITY, f64::max))
}

fn exp_sum(q: &[f64], most: f64, b: f64) -> f64 {
    q.iter().map(|q| ((q - most) / b).exp()).sum()
}

/// An LMSR in integers: micro-shares, and costs as differences of an integer potential.
///
/// The potential that was charged so far is part of the state, so money telescopes exactly even
/// where two platforms round an exponential differently.
///
/// ```
/// use aion_market::maker::Lmsr;
/// use aion_types::PpmDist;
///
/// let mut maker = Lmsr::open(&PpmDist::new(vec![500_000, 500_000])?, 100_000_000)?;
/// let buy = maker.shares_towards(&PpmDist::new(vec![800_000, 200_000])?)?;
/// let paid = maker.trade(&buy)?;
/// assert_eq!((buy[0], paid), (138_629_436, 91_629_073));
/// let back: Vec<i64> = buy.iter().map(|d| -d).collect();
/// assert_eq!(maker.trade(&back)?, -paid);
/// # Ok::<(), aion_market::Error>(())
/// ```
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Lmsr {
    liquidity_micro: u64,
    shares: Vec<i64>,
    potential_micro: i64,
}

impl Lmsr {
    /// A maker whose first price is the prior: `q_k = b ln(p_k / max p)`, in whole micro-shares.
    ///
    /// # Errors
    /// [`Error::OutOfRange`] for a liquidity outside `[0.001, 10^6]` shares.
    pub fn open(prior: &PpmDist, liquidity_micro: u64) -> Result<Self> {
        check_micro("liquidity", liquidity_micro)?;
        let open = crate::clip::raise_to_floor(prior, aion_types::Ppm::new(1)?)?;
        let most = open.parts().iter().copied().max().unwrap_or(1);
        let b = liquidity_micro as f64;
        let shares: Vec<i64> = open
            .parts()
            .iter()
            .map(|part| (b * (f64::from(*part) / f64::from(most)).ln()).round() as i64)
            .collect();
        let potential_micro = potential(&shares, liquidity_micro);
        Ok(Self {
            liquidity_micro,
            shares,
            potential_micro,
        })
    }

    /// The micro-shares sold of each outcome, counted from where the prior put them.
    pub fn shares(&self) -> &[i64] {
        &self.shares
    }

    /// The integer potential that all costs so far add up to.
    pub const fn potential_micro(&self) -> i64 {
        self.potential_micro
    }

    /// The price: `softmax(q / b)` in parts per million, at least one for each outcome.
    ///
    /// # Errors
    /// [`Error`] never for a maker of this module; the checked types ask for it.
    pub fn price(&self) -> Result<PpmDist> {
        price_of_logits(&self.shares, self.liquidity_micro as f64)
    }

    /// What buying `d` micro-shares of each outcome costs now, in micro-units; changes nothing and
    /// allocates nothing.
    ///
    /// # Errors
    /// [`Error`] if `d` has another length or takes the shares out of their range.
    pub fn quote(&self, d: &[i64]) -> Result<i64> {
        let most = most_after(&self.shares, d)?;
        // It fits in both kinds of integers, and the signed kind takes one instruction.
        let b = self.liquidity_micro as i64 as f64;
        let sum = exp_sum::exp_sum(&self.shares, d, most, b);
        Ok(ceiling(most, b, sum) - self.potential_micro)
    }

    /// Makes the trade and gives its cost, in micro-units.
    ///
    /// # Errors
    /// As [`Lmsr::quote`].
    pub fn trade(&mut self, d: &[i64]) -> Result<i64> {
        let cost_micro = self.quote(d)?;
        self.apply(d, cost_micro)?;
        Ok(cost_micro)
    }

    /// Applies a trade whose cost is on record.
    ///
    /// # Errors
    /// [`Error`] if `d` has another length or an amount leaves its range; nothing is changed then.
    pub fn apply(&mut self, d: &[i64], cost_micro: i64) -> Result<()> {
        most_after(&self.shares, d)?;
        let overflow = Error::Overflow("the potential");
        self.potential_micro = self.potential_micro.checked_add(cost_micro).ok_or(overflow)?;
        add(&mut self.shares, d);
        Ok(())
    }

    /// The purchases, none negative, that bring the price to `target`.
    ///
    /// # Errors
    /// [`Error`] if the target has another number of outcomes or a price of 0.
    pub fn shares_towards(&self, target: &PpmDist) -> Result<Vec<i64>> {
        check_target(target, self.shares.len())?;
        let b = self.liquidity_micro as f64;
        let parts = target.parts().iter().zip(&self.shares);
        let wanted: Vec<f64> = parts
            .map(|(part, held)| b * f64::from(*part).ln() - *held as f64)
            .collect();
        let least = wanted.iter().copied().fold(f64::INFINITY, f64::min);
        Ok(wanted.iter().map(|d| (d - least).round() as i64).collect())
    }
}

/// `ceil(C(q))` in micro-units: exact in whole shifts of all shares, and the same function of the
/// shares however they were reached.
fn potential(shares: &[i64], liquidity_micro: u64) -> i64 {
    let most = shares.iter().copied().max().unwrap_or(0);
    let b = liquidity_micro as f64;
    ceiling(most, b, exp_sum::exp_sum(shares, &vec![0; shares.len()], most, b))
}

fn ceiling(most: i64, b: f64, sum: f64) -> i64 {
    let above = b * sum.ln();
    let whole = above as i64;
    most + whole + i64::from((whole as f64) < above)
}
