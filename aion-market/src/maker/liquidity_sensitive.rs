//! The liquidity-sensitive LMSR: `C(q) = b(q) ln sum exp(q_k / b(q))` with `b(q) = alpha sum q`.
//!
//! The more has been sold, the deeper the market: the same order moves a busy market less. For that
//! the prices of all outcomes add up to more than 1, by at most the commission `alpha K ln K`.
//!
//! The price that is shown and scored is `s = softmax(q / b(q))`, which sums to 1. What a share costs at
//! the margin is `s_k + alpha H(s)` with `H` the entropy in nats: together `1 + K alpha H(s)`.
//! `C` is homogeneous of degree 1, so prices depend on the proportions of `q` alone.
//!
//! # Sources
//! A. Othman, D. Pennock, D. Reeves, T. Sandholm, A practical liquidity-sensitive automated market
//! maker, 2010.

use aion_types::PpmDist;
use serde::{Deserialize, Serialize};

use super::shares::{MAX_SHARES_MICRO, add, check_target, most_after, price_of_logits};
use super::{MICRO, check_micro};
use crate::Result;
use crate::error::{Error, check};
use crate::kernel::exp_sum::exp_sum;

/// A liquidity-sensitive LMSR in integers: micro-shares, and costs as differences of `ceil(C(q))`.
///
/// ```
/// use aion_market::maker::LiquiditySensitive;
/// use aion_types::PpmDist;
///
/// // A commission of 5%; at first as deep as an LMSR of liquidity 100.
/// let even = PpmDist::new(vec![500_000, 500_000])?;
/// let mut maker = LiquiditySensitive::open(&even, 50_000, 100_000_000)?;
/// let order = [50_000_000, 0];
/// let first = maker.quote(&order)?;
/// assert!(first > 28_000_000, "an LMSR asks 28.1 for 50 shares, this one adds its commission");
/// // Both sides buy a lot: the price is as before, and the same order moves it less.
/// maker.trade(&[10_000_000_000, 10_000_000_000])?;
/// assert_eq!(maker.price()?, even);
/// assert!(maker.quote(&order)? < first);
/// # Ok::<(), aion_market::Error>(())
/// ```
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct LiquiditySensitive {
    commission_micro: u64,
    shares: Vec<i64>,
    potential_micro: i64,
}

impl LiquiditySensitive {
    /// A maker whose first price is the prior and whose first liquidity `b` is given, in millionths.
    ///
    /// # Errors
    /// [`Error::OutOfRange`] for a commission outside `[0.001, 1]`, a liquidity outside
    /// `[0.001, 10^6]` shares, or a prior more extreme than the commission allows.
    pub fn open(prior: &PpmDist, commission_micro: u64, liquidity_micro: u64) -> Result<Self> {
        let commission = commission_micro as f64 / MICRO as f64;
        check(
            "a commission",
            "in [0.001, 1]",
            commission,
            (0.001..=1.0).contains(&commission),
        )?;
        check_micro("liquidity", liquidity_micro)?;
        let open = crate::clip::raise_to_floor(prior, aion_types::Ppm::new(1)?)?;
        let mut maker = Self {
            commission_micro,
            shares: vec![0; open.outcomes()],
            potential_micro: 0,
        };
        let total = liquidity_micro as f64 / maker.alpha();
        maker.shares = maker.along(&open, "a prior", total)?;
        let most = maker.shares.iter().copied().max().unwrap_or(0);
        maker.potential_micro = maker.potential(&vec![0; open.outcomes()], most);
        Ok(maker)
    }

    /// The micro-shares sold of each outcome, with those that it opened with; none negative.
    pub fn shares(&self) -> &[i64] {
        &self.shares
    }

    /// The integer potential that all costs so far add up to.
    pub const fn potential_micro(&self) -> i64 {
        self.potential_micro
    }

    /// The liquidity `b(q)` now, in shares.
    pub fn liquidity(&self) -> f64 {
        self.alpha() * total(&self.shares) / MICRO as f64
    }

    /// The price `softmax(q / b(q))` in parts per million, at least one for each outcome.
    ///
    /// # Errors
    /// [`Error`] never for a maker of this module; the checked types ask for it.
    pub fn price(&self) -> Result<PpmDist> {
        price_of_logits(&self.shares, self.alpha() * total(&self.shares))
    }

    /// What buying `d` micro-shares of each outcome costs now, in micro-units; changes nothing and
    /// allocates nothing.
    ///
    /// # Errors
    /// [`Error`] if `d` has another length, takes the shares out of their range or below 0.
    pub fn quote(&self, d: &[i64]) -> Result<i64> {
        let most = self.check(d)?;
        Ok(self.potential(d, most) - self.potential_micro)
    }

