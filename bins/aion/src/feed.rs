//! What the market sees of the tasks: the log of the processor, read only.

use aion_loop::{PriceFeed, StepReport};
use aion_market::feed::FeedError;
use aion_market::{Market, Observer, SUCCESS, TaskFeed};
use aion_processor::{MessageQuery, Processor};
use aion_types::{EventRecord, MessageRecord, Prob, TaskId, TaskRecord};
use async_trait::async_trait;

/// The processor of this process as the feed of an observer.
#[derive(Debug, Clone)]
pub struct ProcessorFeed(Processor);

impl ProcessorFeed {
    /// Reads this processor.
    pub fn new(processor: Processor) -> Self {
        Self(processor)
    }
}

/// A limit that fits the stores' own type.
fn page(limit: usize) -> u32 {
    u32::try_from(limit).unwrap_or(u32::MAX)
}

#[async_trait]
impl TaskFeed for ProcessorFeed {
    async fn events(&self, after: u64, limit: usize) -> Result<Vec<EventRecord>, FeedError> {
        Ok(self.0.events(after, page(limit)).await?.events)
    }

    async fn task(&self, id: TaskId) -> Result<Option<TaskRecord>, FeedError> {
        Ok(self.0.find(id).await?)
    }

    async fn messages(&self, id: TaskId, after: u64, limit: usize) -> Result<Vec<MessageRecord>, FeedError> {
        let query = MessageQuery::new().with_from(after).with_limit(page(limit));
        Ok(self.0.messages(id, query).await?.messages)
    }
}

/// The price after each step, once every predictor has seen the step.
#[derive(Debug, Clone)]
pub struct ObservedPrice(Observer);

impl ObservedPrice {
    /// Lets this observer catch up before each price.
    pub fn new(observer: Observer) -> Self {
        Self(observer)
    }
}

#[async_trait]
impl PriceFeed for ObservedPrice {
    async fn price_after(&self, step: &StepReport) -> Option<Prob> {
        if let Err(error) = self.0.catch_up().await {
            tracing::warn!(%error, "the market could not follow");
        }
        price_of(self.0.market(), step.task).await
    }
}

/// The market's price of a task's success; nothing without a market.
pub async fn price_of(market: &Market, task: TaskId) -> Option<Prob> {
    let view = market.of_task(task).await.ok().flatten()?;
    view.price.get(SUCCESS).map(aion_types::Ppm::to_prob)
}
