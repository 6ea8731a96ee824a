//! Market makers: what turns reports and trades into a price.
//!
//! | maker | takes | who gains | bound |
//! |---|---|---|---|
//! | [`pseudo_count`] | reports | the report against the price before it | none: an aggregator |
//! | [`lmsr`] | trades | the move of the price | loses at most `b ln K` |
//! | [`liquidity_sensitive`] | trades | the move of the price | loses at most `C(q_0) - min q_0`; earns a commission |
//!
//! Paying the price move in a pseudo-count market would reward exaggeration, so it scores reports; in
//! an LMSR the move is what is paid for, and there both agree.

pub mod liquidity_sensitive;
pub mod lmsr;
pub mod pseudo_count;
mod shares;

use aion_types::{PPM_ONE, PpmDist};
use serde::{Deserialize, Serialize};

use crate::Result;
use crate::error::Error;

pub use liquidity_sensitive::LiquiditySensitive;
pub use lmsr::Lmsr;
pub use pseudo_count::PseudoCount;

/// One unit (of money, shares or counts) in millionths.
pub const MICRO: i64 = 1_000_000;

/// Which maker a market has, with its one parameter.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "type", rename_all = "snake_case", deny_unknown_fields)]
#[non_exhaustive]
pub enum MakerSpec {
    /// Reports are added to pseudo-counts.
    PseudoCount {
        /// How many reports of weight 1 the prior is worth, in millionths.
        strength_micro: u64,
    },
    /// The logarithmic market scoring rule.
    Lmsr {
        /// The liquidity `b`, in millionths of a share.
        liquidity_micro: u64,
    },
    /// The logarithmic market scoring rule whose liquidity grows with what is sold.
    LiquiditySensitive {
        /// How much more than 1 the prices of all outcomes may add up to, in millionths.
        commission_micro: u64,
        /// The liquidity `b` that it opens with, in millionths of a share.
        liquidity_micro: u64,
    },
}

impl MakerSpec {
    /// Pseudo-counts whose prior is worth `strength` reports.
    ///
    /// # Errors
    /// [`Error::OutOfRange`] unless in `[0.001, 10^6]`.
    pub fn pseudo_count(strength: f64) -> Result<Self> {
        micro("the strength of a prior", strength).map(|strength_micro| Self::PseudoCount { strength_micro })
    }

    /// LMSR with the liquidity `b` in shares.
    ///
    /// # Errors
    /// [`Error::OutOfRange`] unless in `[0.001, 10^6]`.
    pub fn lmsr(liquidity: f64) -> Result<Self> {
        micro("liquidity", liquidity).map(|liquidity_micro| Self::Lmsr { liquidity_micro })
    }

    /// Liquidity-sensitive LMSR with this commission and the liquidity `b` in shares that it opens
    /// with.
    ///
    /// # Errors
    /// [`Error::OutOfRange`] unless the commission is in `[0.001, 1]` and the liquidity in
    /// `[0.001, 10^6]`.
    pub fn liquidity_sensitive(commission: f64, liquidity: f64) -> Result<Self> {
        let fits = (0.001..=1.0).contains(&commission);
        crate::error::check("a commission", "in [0.001, 1]", commission, fits)?;
        Ok(Self::LiquiditySensitive {
            commission_micro: micro("a commission", commission)?,
            liquidity_micro: micro("liquidity", liquidity)?,
        })
    }

    /// The maker before anything happened.
    ///
    /// # Errors
    /// [`Error`] for a parameter outside its range.
    pub fn open(&self, prior: &PpmDist) -> Result<Maker> {
        match *self {
            Self::PseudoCount { strength_micro } => {
                PseudoCount::open(prior, strength_micro).map(Maker::PseudoCount)
            }
            Self::Lmsr { liquidity_micro } => Lmsr::open(prior, liquidity_micro).map(Maker::Lmsr),
            Self::LiquiditySensitive {
                commission_micro,
                liquidity_micro,
            } => LiquiditySensitive::open(prior, commission_micro, liquidity_micro)
                .map(Maker::LiquiditySensitive),
        }
    }
}

/// The state of a maker.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
#[non_exhaustive]
pub enum Maker {
    /// Pseudo-counts.
    PseudoCount(PseudoCount),
    /// LMSR.
    Lmsr(Lmsr),
    /// Liquidity-sensitive LMSR.
    LiquiditySensitive(LiquiditySensitive),
}

