//! `aion-market-server`: markets, scores and trust over HTTP.

use std::path::PathBuf;
use std::process::ExitCode;
use std::sync::Arc;
use std::time::Duration;

use aion_market::predict::llm::{LlmBudget, LlmOptions};
use aion_market::{LlmPredictor, Market, MarketOptions, ObserverOptions, Predictor, SqliteMarketStore};
use aion_market_server::{DEFAULT_PORT, Follower, HttpChat, HttpFeed, MarketService, panel};
use aion_service::ServeArgs;
use aion_service::webhook::WebhookKeys;
use aion_trust::{SqliteLedgerStore, TrustLedger, TrustOptions};
use aion_types::SystemClock;
use clap::Parser;
use secrecy::SecretString;

/// Markets over HTTP: forecasts, trades, scores in bits, calibration, trust.
#[derive(Debug, Parser)]
#[command(version)]
struct Cli {
    /// The SQLite file with the markets; made if it is not there
    #[arg(
        long,
        value_name = "FILE",
        env = "AION_MARKET_DATABASE",
        default_value = "market.db"
    )]
    database: PathBuf,
    /// The SQLite file with the trust; made if it is not there
    #[arg(
        long,
        value_name = "FILE",
        env = "AION_TRUST_DATABASE",
        default_value = "trust.db"
    )]
    trust: PathBuf,
    /// The processor whose tasks get markets; its key, if it has one, is AION_PROCESSOR_API_KEY, and the
    /// keys of its webhooks, separated by spaces, are AION_MARKET_WEBHOOK_KEYS
    #[arg(long, value_name = "URL", env = "AION_PROCESSOR_URL")]
    processor_url: Option<String>,
    /// How often the processor is asked for news if no webhook tells of any, in milliseconds
    #[arg(long, value_name = "MS", env = "AION_MARKET_POLL_MS", default_value_t = 1_000,
        value_parser = clap::value_parser!(u64).range(10..=3_600_000))]
    poll_ms: u64,
    /// How many times a day a language model is asked about tasks, at most 4 times each; 0 for never. It is
    /// the one of AION_OPENAI_BASEURL, AION_OPENAI_API_KEY and AION_MODEL_NAME
    #[arg(
        long,
        value_name = "CALLS",
        env = "AION_MARKET_LLM_CALLS_PER_DAY",
        default_value_t = 0
    )]
    llm_calls_per_day: u32,
    #[command(flatten)]
    serve: ServeArgs,
}

type Failure = Box<dyn std::error::Error>;

#[tokio::main]
async fn main() -> ExitCode {
    match run(Cli::parse()).await {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            aion_service::report("aion-market-server", &*error);
            ExitCode::FAILURE
        }
    }
}

async fn run(cli: Cli) -> Result<(), Failure> {
    let serving = cli.serve.resolve(DEFAULT_PORT)?;
    let markets = SqliteMarketStore::open(&cli.database).await?;
    let ledger = SqliteLedgerStore::open(&cli.trust).await?;
    let clock = Arc::new(SystemClock);
    let market = Market::new(Arc::new(markets.clone()), clock.clone(), MarketOptions::default());
    let trust = TrustLedger::new(Arc::new(ledger.clone()), clock, TrustOptions::default());
    let service = put_together(&cli, &market, trust)?;
    let following = service.follow(Duration::from_millis(cli.poll_ms));
    let served = tokio::select! {
        served = aion_service::run(service.into_service(), serving) => served,
        () = following => Ok(()),
    };
    markets.close().await;
    ledger.close().await;
    Ok(served?)
}

fn put_together(cli: &Cli, market: &Market, trust: TrustLedger) -> Result<MarketService, Failure> {
    let mut service = MarketService::new(market.clone(), trust);
    if let Some(url) = &cli.processor_url {
        let mut feed = HttpFeed::new(url)?;
        if let Some(key) = aion_service::secret("AION_PROCESSOR_API_KEY") {
            feed = feed.with_key(key);
        }
        let llm = language_model(cli.llm_calls_per_day)?;
        let asked = panel(market, llm)?;
        let follower = Follower::new(market, Arc::new(feed), asked, ObserverOptions::default());
        service = service.with_follower(follower);
    }
    if let Ok(keys) = std::env::var("AION_MARKET_WEBHOOK_KEYS") {
        let keys: Vec<SecretString> = keys.split_whitespace().map(SecretString::from).collect();
        service = service.with_webhook_keys(WebhookKeys::new(&keys)?);
    }
    Ok(service)
}

/// None if it may not be asked.
fn language_model(calls_per_day: u32) -> Result<Option<Arc<dyn Predictor>>, Failure> {
    if calls_per_day == 0 {
        return Ok(None);
    }
    let chat = HttpChat::from_lookup(|name| std::env::var(name).ok())?;
    let chat = chat.ok_or("a language model is asked for, and AION_OPENAI_BASEURL is not set")?;
    let budget = LlmBudget::default().with_calls_per_day(calls_per_day);
    let options = LlmOptions::default().with_budget(budget);
    let llm = LlmPredictor::new(Arc::new(chat), Arc::new(SystemClock), options)?;
    Ok(Some(Arc::new(llm)))
}
