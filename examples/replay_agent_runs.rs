//! Recorded runs of agents, bet on as if they happened now:
//! `cargo run --release -p aion-examples --example replay_agent_runs [RUNS.jsonl [HELD_OUT.jsonl]]`
//!
//! One run a line: `{"task_id", "trial", "reward": 0 or 1, "messages": [OpenAI's]}`. Without a file, small
//! runs that this program makes up. The runs are written to a processor in the order of their trials;
//! then an observer reads its log, opens a market for each, asks the predictors and resolves it. All
//! trials but the last are history; the last one is scored. Every forecast knows only what had ended
//! before the task was made. How strong the regressions' ridge is, the history alone decides, by a replay
//! of its own last trial. Expect: that choice, a table of bits, each with what it gains on the base rate, and
//! that not one byte of the processor's database has changed.
#![allow(clippy::print_stdout)]

#[path = "replay_agent_runs/predictors.rs"]
mod predictors;
#[path = "replay_agent_runs/record.rs"]
mod record;
#[path = "replay_agent_runs/ridge.rs"]
mod ridge;
#[path = "replay_agent_runs/runs.rs"]
mod runs;

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Instant;

use aion_market::evaluate::{PairedInterval, losses_bits, paired_bootstrap, price_losses_bits};
use aion_market::predict::logistic::Ridge;
use aion_market::{
    FeedError, Market, MarketOptions, Observer, ObserverOptions, Report, SqliteMarketStore, TaskFeed,
};
use aion_processor::{MessageQuery, Processor};
use aion_types::{EventRecord, ForecasterId, MessageRecord, SystemClock, TaskId, TaskRecord};
use async_trait::async_trait;

use runs::Run;

type Failure = Box<dyn std::error::Error>;

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

#[tokio::main]
async fn main() -> Result<(), Failure> {
    let files: Vec<PathBuf> = std::env::args_os().skip(1).map(PathBuf::from).collect();
    let mut runs = if files.is_empty() {
        runs::synthetic()
    } else {
        runs::read(&files)?
    };
    runs.sort_by_key(|run| (run.trial, run.task));
    let dir = tempfile::tempdir()?;
    let database = dir.path().join("processor.db");
    let last = runs.iter().map(|run| run.trial).max().unwrap_or_default();
    let history = runs.partition_point(|run| run.trial < last);
    let ridge = ridge::choose(dir.path(), &runs[..history]).await?;

    let started = Instant::now();
    let (processor, tasks) = record::record(&database, &runs).await?;
    println!(
        "{} runs of {} messages written in {:.1} s",
        runs.len(),
        runs.iter().map(|run| run.messages.len()).sum::<usize>(),
        started.elapsed().as_secs_f64()
    );

    let before = digest(dir.path())?;
    let started = Instant::now();
    let feed = Arc::new(Feed(Processor::over(processor.clone())));
    let reports = observe(feed, &dir.path().join("market.db"), &tasks, &runs, ridge).await?;
    println!("observed in {:.1} s", started.elapsed().as_secs_f64());
    assert_eq!(before, digest(dir.path())?, "the observer has no way to write");
    println!("the processor's database is unchanged: {}", &before[..16]);
    processor.close().await;
    table(&reports, &runs)
}

/// blake3 over the files of the processor's database, which is open all the while.
fn digest(dir: &Path) -> Result<String, Failure> {
    let mut files: Vec<PathBuf> = std::fs::read_dir(dir)?
        .map(|entry| Ok(entry?.path()))
        .collect::<Result<_, std::io::Error>>()?;
    files.retain(|path| path.to_string_lossy().contains("processor.db"));
    // The index of the log in shared memory is made whenever somebody reads.
    files.retain(|path| !path.to_string_lossy().ends_with("-shm"));
    files.sort();
    let mut hasher = blake3::Hasher::new();
    for file in files {
        let bytes = std::fs::read(&file)?;
        if !bytes.is_empty() {
            hasher.update(&bytes);
        }
    }
    Ok(hasher.finalize().to_hex().to_string())
}

/// Lets the observer catch up with the whole log; the reports in the order of the runs.
async fn observe(
    feed: Arc<Feed>,
    database: &Path,
    tasks: &[TaskId],
    runs: &[Run],
    ridge: Ridge,
) -> Result<Vec<Report>, Failure> {
    let store = SqliteMarketStore::open(database).await?;
    let clock = Arc::new(SystemClock);
    let market = Market::new(Arc::new(store.clone()), clock, MarketOptions::default());
    let lengths: BTreeMap<TaskId, usize> = tasks
        .iter()
        .zip(runs)
        .map(|(id, run)| (*id, run.messages.len()))
        .collect();
    let observer = Observer::new(
        market.clone(),
        feed,
        predictors::all(&market, &Arc::new(lengths), ridge)?,
        ObserverOptions::default(),
    );
    let seen = observer.catch_up().await?;
    for (id, health) in observer.health() {
        if let Some(failure) = health.last_failure {
            return Err(format!("{id} failed: {}", failure.reason).into());
        }
    }
    store.close().await;
    Ok(seen.resolved)
}

fn table(reports: &[Report], runs: &[Run]) -> Result<(), Failure> {
    let last = runs.iter().map(|run| run.trial).max().unwrap_or_default();
    let scored: Vec<Report> = reports
        .iter()
        .zip(runs)
        .filter(|(_, run)| run.trial == last)
        .map(|(report, _)| report.clone())
        .collect();
    println!(
        "\ntrial {last}, {} runs; {} runs of history\n",
        scored.len(),
        runs.len() - scored.len()
    );
    println!(
        "{:<22} {:>6}   {:>7}  95% of a paired bootstrap",
        "forecaster", "bits", "gain"
    );
    let of = |name: &str| -> Result<Vec<f64>, Failure> {
        let losses = match name {
            "market price" => price_losses_bits(&scored),
            "uniform" => vec![Some(1.0); scored.len()],
            _ => losses_bits(&ForecasterId::new(name)?, &scored),
        };
        let all: Option<Vec<f64>> = losses.into_iter().collect();
        all.ok_or_else(|| format!("{name} was silent").into())
    };
    let base = of("base_rate")?;
    for name in [
        "uniform",
        "base_rate",
        "beta_k2",
        "beta_k05",
        "logistic_25",
        "logistic_50",
        "logistic_100",
        "ensemble",
        "market price",
    ] {
        let losses = of(name)?;
        let gain = paired_bootstrap(&base, &losses, 10_000, 1)?;
        println!("{}", line(name, &losses, gain));
    }
    let gain = paired_bootstrap(&of("beta_k2")?, &of("logistic_100")?, 10_000, 1)?;
    println!(
        "\nlogistic_100 gains {:+.3} bits on beta_k2 [{:+.3}, {:+.3}]",
        gain.mean, gain.lower, gain.upper
    );
    Ok(())
}

fn line(name: &str, losses: &[f64], gain: PairedInterval) -> String {
    let mean = losses.iter().sum::<f64>() / losses.len() as f64;
    format!(
        "{name:<22} {mean:>6.3}   {:>+7.3}  [{:+.3}, {:+.3}]",
        gain.mean, gain.lower, gain.upper
    )
}
