//! The pure market: `state = fold(events)`, and what a request becomes.
//!
//! No I/O, no clock. A request is checked against the state and becomes an [`Event`] to append, or
//! the number of the event that it became when it was sent before.

use std::collections::BTreeMap;

use aion_types::{ForecasterId, MarketId, PpmDist, Timestamp};
use serde::Serialize;

use crate::Result;
use crate::clip::raise_to_floor;
use crate::error::{Error, check_len};
use crate::event::{Event, RequestKey, StoredEvent};
use crate::maker::Maker;
use crate::order::{Forecast, Order, Quote, Terms, Trade};
use crate::resolution::Resolution;
use crate::spec::{MarketSpec, check_text};

/// What one account has spent and holds.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Holding {
    /// Money spent less money received, in micro-units.
    pub spent_micro: i64,
    /// Micro-shares by outcome; none negative.
    pub shares_micro: Vec<i64>,
}

/// A market at one version.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct MarketState {
    id: MarketId,
    version: u64,
    spec: MarketSpec,
    maker: Maker,
    first: PpmDist,
    price: PpmDist,
    executor: Option<ForecasterId>,
    resolution: Option<Resolution>,
    opened_at: Timestamp,
    resolved_at: Option<Timestamp>,
    forecasts: u64,
    trades: u64,
    holdings: BTreeMap<ForecasterId, Holding>,
    requests: BTreeMap<String, (u64, String)>,
}

