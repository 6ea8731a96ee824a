//! The pure market: `state = fold(events)`, and what a request becomes.
//!
//! No I/O, no clock. A request is checked against the state and becomes an [`Event`] to append, or
//! the number of the event that it became when it was sent before.

mod decide;
mod snapshot;

use std::collections::{BTreeMap, BTreeSet, HashMap};

use aion_types::{ForecasterId, MarketId, PpmDist, Timestamp};
use serde::{Deserialize, Serialize, Serializer};

use crate::Result;
use crate::error::Error;
use crate::event::{Event, StoredEvent};
use crate::maker::Maker;
use crate::resolution::Resolution;
use crate::spec::MarketSpec;

pub use decide::Decision;
pub use snapshot::Snapshot;

/// What one account has spent and holds.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct Holding {
    /// Money spent less money received, in micro-units.
    pub spent_micro: i64,
    /// Micro-shares by outcome; none negative.
    pub shares_micro: Vec<i64>,
}

/// A market at one version.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct MarketState {
    id: MarketId,
    version: u64,
    spec: MarketSpec,
    maker: Maker,
    first: PpmDist,
    price: PpmDist,
    executor: Option<ForecasterId>,
    executors: BTreeSet<ForecasterId>,
    resolution: Option<Resolution>,
    opened_at: Timestamp,
    resolved_at: Option<Timestamp>,
    closed_at: Option<Timestamp>,
    signal_micro: Option<i64>,
    forecasts: u64,
    trades: u64,
    holdings: BTreeMap<ForecasterId, Holding>,
    #[serde(serialize_with = "in_order")]
    requests: HashMap<String, (u64, String)>,
}

impl MarketState {
    /// The state after its first event.
    ///
    /// # Errors
    /// [`Error::BadHistory`] if that is not the opening.
    pub fn open(id: MarketId, first: &StoredEvent) -> Result<Self> {
        let Event::MarketOpened { spec } = &first.event else {
            return Err(Error::BadHistory {
                seq: first.seq,
                reason: "a history begins with the opening",
            });
        };
        if first.seq != 1 {
            return Err(Error::BadHistory {
                seq: first.seq,
                reason: "a history begins with event 1",
            });
        }
        let maker = spec.maker.open(&spec.prior)?;
        let price = maker.price()?;
        Ok(Self {
            id,
            version: 1,
            spec: (**spec).clone(),
            maker,
            first: price.clone(),
            price,
            executor: spec.executor.clone(),
            executors: spec.executor.iter().cloned().collect(),
            resolution: None,
            opened_at: first.at,
            resolved_at: None,
            closed_at: None,
            signal_micro: spec.persistence_micro,
            forecasts: 0,
            trades: 0,
            holdings: BTreeMap::new(),
            requests: HashMap::new(),
        })
    }

