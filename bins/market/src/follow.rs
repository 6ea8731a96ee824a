//! [`Follower`]: the observer of the service, with the feed that it reads and the predictors that it asks.

use std::sync::Arc;
use std::time::Duration;

use aion_market::{Market, Observer, ObserverOptions, Predictor, TaskFeed};
use aion_trust::{TrustLedger, Vote};
use aion_types::ForecasterId;
use tokio::sync::{Mutex, Notify};

use crate::log::Streams;

/// Waits after failures double up to this.
const LONGEST_WAIT: Duration = Duration::from_secs(60);

/// An observer with what it reads and whom it asks. Clones are one follower.
#[derive(Debug, Clone)]
pub struct Follower(Arc<Inner>);

#[derive(Debug)]
struct Inner {
    market: Market,
    feed: Arc<dyn TaskFeed>,
    predictors: Vec<Arc<dyn Predictor>>,
    options: ObserverOptions,
    observer: Observer,
    told: Notify,
    training: Mutex<()>,
}

impl Follower {
    /// Follows the tasks of `feed`.
    pub fn new(
        market: &Market,
        feed: Arc<dyn TaskFeed>,
        predictors: Vec<Arc<dyn Predictor>>,
        options: ObserverOptions,
    ) -> Self {
        let observer = Observer::new(
            market.clone(),
            Arc::clone(&feed),
            predictors.clone(),
            options.clone(),
        );
        Self(Arc::new(Inner {
            market: market.clone(),
            feed,
            predictors,
            options,
            observer,
            told: Notify::new(),
            training: Mutex::new(()),
        }))
    }

    /// The observer.
    pub fn observer(&self) -> &Observer {
        &self.0.observer
    }

    /// Who is asked.
    pub fn predictors(&self) -> &[Arc<dyn Predictor>] {
        &self.0.predictors
    }

    /// Somebody told of the event with this number: whether it is new. It is read from the feed soon.
    ///
    /// # Errors
    /// Those of [`Observer::reached`].
    pub(crate) async fn tell(&self, seq: u64) -> aion_market::Result<bool> {
        let new = seq > self.0.observer.reached().await?;
        if new {
            self.0.told.notify_one();
        }
        Ok(new)
    }

    /// Lets one predictor learn from the last `markets` tasks that ended. What it has learned already
    /// it does not learn again. `None` if there is no such predictor.
    ///
    /// # Errors
    /// Those of [`Observer::restore`].
    pub(crate) async fn train(
        &self,
        id: &ForecasterId,
        markets: usize,
    ) -> aion_market::Result<Option<usize>> {
        let Some(predictor) = self.0.predictors.iter().find(|one| one.id() == id) else {
            return Ok(None);
        };
        let _one_at_a_time = self.0.training.lock().await;
        let alone = Observer::new(
            self.0.market.clone(),
            Arc::clone(&self.0.feed),
            vec![Arc::clone(predictor)],
            self.0.options.clone(),
        );
        alone.restore(markets).await.map(Some)
    }

    /// Follows the feed for ever: looks when told and at least every `every`, and settles trust.
    pub(crate) async fn run(&self, trust: &TrustLedger, streams: &Streams, every: Duration) {
        if let Err(error) = self.0.observer.restore(RESTORED).await {
            tracing::warn!(error = %aion_service::chain(&error), "the predictors could not be told of the past");
        }
        let mut wait = every;
        loop {
            match self.catch_up(trust, streams).await {
                Ok(()) => wait = every,
                Err(error) => {
                    tracing::warn!(error = %aion_service::chain(&error), "the market could not follow");
                    wait = (wait * 2).min(LONGEST_WAIT);
                }
            }
            let _ = tokio::time::timeout(wait, self.0.told.notified()).await;
        }
    }

    async fn catch_up(&self, trust: &TrustLedger, streams: &Streams) -> aion_market::Result<()> {
        let observed = self.0.observer.catch_up().await?;
        for report in &observed.resolved {
            match trust.settle(report, &Vote::of_report(report)).await {
                Ok(_) | Err(aion_trust::Error::SettledOtherwise(_)) => {}
                Err(error) => {
                    tracing::warn!(error = %aion_service::chain(&error), "trust could not be settled");
                }
            }
        }
        if observed.events > 0 {
            streams.tell();
        }
        Ok(())
    }
}

/// Ended tasks that the predictors are told of again after a start.
const RESTORED: usize = 5_000;
