//! What a resolved market says: who brought its price how much closer to what happened.
//!
//! Everything is derived from the events and can be computed again from them.

use std::collections::BTreeMap;

use aion_types::{Bits, ForecasterId, MarketId, MarketTrace, MicroBits, PpmDist};
use serde::{Deserialize, Serialize};

use crate::Result;
use crate::engine::MarketState;
use crate::error::Error;
use crate::event::{Event, StoredEvent};
use crate::ledger::profits;
use crate::resolution::{Resolution, Target};
use crate::sequential::level;
use crate::spec::Subject;

/// The report of a resolved market.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Report {
    /// The market.
    pub market: MarketId,
    /// What it asked.
    pub subject: Subject,
    /// Its kind.
    pub kind: String,
    /// The rules that it was scored by.
    pub rules_version: u32,
    /// How it ended.
    pub resolution: Resolution,
    /// What forecasts are scored against; none when void.
    pub target: Option<Target>,
    /// The first price.
    pub p_first: PpmDist,
    /// The last price before the outcome was known.
    pub p_last: PpmDist,
    /// `KL(f || p_first) - KL(f || p_last)`: what the market gained on its first price.
    pub kl_bits: MicroBits,
    /// What the last price lost: `-log2 p_last` of what happened.
    pub loss_bits: MicroBits,
    /// What each forecaster gained, by id; with `house` for moves nobody made.
    pub forecasters: Vec<ForecasterReport>,
    /// How many events it rests on.
    pub events: u64,
    /// Digest of all of the above, in hexadecimal.
    pub digest: String,
}

/// What one forecaster did in one market.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ForecasterReport {
    /// Who.
    pub forecaster: ForecasterId,
    /// The score: reports against the price before them, or the move of the price in an LMSR.
    pub gain: MicroBits,
    /// The move of the price; over all forecasters and `house` it sums to `kl_bits` exactly.
    pub moved: MicroBits,
    /// The last forecast against the uniform one.
    pub baseline: MicroBits,
    /// How many forecasts and trades.
    pub forecasts: u64,
    /// How many of them were made after seeing the price.
    pub informed: u64,
    /// What was won, in micro-units; 0 in a market of reports.
    pub profit_micro: i64,
    /// The last forecast; the price that it left in an LMSR.
    pub last: PpmDist,
    /// The last `ln R` that came with a forecast, in millionths.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub signal_micro: Option<i64>,
    /// What it did on the subject itself.
    #[serde(default, skip_serializing_if = "Role::is_outsider")]
    pub role: Role,
}

/// What a forecaster had to do with the subject of a market.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Role {
    /// Nothing but the forecasts.
    #[default]
    Outsider,
    /// It worked on it: what it gained counts in this report, and on no leaderboard.
    Executor,
}

impl Role {
    /// Whether the forecaster had nothing else to do with the subject.
    pub fn is_outsider(&self) -> bool {
        *self == Self::Outsider
    }
}

impl Report {
    /// Scores a history that ends in a resolution.
    ///
    /// # Errors
    /// [`Error::NotResolved`] if it does not, [`Error::BadHistory`] if no market can have produced it.
    pub fn of(market: MarketId, events: &[StoredEvent]) -> Result<Self> {
        let state = MarketState::fold(market, events)?.ok_or(Error::NotFound(market))?;
        let resolution = state.resolution().ok_or(Error::NotResolved(market))?.clone();
        let target = resolution.target(state.spec().outcomes.len())?;
        let mut board = Board {
            target: target.as_ref(),
            rows: BTreeMap::new(),
        };
        events.iter().try_for_each(|stored| board.count(&stored.event))?;
        board.pay(&profits(&state, &resolution)?);
        board.mark_executors(&state);
        let (first, last) = (board.level(state.first())?, board.level(state.price())?);
        let mut report = Self {
            market,
            subject: state.spec().subject.clone(),
            kind: state.spec().kind.clone(),
            rules_version: state.spec().rules_version,
            p_first: state.first().clone(),
            p_last: state.price().clone(),
            kl_bits: last - first,
            loss_bits: MicroBits::ZERO - last,
            forecasters: board.rows.into_values().collect(),
            events: state.version(),
            resolution,
            target,
            digest: String::new(),
        };
        report.digest = digest(&report)?;
        Ok(report)
    }

    /// What one forecaster did, if anything.
    pub fn forecaster(&self, id: &ForecasterId) -> Option<&ForecasterReport> {
        self.forecasters.iter().find(|row| row.forecaster == *id)
    }

    /// The market of a trace, for two outcomes; `None` if void or with more of them.
    pub fn trace(&self) -> Option<MarketTrace> {
        let target = self
            .target
            .as_ref()
            .filter(|target| target.dist().outcomes() == 2)?;
        let first_of = |dist: &PpmDist| dist.get(0).map(aion_types::Ppm::to_prob);
        Some(MarketTrace {
            p_first: first_of(&self.p_first)?,
            p_last: first_of(&self.p_last)?,
            outcome: first_of(target.dist())?,
            kl_bits: Bits::from(self.kl_bits),
        })
    }

