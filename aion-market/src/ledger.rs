//! Double entry: every event as rows that sum to zero, by asset.

use std::collections::BTreeMap;

use aion_types::{ForecasterId, PPM_ONE};
use serde::{Deserialize, Serialize};

use crate::Result;
use crate::engine::{Holding, MarketState};
use crate::error::Error;
use crate::event::{Event, StoredEvent};
use crate::resolution::{Resolution, Target};

/// What an entry counts.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Asset {
    /// Money, in micro-units.
    Money,
    /// Micro-shares of one outcome.
    Shares(usize),
}

/// One row: an account gets (or gives, if negative) an amount. The account of the maker is `house`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Entry {
    /// The event that it belongs to.
    pub seq: u64,
    /// Whose account.
    pub account: ForecasterId,
    /// Of what.
    pub asset: Asset,
    /// How much, in millionths.
    pub amount_micro: i64,
}

/// The rows of an event that `before` is about to apply. They sum to zero for each asset.
///
/// A resolution pays one unit for each share of what happened, or gives the money back if void.
///
/// # Errors
/// [`Error::Overflow`] if an amount leaves its range.
pub fn entries(before: &MarketState, stored: &StoredEvent) -> Result<Vec<Entry>> {
    let mut rows = Rows {
        seq: stored.seq,
        entries: Vec::new(),
    };
    match &stored.event {
        Event::Traded {
            forecaster,
            shares_micro,
            cost_micro,
            ..
        } => {
            rows.transfer(forecaster, Asset::Money, *cost_micro, Direction::Gives)?;
            for (k, amount) in shares_micro.iter().enumerate() {
                rows.transfer(forecaster, Asset::Shares(k), *amount, Direction::Gets)?;
            }
        }
        Event::Resolved { resolution } => settle(before, resolution, &mut rows)?,
        Event::MarketOpened { .. }
        | Event::ForecastReported { .. }
        | Event::HouseMoved { .. }
        | Event::ExecutorNamed { .. }
        | Event::Closed { .. } => {}
    }
    Ok(rows.entries)
}

/// What each account ends with beyond what it spent, in micro-units.
///
/// # Errors
/// [`Error`] if the resolution does not fit or an amount leaves its range.
pub fn profits(state: &MarketState, resolution: &Resolution) -> Result<BTreeMap<ForecasterId, i64>> {
    let target = resolution.target(state.spec().outcomes.len())?;
    let profit = |(account, holding): (&ForecasterId, &Holding)| {
        let paid = payout(holding, target.as_ref())?.checked_sub(holding.spent_micro);
        Ok((account.clone(), paid.ok_or(Error::Overflow("a profit"))?))
    };
    state.holdings().iter().map(profit).collect()
}

fn settle(state: &MarketState, resolution: &Resolution, rows: &mut Rows) -> Result<()> {
    let target = resolution.target(state.spec().outcomes.len())?;
    for (account, holding) in state.holdings() {
        rows.transfer(
            account,
            Asset::Money,
            payout(holding, target.as_ref())?,
            Direction::Gets,
        )?;
        for (k, held) in holding.shares_micro.iter().enumerate() {
            rows.transfer(account, Asset::Shares(k), *held, Direction::Gives)?;
        }
    }
    Ok(())
}

/// One unit for each share of what happened, rounded down; what was spent if void.
fn payout(holding: &Holding, target: Option<&Target>) -> Result<i64> {
    let Some(target) = target else {
        return Ok(holding.spent_micro);
    };
    let parts = holding.shares_micro.iter().zip(target.dist().parts());
    let sum: i128 = parts
        .map(|(held, part)| i128::from(*held) * i128::from(*part))
        .sum();
    i64::try_from(sum.div_euclid(i128::from(PPM_ONE))).map_err(|_| Error::Overflow("a payout"))
}

#[derive(Clone, Copy)]
enum Direction {
    Gets,
    Gives,
}

struct Rows {
    seq: u64,
    entries: Vec<Entry>,
}

impl Rows {
    fn transfer(
        &mut self,
        account: &ForecasterId,
        asset: Asset,
        amount: i64,
        direction: Direction,
    ) -> Result<()> {
        let opposite = amount.checked_neg().ok_or(Error::Overflow("an amount"))?;
        let (theirs, ours) = match direction {
            Direction::Gets => (amount, opposite),
            Direction::Gives => (opposite, amount),
        };
        if amount != 0 {
            let row = |account, amount_micro| Entry {
                seq: self.seq,
                account,
                asset,
                amount_micro,
            };
            self.entries
                .extend([row(account.clone(), theirs), row(ForecasterId::house(), ours)]);
        }
        Ok(())
    }
}
