//! Many requests in one transaction.

use std::collections::BTreeMap;

use aion_types::MarketId;

use super::{MAX_ATTEMPTS, Market};
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
            let mut answers = Vec::with_capacity(requests.len());
            for (id, request) in requests {
                answers.push(self.answer(&mut drafts, *id, request).await);
            }
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

    async fn answer(&self, drafts: &mut Drafts, id: MarketId, request: &Request) -> Result<Fill> {
        let draft = drafts.get_mut(&id).and_then(Option::as_mut);
        let draft = draft.ok_or(Error::NotFound(id))?;
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
        match draft.event(seq) {
            Some(stored) => fill_of(stored),
            None => fill_of(&self.recorded(id, seq).await?),
        }
    }
}

fn fill_of(stored: &StoredEvent) -> Result<Fill> {
    stored.fill().ok_or(Error::BadHistory {
        seq: stored.seq,
        reason: "it is no forecast and no trade",
    })
}
