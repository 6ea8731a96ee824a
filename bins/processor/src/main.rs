//! `aion-processor-server`: the durable task tree over HTTP.

use std::path::PathBuf;
use std::process::ExitCode;
use std::time::Duration;

use aion_processor::{Durability, Processor, SqliteOptions, SqliteTaskStore};
use aion_processor_server::{DEFAULT_PORT, service};
use aion_service::ServeArgs;
use clap::{Parser, ValueEnum};

/// How often leases and delayed starts are looked after.
const TICK: Duration = Duration::from_millis(250);

/// The durable task tree over HTTP: tasks, claims under a lease, messages, events.
#[derive(Debug, Parser)]
#[command(version)]
struct Cli {
    /// The SQLite file with the tasks; made if it is not there
    #[arg(
        long,
        value_name = "FILE",
        env = "AION_PROCESSOR_DATABASE",
        default_value = "processor.db"
    )]
    database: PathBuf,
    /// What every acknowledged write survives at least
    #[arg(
        long,
        value_name = "WHAT",
        env = "AION_PROCESSOR_DURABILITY",
        default_value = "process"
    )]
    durability: Survives,
    #[command(flatten)]
    serve: ServeArgs,
}

/// What an acknowledged write survives.
#[derive(Debug, Clone, Copy, ValueEnum)]
enum Survives {
    /// The end of the process; ends of tasks, creates and messages a loss of power as well
    Process,
    /// A loss of power, claims and heartbeats included
    Power,
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
    let durability = match cli.durability {
        Survives::Process => Durability::Process,
        Survives::Power => Durability::Power,
    };
    let store = SqliteTaskStore::open(
        &cli.database,
        SqliteOptions::default().with_durability(durability),
    )
    .await?;
    let store = std::sync::Arc::new(store);
    let processor = Processor::over(store.clone());
    let clock = tokio::spawn({
        let processor = processor.clone();
        async move { processor.keep_time(TICK).await }
    });
    let served = aion_service::run(service(processor), serving).await;
    clock.abort();
    store.close().await;
    Ok(served?)
}

/// The error with its causes, one a line.
fn report(error: &dyn std::error::Error) {
    eprintln!("aion-processor-server: {error}");
    let mut cause = error.source();
    while let Some(error) = cause {
        eprintln!("  because: {error}");
        cause = error.source();
    }
}