    /// Makes the trade and gives its cost, in micro-units.
    ///
    /// # Errors
    /// As [`LiquiditySensitive::quote`].
    pub fn trade(&mut self, d: &[i64]) -> Result<i64> {
        let cost_micro = self.quote(d)?;
        self.apply(d, cost_micro)?;
        Ok(cost_micro)
    }

    /// Applies a trade whose cost is on record.
    ///
    /// # Errors
    /// As [`LiquiditySensitive::quote`]; nothing is changed then.
    pub fn apply(&mut self, d: &[i64], cost_micro: i64) -> Result<()> {
        self.check(d)?;
        let overflow = Error::Overflow("the potential");
        self.potential_micro = self.potential_micro.checked_add(cost_micro).ok_or(overflow)?;
        add(&mut self.shares, d);
        Ok(())
    }

    /// The least purchases, none negative, that bring the price to `target`.
    ///
    /// # Errors
    /// [`Error`] if the target has another number of outcomes, a price of 0, or is more extreme than
    /// the commission allows.
    pub fn shares_towards(&self, target: &PpmDist) -> Result<Vec<i64>> {
        check_target(target, self.shares.len())?;
        let direction = self.direction(target, "a target price")?;
        // The smallest multiple of the direction that lies nowhere below what is sold already.
        let ratios = self.shares.iter().zip(&direction).map(|(q, x)| *q as f64 / x);
        let scale = ratios.fold(0.0, f64::max);
        check_scale(scale * direction.iter().copied().fold(0.0, f64::max))?;
        let wanted = self.shares.iter().zip(&direction);
        Ok(wanted
            .map(|(q, x)| ((scale * x).round() as i64 - q).max(0))
            .collect())
    }

    /// `alpha`, so that `alpha K ln K` is the commission.
    fn alpha(&self) -> f64 {
        let outcomes = self.shares.len() as f64;
        self.commission_micro as f64 / MICRO as f64 / (outcomes * outcomes.ln())
    }

    /// The proportions of shares whose price is `target`: `alpha ln t_k + c`, which sum to 1.
    fn direction(&self, target: &PpmDist, what: &'static str) -> Result<Vec<f64>> {
        let alpha = self.alpha();
        let logs: Vec<f64> = target
            .parts()
            .iter()
            .map(|part| alpha * f64::from(*part).ln())
            .collect();
        let shift = (1.0 - logs.iter().sum::<f64>()) / logs.len() as f64;
        let direction: Vec<f64> = logs.into_iter().map(|log| log + shift).collect();
        match direction.iter().position(|x| *x <= 0.0) {
            None => Ok(direction),
            Some(index) => Err(Error::BadEntry {
                what,
                index,
                range: "a price that the commission allows",
                value: f64::from(target.parts()[index]) / f64::from(aion_types::PPM_ONE),
            }),
        }
    }

    fn along(&self, target: &PpmDist, what: &'static str, total: f64) -> Result<Vec<i64>> {
        let direction = self.direction(target, what)?;
        check_scale(total * direction.iter().copied().fold(0.0, f64::max))?;
        Ok(direction.iter().map(|x| (x * total).round() as i64).collect())
    }

    fn check(&self, d: &[i64]) -> Result<i64> {
        let most = most_after(&self.shares, d)?;
        let below = self.shares.iter().zip(d).position(|(q, d)| q + d < 0);
        if let Some(outcome) = below {
            return Err(Error::NotHeld {
                outcome,
                held_micro: self.shares[outcome],
                wanted_micro: d[outcome].saturating_neg(),
            });
        }
        if most == 0 {
            return Err(Error::Overflow("a sale of all shares that there are"));
        }
        Ok(most)
    }

    /// `ceil(C(q + d))` in micro-units, of sums that were checked before.
    fn potential(&self, d: &[i64], most: i64) -> i64 {
        let sum: f64 = self.shares.iter().zip(d).map(|(q, d)| (q + d) as f64).sum();
        let b = self.alpha() * sum;
        most + (b * exp_sum(&self.shares, d, most, b).ln()).ceil() as i64
    }
}

fn total(shares: &[i64]) -> f64 {
    shares.iter().map(|q| *q as f64).sum()
}

fn check_scale(most_micro: f64) -> Result<()> {
    if most_micro <= MAX_SHARES_MICRO as f64 {
        return Ok(());
    }
    Err(Error::Overflow("the shares of an outcome"))
}
