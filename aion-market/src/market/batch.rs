//! Many requests in one transaction.

use std::collections::BTreeMap;

use aion_types::MarketId;

use super::{EVENTS_PER_READ, MAX_ATTEMPTS, Market};
use crate::Result;
use crate::draft::Draft;
use crate::engine::Decision;
use crate::error::Error;
use crate::event::StoredEvent;
use crate::order::{Fill, Request};
use crate::store::StoreError;

/// The most requests of one batch.
pub(crate) const MAX_BATCH: usize = 10_000;

/// The markets of a batch; none where there is no such market.
type Drafts = BTreeMap<MarketId, Option<Draft>>;

/// What the request of a batch becomes: a new event of its draft, or one that is on record.
struct Taken {
    market: MarketId,
    seq: u64,
}

impl Market {
    /// Takes many forecasts and trades, in their order, and makes them durable in one transaction.
    ///
    /// Each request has its own answer: one that is refused changes nothing and does not stop the rest.
    /// A request sees what those before it did. If the transaction fails, nothing of the batch is kept.
    ///
    /// ```
    /// use aion_market::{Forecast, Market, OpenMarket, Request};
    /// use aion_types::{ForecasterId, MarketId, PpmDist, Timestamp};
    ///
    /// # tokio::runtime::Builder::new_current_thread().build()?.block_on(async {
    /// let market = Market::in_memory();
    /// let id = MarketId::generate(Timestamp::from_ms(0));
    /// market.open(&OpenMarket::question(id, "Will it rain?", "weather")).await?;
    /// let says = |name: &str, p| {
    ///     let belief = PpmDist::new(vec![p, 1_000_000 - p])?;
    ///     Ok::<_, aion_market::Error>((id, Request::from(Forecast::new(ForecasterId::new(name)?, belief))))
    /// };
    /// let requests = [says("anna", 800_000)?, says("house", 1)?, says("bob", 600_000)?];
    /// let answers = market.apply_batch(&requests).await?;
    /// assert!(answers[0].is_ok() && answers[1].is_err() && answers[2].is_ok());
    /// assert_eq!(market.get(id).await?.forecasts, 2);
    /// # Ok::<(), aion_market::Error>(())
    /// # })?;
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    ///
    /// # Errors
    /// [`Error::LimitReached`] for more than 10,000 requests, [`Error::Store`] if the store fails or
    /// others are first time and again.
    pub async fn apply_batch(&self, requests: &[(MarketId, Request)]) -> Result<Vec<Result<Fill>>> {
        if requests.len() > MAX_BATCH {
            return Err(Error::LimitReached {
                what: "the number of requests of a batch",
                limit: MAX_BATCH as u64,
            });
        }
        let mut attempt = 1;
        loop {
            let mut drafts = self.drafts(requests).await?;
            let taken: Vec<Result<Taken>> = requests
                .iter()
                .map(|(id, request)| self.take(&mut drafts, *id, request))
                .collect();
            let answers = self.answers(&drafts, taken).await?;
            let changed = drafts.into_values().flatten().collect();
            match self.commit(changed, None).await {
                Err(Error::Store(StoreError::Conflict { .. })) if attempt < MAX_ATTEMPTS => attempt += 1,
                Err(error) => return Err(error),
                Ok(_) => return Ok(answers),
            }
        }
    }

    async fn drafts(&self, requests: &[(MarketId, Request)]) -> Result<Drafts> {
        let mut drafts = Drafts::new();
        for (id, _) in requests {
            if !drafts.contains_key(id) {
                let draft = match self.draft(*id).await {
                    Ok(draft) => Some(draft),
                    Err(Error::NotFound(_)) => None,
                    Err(error) => return Err(error),
                };
                drafts.insert(*id, draft);
            }
        }
        Ok(drafts)
    }

    fn take(&self, drafts: &mut Drafts, market: MarketId, request: &Request) -> Result<Taken> {
        let draft = drafts.get_mut(&market).and_then(Option::as_mut);
        let draft = draft.ok_or(Error::NotFound(market))?;
        let now = self.now();
        let decision = match request {
            Request::Forecast(forecast) => draft.state.forecast(forecast, now)?,
            Request::Trade(trade) => draft.state.trade(trade, now)?,
        };
        let seq = match decision {
            Decision::Append { event, request } => {
                draft.push(event, request, now)?;
                draft.state.version()
            }
            Decision::Recorded { seq } => seq,
        };
        Ok(Taken { market, seq })
    }

    /// The fills of new events from the drafts, those of recorded ones from the store, page by page.
    async fn answers(&self, drafts: &Drafts, taken: Vec<Result<Taken>>) -> Result<Vec<Result<Fill>>> {
        let mut pages: BTreeMap<(MarketId, u64), StoredEvent> = BTreeMap::new();
        let mut answers = Vec::with_capacity(taken.len());
        for one in taken {
            let Taken { market, seq } = match one {
                Ok(taken) => taken,
                Err(error) => {
                    answers.push(Err(error));
                    continue;
                }
            };
            let drafted = drafts.get(&market).and_then(Option::as_ref);
            if let Some(stored) = drafted.and_then(|draft| draft.event(seq)) {
                answers.push(fill_of(stored));
                continue;
            }
            if !pages.contains_key(&(market, seq)) {
                let page = self.store().events(market, seq - 1, EVENTS_PER_READ).await?;
                pages.extend(page.into_iter().map(|stored| ((market, stored.seq), stored)));
            }
            let missing = || Error::BadHistory {
                seq,
                reason: "it is missing",
            };
            answers.push(pages.get(&(market, seq)).ok_or_else(missing).and_then(fill_of));
        }
        Ok(answers)
    }
}

fn fill_of(stored: &StoredEvent) -> Result<Fill> {
    stored.fill().ok_or(Error::BadHistory {
        seq: stored.seq,
        reason: "it is no forecast and no trade",
    })
}