impl Maker {
    /// The price now; every outcome has at least one part per million.
    ///
    /// # Errors
    /// [`Error::Overflow`] if the state is beyond what integers hold.
    pub fn price(&self) -> Result<PpmDist> {
        match self {
            Self::PseudoCount(maker) => maker.price(),
            Self::Lmsr(maker) => maker.price(),
            Self::LiquiditySensitive(maker) => maker.price(),
        }
    }

    /// What buying `d` micro-shares of each outcome costs now, in micro-units; changes nothing.
    ///
    /// # Errors
    /// [`Error::WrongMaker`] if it takes reports, or [`Error`] for an order that does not fit.
    pub fn quote(&self, d: &[i64]) -> Result<i64> {
        match self {
            Self::PseudoCount(_) => Err(takes_reports()),
            Self::Lmsr(maker) => maker.quote(d),
            Self::LiquiditySensitive(maker) => maker.quote(d),
        }
    }

    /// The purchases, none negative, that bring the price to `target`.
    ///
    /// # Errors
    /// [`Error::WrongMaker`] if it takes reports, or [`Error`] for a price that it cannot have.
    pub fn shares_towards(&self, target: &PpmDist) -> Result<Vec<i64>> {
        match self {
            Self::PseudoCount(_) => Err(takes_reports()),
            Self::Lmsr(maker) => maker.shares_towards(target),
            Self::LiquiditySensitive(maker) => maker.shares_towards(target),
        }
    }

    /// Applies a trade whose cost is on record.
    ///
    /// # Errors
    /// As [`Maker::quote`]; nothing is changed then.
    pub fn apply(&mut self, d: &[i64], cost_micro: i64) -> Result<()> {
        match self {
            Self::PseudoCount(_) => Err(takes_reports()),
            Self::Lmsr(maker) => maker.apply(d, cost_micro),
            Self::LiquiditySensitive(maker) => maker.apply(d, cost_micro),
        }
    }
}

const fn takes_reports() -> Error {
    Error::WrongMaker {
        expected: "forecasts, not trades",
    }
}

/// A positive parameter in millionths.
pub(crate) fn micro(what: &'static str, value: f64) -> Result<u64> {
    let value = crate::error::check(what, "in [0.001, 1000000]", value, (0.001..=1e6).contains(&value))?;
    Ok((value * MICRO as f64).round() as u64)
}

/// Checks a parameter that is already in millionths.
pub(crate) fn check_micro(what: &'static str, value_micro: u64) -> Result<u64> {
    micro(what, value_micro as f64 / MICRO as f64).map(|_| value_micro)
}

/// Whole parts per million in proportion to counts, at least one for each; integers only, so the
/// same on every platform.
pub(crate) fn price_of_counts(counts: &[u128]) -> Result<PpmDist> {
    let overflow = || Error::Overflow("the sum of the pseudo-counts");
    let sum = counts
        .iter()
        .try_fold(0_u128, |sum, count| sum.checked_add(*count))
        .ok_or_else(overflow)?;
    if sum == 0 || sum > u128::MAX / u128::from(PPM_ONE) {
        return Err(overflow());
    }
    if let [first, second] = *counts {
        return crate::clip::raise_to_floor(&pair_of_counts(first, second)?, aion_types::Ppm::new(1)?);
    }
    let scaled: Vec<u128> = counts.iter().map(|count| count * u128::from(PPM_ONE)).collect();
    let mut parts: Vec<u32> = scaled.iter().map(|count| (count / sum) as u32).collect();
    let left = PPM_ONE - parts.iter().sum::<u32>();
    let mut order: Vec<usize> = (0..parts.len()).collect();
    order.sort_by_key(|i| (std::cmp::Reverse(scaled[*i] % sum), *i));
    for i in order.into_iter().take(left as usize) {
        parts[i] += 1;
    }
    crate::clip::raise_to_floor(&PpmDist::new(parts)?, aion_types::Ppm::new(1)?)
}

/// The same for two outcomes, without sorting: the part left over goes to the larger remainder, and
/// to the first of equal ones.
fn pair_of_counts(first: u128, second: u128) -> Result<PpmDist> {
    let (sum, one) = (first + second, u128::from(PPM_ONE));
    let (whole, rest) = (first * one / sum, first * one % sum);
    let part = whole as u32 + u32::from(rest > 0 && rest >= sum - rest);
    Ok(PpmDist::new(vec![part, PPM_ONE - part])?)
}
