//! A predictor of your own: `cargo run -p aion-examples --example custom_predictor`
//!
//! It bets on tasks by how they begin: by whether their title names a file. Expect: a leaderboard in
//! bits, on which it beats a coin; and what became of a predictor that always fails.
#![allow(clippy::print_stdout)]

use std::sync::Arc;

use aion_market::{
    Cadence, Ended, FeedError, Market, Observer, ObserverOptions, Opinion, PredictError, Predictor, Random,
    TaskFeed, TaskView,
};
use aion_processor::{ClaimReq, Limits, MemTaskStore, MessageQuery, NewTask, Processor, Retry};
use aion_types::{
    Clock, EventRecord, ForecasterId, HandlerId, Json, ManualClock, MessageRecord, PpmDist, Prob, TaskId,
    TaskRecord, Timestamp,
};
use async_trait::async_trait;

/// Believes in tasks that name a file.
#[derive(Debug)]
struct NamesAFile(ForecasterId);

#[async_trait]
impl Predictor for NamesAFile {
    fn id(&self) -> &ForecasterId {
        &self.0
    }

    /// A title does not change while the task runs.
    fn cadence(&self) -> Cadence {
        Cadence::OnCreation
    }

    async fn predict(&self, view: &TaskView<'_>, _price: &PpmDist) -> Result<Option<Opinion>, PredictError> {
        let p = if view.task.title.contains('.') { 0.8 } else { 0.3 };
        Ok(Some(Opinion::new(Prob::new(p)?)))
    }

    async fn learn(&self, ended: &Ended<'_>) -> Result<(), PredictError> {
        if let (Some(view), Some(success)) = (&ended.task, ended.success()) {
            println!("{:<16} ended with {success}", view.task.title);
        }
        Ok(())
    }
}

/// Fails whenever it is asked: the others go on.
#[derive(Debug)]
struct Broken(ForecasterId);

#[async_trait]
impl Predictor for Broken {
    fn id(&self) -> &ForecasterId {
        &self.0
    }

    async fn predict(&self, _: &TaskView<'_>, _: &PpmDist) -> Result<Option<Opinion>, PredictError> {
        Err("no idea".into())
    }
}

/// The processor as a feed: it is only read.
#[derive(Debug)]
struct Feed(Processor);

#[async_trait]
impl TaskFeed for Feed {
    async fn events(&self, after: u64, limit: usize) -> Result<Vec<EventRecord>, FeedError> {
        Ok(self.0.events(after, u32::try_from(limit)?).await?.events)
    }

    async fn task(&self, id: TaskId) -> Result<Option<TaskRecord>, FeedError> {
        Ok(self.0.find(id).await?)
    }

    async fn messages(&self, id: TaskId, after: u64, limit: usize) -> Result<Vec<MessageRecord>, FeedError> {
        let query = MessageQuery::new()
            .with_from(after)
            .with_limit(u32::try_from(limit)?);
        Ok(self.0.messages(id, query).await?.messages)
    }
}

#[tokio::main(flavor = "current_thread")]
async fn main() -> Result<(), Box<dyn std::error::Error>> {
    let clock = ManualClock::at(Timestamp::from_ms(0));
    let processor = Processor::new(MemTaskStore::new(clock.clone(), Limits::default()));
    let market = Market::in_memory();
    let predictors: Vec<Arc<dyn Predictor>> = vec![
        Arc::new(NamesAFile(ForecasterId::new("names_a_file")?)),
        Arc::new(Random::new(1)?),
        Arc::new(Broken(ForecasterId::new("broken")?)),
    ];
    let feed = Arc::new(Feed(processor.clone()));
    let observer = Observer::new(market.clone(), feed, predictors, ObserverOptions::default());

    for (title, works) in [
        ("Copy a.txt", true),
        ("Rename b.txt", true),
        ("Cheer me up", false),
        ("Read c.txt", false),
        ("Find the key", false),
        ("Sort d.csv", true),
    ] {
        let task = NewTask::new(TaskId::generate(clock.now()), "errand", title);
        processor.create(task).await?;
        let claim = ClaimReq::new(HandlerId::new("hand")?);
        let lease = processor.claim(claim).await?.remove(0);
        // The market opens, and predictors bet, before anybody knows how it ends.
        observer.catch_up().await?;
        if works {
            processor.complete(lease.fence(), Json::Null).await?;
        } else {
            processor.fail(lease.fence(), "no", Retry::Never).await?;
        }
        observer.catch_up().await?;
        clock.advance_ms(1_000);
    }

    println!();
    for standing in market.leaderboard(10).await? {
        println!(
            "{:<14} {:+.3} bits over a coin in {} markets",
            standing.forecaster.as_str(),
            standing.baseline.get() as f64 / 1e6,
            standing.markets
        );
    }
    let health = observer.health();
    let broken = &health[&ForecasterId::new("broken")?];
    println!(
        "broken was asked {} times and failed {}: {}",
        broken.asked,
        broken.failed,
        broken
            .last_failure
            .as_ref()
            .map_or("", |failure| failure.reason.as_str())
    );
    Ok(())
}
