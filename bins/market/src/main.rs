//! `aion-market-server`: markets, scores and trust over HTTP.

use std::path::PathBuf;
use std::process::ExitCode;
use std::sync::Arc;

use aion_market::{Market, MarketOptions, SqliteMarketStore};
use aion_market_server::{DEFAULT_PORT, service};
use aion_service::ServeArgs;
use aion_trust::{SqliteLedgerStore, TrustLedger, TrustOptions};
use aion_types::SystemClock;
use clap::Parser;

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
    #[command(flatten)]
    serve: ServeArgs,
}

#[tokio::main]
async fn main() -> ExitCode {
    match run(Cli::parse()).await {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            report(&*error);
            ExitCode::FAILURE
        }
    }
}

async fn run(cli: Cli) -> Result<(), Box<dyn std::error::Error>> {
    let serving = cli.serve.resolve(DEFAULT_PORT)?;
    let markets = SqliteMarketStore::open(&cli.database).await?;
    let ledger = SqliteLedgerStore::open(&cli.trust).await?;
    let clock = Arc::new(SystemClock);
    let market = Market::new(Arc::new(markets.clone()), clock.clone(), MarketOptions::default());
    let trust = TrustLedger::new(Arc::new(ledger.clone()), clock, TrustOptions::default());
    let served = aion_service::run(service(market, trust), serving).await;
    markets.close().await;
    ledger.close().await;
    Ok(served?)
}

/// The error with its causes, one a line.
fn report(error: &dyn std::error::Error) {
    eprintln!("aion-market-server: {error}");
    let mut cause = error.source();
    while let Some(error) = cause {
        eprintln!("  because: {error}");
        cause = error.source();
    }
}