    /// The state after a whole history; `None` of an empty one.
    ///
    /// # Errors
    /// [`Error::BadHistory`] if no market can have produced it.
    pub fn fold<'a>(id: MarketId, events: impl IntoIterator<Item = &'a StoredEvent>) -> Result<Option<Self>> {
        let mut events = events.into_iter();
        let Some(first) = events.next() else {
            return Ok(None);
        };
        let mut state = Self::open(id, first)?;
        events.try_for_each(|event| state.apply(event))?;
        Ok(Some(state))
    }

    /// The market's id.
    pub const fn id(&self) -> MarketId {
        self.id
    }

    /// How many events made it.
    pub const fn version(&self) -> u64 {
        self.version
    }

    /// Its terms.
    pub const fn spec(&self) -> &MarketSpec {
        &self.spec
    }

    /// Its first price.
    pub const fn first(&self) -> &PpmDist {
        &self.first
    }

    /// Its price now.
    pub const fn price(&self) -> &PpmDist {
        &self.price
    }

    /// Its maker.
    pub const fn maker(&self) -> &Maker {
        &self.maker
    }

    /// Whether this account works, or worked, on the subject.
    pub fn is_executor(&self, account: &ForecasterId) -> bool {
        self.executors.contains(account)
    }

    /// Who works on the subject now; that account, and those before it, may not bet.
    pub const fn executor(&self) -> Option<&ForecasterId> {
        self.executor.as_ref()
    }

    /// How it ended.
    pub const fn resolution(&self) -> Option<&Resolution> {
        self.resolution.as_ref()
    }

    /// When it opened.
    pub const fn opened_at(&self) -> Timestamp {
        self.opened_at
    }

    /// When it ended.
    pub const fn resolved_at(&self) -> Option<Timestamp> {
        self.resolved_at
    }

    /// When it stopped taking forecasts before its end.
    pub const fn closed_at(&self) -> Option<Timestamp> {
        self.closed_at
    }

    /// The last `ln R` that a forecast, or the prior, rested on, in millionths.
    pub const fn signal_micro(&self) -> Option<i64> {
        self.signal_micro
    }

    /// How many reports it has taken.
    pub const fn forecasts(&self) -> u64 {
        self.forecasts
    }

    /// How many trades it has taken.
    pub const fn trades(&self) -> u64 {
        self.trades
    }

    /// What each account has spent and holds.
    pub const fn holdings(&self) -> &BTreeMap<ForecasterId, Holding> {
        &self.holdings
    }

    /// Applies the next event.
    ///
    /// # Errors
    /// [`Error::BadHistory`] if it is not the next one of this market; the state is then unchanged.
    pub fn apply(&mut self, stored: &StoredEvent) -> Result<()> {
        let seq = stored.seq;
        let bad = |reason| Err(Error::BadHistory { seq, reason });
        if seq != self.version + 1 {
            return bad("its number is not the next one");
        }
        if self.resolution.is_some() {
            return bad("the market was resolved before");
        }
        if stored
            .event
            .move_of_price()
            .is_some_and(|(before, _)| *before != self.price)
        {
            return bad("it starts from another price");
        }
        self.apply_event(stored)?;
        self.version = seq;
        if let Some(request) = &stored.request {
            self.requests
                .insert(request.key.clone(), (seq, request.digest.clone()));
        }
        Ok(())
    }

    fn apply_event(&mut self, stored: &StoredEvent) -> Result<()> {
        let seq = stored.seq;
        match &stored.event {
            Event::MarketOpened { .. } => {
                return Err(Error::BadHistory {
                    seq,
                    reason: "a market opens once",
                });
            }
            Event::ForecastReported {
                dist,
                weight_micro,
                signal_micro,
                after,
                ..
            } => {
                self.count_report(seq, dist, *weight_micro, after)?;
                self.signal_micro = signal_micro.or(self.signal_micro);
                self.forecasts += 1;
            }
            Event::Traded {
                forecaster,
                shares_micro,
                cost_micro,
                signal_micro,
                after,
                ..
            } => {
                self.book_trade(forecaster, shares_micro, *cost_micro, seq)?;
                self.price.clone_from(after);
                self.signal_micro = signal_micro.or(self.signal_micro);
                self.trades += 1;
            }
            Event::HouseMoved {
                dist,
                weight_micro,
                shares_micro,
                cost_micro,
                after,
                ..
            } => {
                if shares_micro.is_empty() {
                    self.count_report(seq, dist, *weight_micro, after)?;
                } else {
                    self.seller(seq)?.apply(shares_micro, *cost_micro)?;
                    self.price.clone_from(after);
                }
            }
            Event::ExecutorNamed { executor } => {
                self.executor = Some(executor.clone());
                self.executors.insert(executor.clone());
            }
            Event::Closed { .. } => self.closed_at = Some(stored.at),
            Event::Resolved { resolution } => {
                resolution.target(self.spec.outcomes.len())?;
                self.resolution = Some(resolution.clone());
                self.resolved_at = Some(stored.at);
            }
        }
        Ok(())
    }

    /// Pseudo-counts are integers, so the price on record must be the one that they give.
    fn count_report(&mut self, seq: u64, dist: &PpmDist, weight_micro: u64, after: &PpmDist) -> Result<()> {
        let Maker::PseudoCount(maker) = &self.maker else {
            return Err(Error::BadHistory {
                seq,
                reason: "a report in a market of trades",
            });
        };
        let maker = maker.with_report(dist, weight_micro)?;
        if maker.price()? != *after {
            return Err(Error::BadHistory {
                seq,
                reason: "its price is not the one that its counts give",
            });
        }
        self.maker = Maker::PseudoCount(maker);
        self.price.clone_from(after);
        Ok(())
    }

    fn book_trade(
        &mut self,
        forecaster: &ForecasterId,
        shares: &[i64],
        cost_micro: i64,
        seq: u64,
    ) -> Result<()> {
        let (Maker::Lmsr(_) | Maker::LiquiditySensitive(_)) = &self.maker else {
            return Err(wrong_maker(seq));
        };
        let known = self.holdings.get_mut(forecaster);
        let before = known.as_deref();
        let held = |k: usize| before.map_or(0, |holding| holding.shares_micro[k]);
        for (k, bought) in shares.iter().enumerate().take(self.spec.outcomes.len()) {
            let sum = held(k).checked_add(*bought);
            sum.ok_or(Error::Overflow("the shares of an account"))?;
        }
        let spent = before.map_or(0, |holding| holding.spent_micro);
        let spent = spent.checked_add(cost_micro);
        let spent_micro = spent.ok_or(Error::Overflow("the money of an account"))?;
        // The last check; what follows cannot fail, so a refused event changes nothing.
        self.maker.apply(shares, cost_micro)?;
        let holding = match known {
            Some(holding) => holding,
            None => self
                .holdings
                .entry(forecaster.clone())
                .or_insert_with(|| Holding {
                    spent_micro: 0,
                    shares_micro: vec![0; shares.len()],
                }),
        };
        holding.spent_micro = spent_micro;
        let pairs = holding.shares_micro.iter_mut().zip(shares);
        pairs.for_each(|(held, bought)| *held += bought);
        Ok(())
    }

    fn seller(&mut self, seq: u64) -> Result<&mut Maker> {
        match &mut self.maker {
            Maker::PseudoCount(_) => Err(wrong_maker(seq)),
            maker => Ok(maker),
        }
    }

    fn holding(&self, forecaster: &ForecasterId) -> Holding {
        self.holdings.get(forecaster).cloned().unwrap_or_else(|| Holding {
            spent_micro: 0,
            shares_micro: vec![0; self.spec.outcomes.len()],
        })
    }
}

const fn wrong_maker(seq: u64) -> Error {
    Error::BadHistory {
        seq,
        reason: "a trade in a market of reports",
    }
}

/// Keys by name, so that the same market is always written down alike.
fn in_order<S: Serializer>(requests: &HashMap<String, (u64, String)>, to: S) -> Result<S::Ok, S::Error> {
    requests.iter().collect::<BTreeMap<_, _>>().serialize(to)
}
