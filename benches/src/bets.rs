//! A market of many bets: folded from its events, and written to SQLite in batches.

use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, Instant};

use aion_market::engine::MarketState;
use aion_market::event::StoredEvent;
use aion_market::{Forecast, MakerSpec, Market, MarketOptions, OpenMarket, Request, SqliteMarketStore};
use aion_types::{Clock, ForecasterId, MarketId, PpmDist, SystemClock};

use crate::memory::fastest;

/// Bets in one transaction.
pub const BATCH: usize = 1_000;
const FORECASTERS: usize = 100;

type Result<T> = std::result::Result<T, Box<dyn std::error::Error>>;

/// The bets on one market.
#[derive(Debug)]
pub struct Bets {
    id: MarketId,
    requests: Vec<(MarketId, Request)>,
}

impl Bets {
    /// Reports that move an LMSR to prices between .3 and .7, each by the next of a hundred forecasters.
    ///
    /// # Errors
    /// Never for the names and prices that are made here; the checked types ask for it.
    pub fn new(count: usize) -> Result<Self> {
        let id = MarketId::generate(SystemClock.now());
        let bet = |at: usize| -> Result<(MarketId, Request)> {
            let forecaster = ForecasterId::new(format!("forecaster-{}", at % FORECASTERS))?;
            let part = 300_000 + u32::try_from(at * 7_919 % 400_000)?;
            let belief = PpmDist::new(vec![part, 1_000_000 - part])?;
            Ok((id, Forecast::new(forecaster, belief).into()))
        };
        let requests = (0..count).map(bet).collect::<Result<_>>()?;
        Ok(Self { id, requests })
    }

    /// Makes them on a market of `market`, in batches; the time of the batches.
    ///
    /// # Errors
    /// When a bet is refused, or the store fails.
    pub async fn make(&self, market: &Market) -> Result<Duration> {
        let open = OpenMarket::question(self.id, "Will it rain?", "weather")
            .with_uniform_prior()
            .with_maker(MakerSpec::lmsr(1.0)?);
        market.open(&open).await?;
        let started = Instant::now();
        for batch in self.requests.chunks(BATCH) {
            for answer in market.apply_batch(batch).await? {
                answer?;
            }
        }
        let took = started.elapsed();
        let view = market.get(self.id).await?;
        let made = view.forecasts + view.trades;
        if made != self.requests.len() as u64 {
            return Err(format!("{made} bets were kept of {}", self.requests.len()).into());
        }
        Ok(took)
    }

    /// All events of the market in a store of memory.
    ///
    /// # Errors
    /// As [`Bets::make`].
    pub async fn events(&self) -> Result<Vec<StoredEvent>> {
        let market = Market::in_memory();
        self.make(&market).await?;
        Ok(market.store().events(self.id, 0, usize::MAX).await?)
    }

    /// The processor time of folding `events` to a state.
    ///
    /// # Errors
    /// When they are no history of this market.
    pub fn fold(&self, events: &[StoredEvent]) -> Result<Duration> {
        let mut folded = Ok(None);
        let (cpu, _) = fastest(1, || folded = MarketState::fold(self.id, events));
        let state = folded?.ok_or("there are no events")?;
        if state.forecasts() + state.trades() != self.requests.len() as u64 {
            return Err("some bets are not in the state".into());
        }
        Ok(cpu)
    }
}

/// A market on a SQLite file in `dir`, as durable as the store comes.
///
/// # Errors
/// When the file cannot be made.
pub async fn sqlite_market(dir: &Path) -> Result<Market> {
    let store = SqliteMarketStore::open(dir.join("market.db")).await?;
    Ok(Market::new(
        Arc::new(store),
        Arc::new(SystemClock),
        MarketOptions::default(),
    ))
}