/// What a request becomes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Decision {
    /// This event, to be appended.
    Append {
        /// The event.
        event: Event,
        /// The key of the request.
        request: Option<RequestKey>,
    },
    /// It was sent before and became the event with this number.
    Recorded {
        /// The number.
        seq: u64,
    },
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
            resolution: None,
            opened_at: first.at,
            resolved_at: None,
            forecasts: 0,
            trades: 0,
            holdings: BTreeMap::new(),
            requests: BTreeMap::new(),
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

    /// Who may not bet.
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

    /// What an order would do now; changes nothing.
    ///
    /// # Errors
    /// [`Error::WrongMaker`] in a market that takes reports, or [`Error`] for an order that is
    /// too large or has another number of outcomes.
    pub fn quote(&self, order: &Order) -> Result<Quote> {
        let Maker::Lmsr(maker) = &self.maker else {
            return Err(Error::WrongMaker {
                expected: "forecasts, not trades",
            });
        };
        let shares_micro = match order {
            Order::Shares { micro } => micro.clone(),
            Order::MoveTo { price } => maker.shares_towards(price)?,
        };
        let mut after = maker.clone();
        let cost_micro = after.trade(&shares_micro)?;
        Ok(Quote {
            shares_micro,
            cost_micro,
            before: self.price.clone(),
            after: after.price()?,
        })
    }

    /// What a forecast becomes.
    ///
    /// # Errors
    /// [`Error`] saying why the market does not take it.
    pub fn forecast(&self, forecast: &Forecast, now: Timestamp) -> Result<Decision> {
        let request = match self.request(forecast, &forecast.terms)? {
            Seen::Before(seq) => return Ok(Decision::Recorded { seq }),
            Seen::New(request) => request,
        };
        self.check_bettor(&forecast.forecaster)?;
        self.check_open(&forecast.terms, now)?;
        check_len("a forecast", forecast.dist.outcomes(), self.spec.outcomes.len())?;
        if forecast.weight_micro > self.spec.max_weight_micro {
            let limit = self.spec.max_weight_micro;
            return Err(Error::LimitReached {
                what: "the weight of a report, in millionths,",
                limit,
            });
        }
        let dist = raise_to_floor(&forecast.dist, self.spec.report_floor)?;
        let event = match &self.maker {
            Maker::PseudoCount(maker) => {
                let mut maker = maker.clone();
                maker.report(&dist, forecast.weight_micro)?;
                Event::ForecastReported {
                    forecaster: forecast.forecaster.clone(),
                    reported: (dist != forecast.dist).then(|| forecast.dist.clone()),
                    dist,
                    weight_micro: forecast.weight_micro,
                    informed: forecast.informed,
                    signal_micro: forecast.signal_micro,
                    before: self.price.clone(),
                    after: maker.price()?,
                }
            }
            Maker::Lmsr(_) => {
                let quote = self.quote(&Order::MoveTo { price: dist })?;
                self.check_affordable(&forecast.forecaster, &quote, None)?;
                self.traded(
                    &forecast.forecaster,
                    quote,
                    forecast.informed,
                    forecast.signal_micro,
                )
            }
        };
        Ok(Decision::Append { event, request })
    }

    /// What a trade becomes.
    ///
    /// # Errors
    /// [`Error`] saying why the market does not take it.
    pub fn trade(&self, trade: &Trade, now: Timestamp) -> Result<Decision> {
        let request = match self.request(trade, &trade.terms)? {
            Seen::Before(seq) => return Ok(Decision::Recorded { seq }),
            Seen::New(request) => request,
        };
        self.check_bettor(&trade.forecaster)?;
        self.check_open(&trade.terms, now)?;
        let quote = self.quote(&trade.order)?;
        self.check_affordable(&trade.forecaster, &quote, trade.max_cost_micro)?;
        let event = self.traded(&trade.forecaster, quote, true, None);
        Ok(Decision::Append { event, request })
    }

    /// A move that nobody makes: pseudo-counts are added, or the price of an LMSR is set.
    ///
    /// # Errors
    /// [`Error`] for a closed market, another number of outcomes, or a reason that is no text.
    pub fn house_move(
        &self,
        dist: &PpmDist,
        weight_micro: u64,
        reason: &str,
        now: Timestamp,
    ) -> Result<Event> {
        self.check_open(&Terms::default(), now)?;
        check_text("a reason", reason)?;
        check_len("a price", dist.outcomes(), self.spec.outcomes.len())?;
        let dist = raise_to_floor(dist, aion_types::Ppm::new(1)?)?;
        let (before, reason) = (self.price.clone(), reason.to_owned());
        match &self.maker {
            Maker::PseudoCount(maker) => {
                let mut maker = maker.clone();
                maker.report(&dist, weight_micro)?;
                let (after, shares_micro, cost_micro) = (maker.price()?, Vec::new(), 0);
                Ok(Event::HouseMoved {
                    reason,
                    dist,
                    weight_micro,
                    shares_micro,
                    cost_micro,
                    before,
                    after,
                })
            }
            Maker::Lmsr(_) => {
                let Quote {
                    shares_micro,
                    cost_micro,
                    after,
                    ..
                } = self.quote(&Order::MoveTo { price: dist.clone() })?;
                let weight_micro = 0;
                Ok(Event::HouseMoved {
                    reason,
                    dist,
                    weight_micro,
                    shares_micro,
                    cost_micro,
                    before,
                    after,
                })
            }
        }
    }

    /// Names who works on the subject; `None` if that is known already.
    ///
    /// # Errors
    /// [`Error::Closed`] once resolved.
    pub fn name_executor(&self, executor: &ForecasterId, now: Timestamp) -> Result<Option<Event>> {
        if self.executor.as_ref() == Some(executor) {
            return Ok(None);
        }
        self.check_open(&Terms::default(), now)?;
        Ok(Some(Event::ExecutorNamed {
            executor: executor.clone(),
        }))
    }

    /// What a resolution becomes; `None` if it ended so already.
    ///
    /// # Errors
    /// [`Error::AlreadyResolved`] if it ended otherwise, or [`Error`] if it does not fit.
    pub fn resolve(&self, resolution: &Resolution) -> Result<Option<Event>> {
        resolution.target(self.spec.outcomes.len())?;
        match &self.resolution {
            Some(ended) if ended == resolution => Ok(None),
            Some(_) => Err(Error::AlreadyResolved(self.id)),
            None => Ok(Some(Event::Resolved {
                resolution: resolution.clone(),
            })),
        }
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
                after,
                ..
            } => {
                self.count_report(seq, dist, *weight_micro, after)?;
                self.forecasts += 1;
            }
            Event::Traded {
                forecaster,
                shares_micro,
                cost_micro,
                after,
                ..
            } => {
                self.book_trade(forecaster, shares_micro, *cost_micro, seq)?;
                self.price = after.clone();
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
                    self.lmsr(seq)?.apply(shares_micro, *cost_micro)?;
                    self.price = after.clone();
                }
            }
            Event::ExecutorNamed { executor } => self.executor = Some(executor.clone()),
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
        let mut maker = maker.clone();
        maker.report(dist, weight_micro)?;
        if maker.price()? != *after {
            return Err(Error::BadHistory {
                seq,
                reason: "its price is not the one that its counts give",
            });
        }
        self.maker = Maker::PseudoCount(maker);
        self.price = after.clone();
        Ok(())
    }

    fn book_trade(
        &mut self,
        forecaster: &ForecasterId,
        shares: &[i64],
        cost_micro: i64,
        seq: u64,
    ) -> Result<()> {
        let mut holding = self.holding(forecaster);
        for (held, bought) in holding.shares_micro.iter_mut().zip(shares) {
            *held = held
                .checked_add(*bought)
                .ok_or(Error::Overflow("the shares of an account"))?;
        }
        let spent = holding.spent_micro.checked_add(cost_micro);
        holding.spent_micro = spent.ok_or(Error::Overflow("the money of an account"))?;
        self.lmsr(seq)?.apply(shares, cost_micro)?;
        self.holdings.insert(forecaster.clone(), holding);
        Ok(())
    }

    fn lmsr(&mut self, seq: u64) -> Result<&mut crate::maker::Lmsr> {
        match &mut self.maker {
            Maker::Lmsr(maker) => Ok(maker),
            Maker::PseudoCount(_) => Err(Error::BadHistory {
                seq,
                reason: "a trade in a market of reports",
            }),
        }
    }

    fn holding(&self, forecaster: &ForecasterId) -> Holding {
        self.holdings.get(forecaster).cloned().unwrap_or_else(|| Holding {
            spent_micro: 0,
            shares_micro: vec![0; self.spec.outcomes.len()],
        })
    }

    fn traded(
        &self,
        forecaster: &ForecasterId,
        quote: Quote,
        informed: bool,
        signal_micro: Option<i64>,
    ) -> Event {
        Event::Traded {
            forecaster: forecaster.clone(),
            shares_micro: quote.shares_micro,
            cost_micro: quote.cost_micro,
            informed,
            signal_micro,
            before: quote.before,
            after: quote.after,
        }
    }

    fn request<T: Serialize>(&self, request: &T, terms: &Terms) -> Result<Seen> {
        let Some(key) = &terms.key else {
            return Ok(Seen::New(None));
        };
        let digest = crate::report::digest(request)?;
        match self.requests.get(key) {
            None => Ok(Seen::New(Some(RequestKey {
                key: key.clone(),
                digest,
            }))),
            Some((seq, before)) if *before == digest => Ok(Seen::Before(*seq)),
            Some(_) => Err(Error::KeyReused(key.clone())),
        }
    }

    fn check_bettor(&self, forecaster: &ForecasterId) -> Result<()> {
        if self.executor.as_ref() == Some(forecaster) {
            return Err(Error::ExecutorMayNotBet(forecaster.clone()));
        }
        if *forecaster == ForecasterId::house() {
            return Err(Error::ReservedAccount(forecaster.clone()));
        }
        Ok(())
    }

    fn check_open(&self, terms: &Terms, now: Timestamp) -> Result<()> {
        let market = self.id;
        if self.resolution.is_some() {
            return Err(Error::Closed {
                market,
                reason: "it is resolved",
            });
        }
        if self.spec.closes_at.is_some_and(|at| now >= at) {
            return Err(Error::Closed {
                market,
                reason: "its time is over",
            });
        }
        if self.version >= self.spec.max_events {
            return Err(Error::LimitReached {
                what: "the number of events",
                limit: self.spec.max_events,
            });
        }
        match terms.expected_version {
            Some(expected) if expected != self.version => Err(Error::VersionConflict {
                expected,
                found: self.version,
            }),
            _ => Ok(()),
        }
    }

    fn check_affordable(
        &self,
        forecaster: &ForecasterId,
        quote: &Quote,
        limit_micro: Option<i64>,
    ) -> Result<()> {
        let cost_micro = quote.cost_micro;
        if cost_micro == 0 {
            return Err(Error::TooSmall);
        }
        if let Some(limit_micro) = limit_micro.filter(|limit| cost_micro > *limit) {
            return Err(Error::OverLimit {
                cost_micro,
                limit_micro,
            });
        }
        let holding = self.holding(forecaster);
        for (outcome, (held, bought)) in holding.shares_micro.iter().zip(&quote.shares_micro).enumerate() {
            if held.saturating_add(*bought) < 0 {
                let (held_micro, wanted_micro) = (*held, bought.saturating_neg());
                return Err(Error::NotHeld {
                    outcome,
                    held_micro,
                    wanted_micro,
                });
            }
        }
        let left_micro = self.spec.credit_micro.saturating_sub(holding.spent_micro);
        if cost_micro > left_micro {
            return Err(Error::NoCredit {
                cost_micro,
                left_micro,
            });
        }
        Ok(())
    }
}

enum Seen {
    Before(u64),
    New(Option<RequestKey>),
}