    /// Whether the report is the one that its digest was made of.
    ///
    /// # Errors
    /// [`Error`] if it cannot be written down.
    pub fn verify(&self) -> Result<bool> {
        let bare = Self {
            digest: String::new(),
            ..self.clone()
        };
        Ok(digest(&bare)? == self.digest)
    }
}

/// The scores while the history is read.
struct Board<'a> {
    target: Option<&'a Target>,
    rows: BTreeMap<ForecasterId, ForecasterReport>,
}

/// What an event adds to its forecaster.
struct Mark<'a> {
    forecaster: ForecasterId,
    reported: &'a PpmDist,
    before: &'a PpmDist,
    after: &'a PpmDist,
    informed: bool,
    signal_micro: Option<i64>,
}

impl Board<'_> {
    fn count(&mut self, event: &Event) -> Result<()> {
        match event {
            Event::ForecastReported {
                forecaster,
                dist,
                informed,
                signal_micro,
                before,
                after,
                ..
            } => {
                let (informed, signal_micro) = (*informed, *signal_micro);
                let forecaster = forecaster.clone();
                self.add(&Mark {
                    forecaster,
                    reported: dist,
                    before,
                    after,
                    informed,
                    signal_micro,
                })
            }
            Event::Traded {
                forecaster,
                informed,
                signal_micro,
                before,
                after,
                ..
            } => {
                let (informed, signal_micro) = (*informed, *signal_micro);
                let forecaster = forecaster.clone();
                self.add(&Mark {
                    forecaster,
                    reported: after,
                    before,
                    after,
                    informed,
                    signal_micro,
                })
            }
            Event::HouseMoved { before, after, .. } => {
                let forecaster = ForecasterId::house();
                let (informed, signal_micro) = (true, None);
                self.add(&Mark {
                    forecaster,
                    reported: after,
                    before,
                    after,
                    informed,
                    signal_micro,
                })
            }
            Event::MarketOpened { .. }
            | Event::ExecutorNamed { .. }
            | Event::Closed { .. }
            | Event::Resolved { .. } => Ok(()),
        }
    }

    fn add(&mut self, mark: &Mark<'_>) -> Result<()> {
        let before = self.level(mark.before)?;
        let reported = self.level(mark.reported)?;
        let moved = self.level(mark.after)? - before;
        let baseline = reported - self.level(&uniform(mark.before.outcomes())?)?;
        let row = self
            .rows
            .entry(mark.forecaster.clone())
            .or_insert_with(|| ForecasterReport {
                forecaster: mark.forecaster.clone(),
                gain: MicroBits::ZERO,
                moved: MicroBits::ZERO,
                baseline,
                forecasts: 0,
                informed: 0,
                profit_micro: 0,
                last: mark.reported.clone(),
                signal_micro: None,
                role: Role::Outsider,
            });
        row.gain = row.gain + (reported - before);
        row.moved = row.moved + moved;
        row.baseline = baseline;
        row.forecasts += 1;
        row.informed += u64::from(mark.informed);
        row.last = mark.reported.clone();
        row.signal_micro = mark.signal_micro.or(row.signal_micro);
        Ok(())
    }

    fn pay(&mut self, profits: &BTreeMap<ForecasterId, i64>) {
        for (forecaster, profit) in profits {
            if let Some(row) = self.rows.get_mut(forecaster) {
                row.profit_micro = *profit;
            }
        }
    }

    fn mark_executors(&mut self, state: &MarketState) {
        let marked = state.spec().rules_version >= 2;
        let worked = |row: &&mut ForecasterReport| marked && state.is_executor(&row.forecaster);
        let rows = self.rows.values_mut().filter(worked);
        rows.for_each(|row| row.role = Role::Executor);
    }

    /// The level of a price on what happened; 0 for all of them when void.
    fn level(&self, price: &PpmDist) -> Result<MicroBits> {
        self.target
            .map_or(Ok(MicroBits::ZERO), |target| level(price, target))
    }
}

/// The uniform price.
pub(crate) fn uniform(outcomes: usize) -> Result<PpmDist> {
    Ok(PpmDist::from_weights(&vec![1.0; outcomes])?)
}

/// The first 32 hexadecimal digits of the BLAKE3 of a value's JSON, whose fields have a fixed order.
pub(crate) fn digest<T: Serialize>(value: &T) -> Result<String> {
    let bytes = serde_json::to_vec(value).map_err(crate::store::StoreError::backend)?;
    Ok(blake3::hash(&bytes).to_hex()[..32].to_owned())
}
