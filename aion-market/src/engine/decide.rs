//! What a request becomes: an event to append, or the one that it became before.

use aion_types::{ForecasterId, PpmDist, Timestamp};
use serde::Serialize;

use super::MarketState;
use crate::Result;
use crate::clip::raise_to_floor;
use crate::error::{Error, check_len, check_outcome};
use crate::event::{Event, RequestKey};
use crate::maker::Maker;
use crate::order::{Forecast, Limits, Order, PriceLimit, Quote, Terms, Trade};
use crate::resolution::Resolution;
use crate::spec::check_text;

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
    /// What an order would do now; changes nothing.
    ///
    /// # Errors
    /// [`Error::WrongMaker`] in a market that takes reports, or [`Error`] for an order that is
    /// too large or has another number of outcomes.
    pub fn quote(&self, order: &Order) -> Result<Quote> {
        let shares_micro = match order {
            Order::Shares { micro } => micro.clone(),
            Order::MoveTo { price } => self.maker.shares_towards(price)?,
        };
        let cost_micro = self.maker.quote(&shares_micro)?;
        let mut after = self.maker.clone();
        after.apply(&shares_micro, cost_micro)?;
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
        // Whoever names the version of the market has seen it, and its price with it.
        let informed = forecast.informed || forecast.terms.expected_version.is_some();
        let event = match &self.maker {
            Maker::PseudoCount(maker) => {
                let maker = maker.with_report(&dist, forecast.weight_micro)?;
                Event::ForecastReported {
                    forecaster: forecast.forecaster.clone(),
                    reported: (dist != forecast.dist).then(|| forecast.dist.clone()),
                    dist,
                    weight_micro: forecast.weight_micro,
                    informed,
                    signal_micro: forecast.signal_micro,
                    before: self.price.clone(),
                    after: maker.price()?,
                }
            }
            Maker::Lmsr(_) | Maker::LiquiditySensitive(_) => {
                let quote = self.quote(&Order::MoveTo { price: dist })?;
                self.check_affordable(&forecast.forecaster, &quote, &forecast.limits)?;
                self.traded(&forecast.forecaster, quote, informed, forecast.signal_micro)
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
        self.check_affordable(&trade.forecaster, &quote, &trade.limits())?;
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
                crate::maker::check_micro("the weight of a move", weight_micro)?;
                let maker = maker.with_report(&dist, weight_micro)?;
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
            Maker::Lmsr(_) | Maker::LiquiditySensitive(_) => {
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

    /// The end of forecasting, before the outcome is known; `None` if closed already.
    ///
    /// # Errors
    /// [`Error::Closed`] once resolved, [`Error::BadText`] for a reason that is no text.
    pub fn close(&self, reason: &str) -> Result<Option<Event>> {
        check_text("a reason", reason)?;
        self.check_unresolved()?;
        Ok(self.closed_at.is_none().then(|| Event::Closed {
            reason: reason.to_owned(),
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
        if self.is_executor(forecaster) {
            return Err(Error::ExecutorMayNotBet(forecaster.clone()));
        }
        if *forecaster == ForecasterId::house() {
            return Err(Error::ReservedAccount(forecaster.clone()));
        }
        Ok(())
    }

    fn check_open(&self, terms: &Terms, now: Timestamp) -> Result<()> {
        let market = self.id;
        self.check_unresolved()?;
        if self.closed_at.is_some() {
            return Err(Error::Closed {
                market,
                reason: "it takes no more forecasts",
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

    fn check_unresolved(&self) -> Result<()> {
        match self.resolution {
            None => Ok(()),
            Some(_) => Err(Error::Closed {
                market: self.id,
                reason: "it is resolved",
            }),
        }
    }

    fn check_affordable(&self, forecaster: &ForecasterId, quote: &Quote, limits: &Limits) -> Result<()> {
        let cost_micro = quote.cost_micro;
        let only_buys = quote.shares_micro.iter().all(|d| *d >= 0);
        // Rounding never pays: what only buys costs at least one micro-unit.
        if cost_micro == 0 || (only_buys && cost_micro < 0) {
            return Err(Error::TooSmall);
        }
        if let Some(limit_micro) = limits.most_micro.filter(|limit| cost_micro > *limit) {
            return Err(Error::OverLimit {
                cost_micro,
                limit_micro,
            });
        }
        check_prices(&limits.prices, quote)?;
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

fn check_prices(limits: &[PriceLimit], quote: &Quote) -> Result<()> {
    for PriceLimit { outcome, min, max } in limits {
        check_outcome(*outcome, quote.after.outcomes())?;
        let found = quote.after.parts()[*outcome];
        if !(min.get()..=max.get()).contains(&found) {
            return Err(Error::OverPriceLimit {
                outcome: *outcome,
                found,
                min: min.get(),
                max: max.get(),
            });
        }
    }
    Ok(())
}

enum Seen {
    Before(u64),
    New(Option<RequestKey>),
}
