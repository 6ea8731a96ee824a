//! `aion-router-server`: catalogs, shortlists, outcomes and embeddings over HTTP.

use std::path::PathBuf;
use std::process::ExitCode;
use std::sync::Arc;

use aion_router::embed::minilm::MiniLm;
use aion_router::{
    Blended, ByteTokens, Embedder, EngineOptions, Exploration, HashingEmbedder, LiveRouter, ModelTokens,
    SqliteRouterStore, TokenCounter,
};
use aion_router_server::{DEFAULT_PORT, service};
use aion_service::ServeArgs;
use clap::Parser;

/// The share of spelling beside meaning in a blended embedding.
const SPELLING: f32 = 0.2;

/// Catalogs over HTTP: which tools, files, docs and handlers belong in the next step, learned from use.
#[derive(Debug, Parser)]
#[command(version)]
struct Cli {
    /// The SQLite file with the catalog and the log; made if it is not there
    #[arg(
        long,
        value_name = "FILE",
        env = "AION_ROUTER_DATABASE",
        default_value = "router.db"
    )]
    database: PathBuf,
    /// A folder with a sentence encoder (config.json, model.safetensors, tokenizer.json), such as
    /// all-MiniLM-L6-v2; without it, texts are compared by their spelling
    #[arg(long, value_name = "FOLDER", env = "AION_ROUTER_MINILM")]
    minilm: Option<PathBuf>,
    /// The tokenizer.json of the model that reads the shortlists; without it, four bytes are a token
    #[arg(long, value_name = "FILE", env = "AION_ROUTER_TOKENIZER")]
    tokenizer: Option<PathBuf>,
    /// How often the order without learning is served, from 0 to 0.5, so that learning can be judged
    #[arg(long, value_name = "SHARE", env = "AION_ROUTER_HOLDOUT", default_value_t = 0.0, value_parser = share)]
    holdout: f64,
    #[command(flatten)]
    serve: ServeArgs,
}

fn share(text: &str) -> Result<f64, String> {
    let share: f64 = text.parse().map_err(|_| "it is no number".to_owned())?;
    if (0.0..=0.5).contains(&share) {
        return Ok(share);
    }
    Err("it must be in [0, 0.5]".to_owned())
}

type Failure = Box<dyn std::error::Error>;

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

async fn run(cli: Cli) -> Result<(), Failure> {
    let serving = cli.serve.clone().resolve(DEFAULT_PORT)?;
    let counter: Arc<dyn TokenCounter> = match &cli.tokenizer {
        Some(file) => Arc::new(ModelTokens::from_file(file)?),
        None => Arc::new(ByteTokens),
    };
    let store = SqliteRouterStore::open(&cli.database).await?;
    let exploration = Exploration::default().with_holdout(cli.holdout);
    let options = EngineOptions::default().with_exploration(exploration);
    let router = LiveRouter::open(Arc::new(store.clone()), embedder(&cli)?, options).await?;
    let served = aion_service::run(service(router, counter), serving).await;
    store.close().await;
    Ok(served?)
}

fn embedder(cli: &Cli) -> Result<Arc<dyn Embedder>, Failure> {
    let Some(folder) = &cli.minilm else {
        return Ok(Arc::new(HashingEmbedder));
    };
    let encoder = MiniLm::from_folder(folder)?;
    Ok(Arc::new(Blended::new(encoder, HashingEmbedder, SPELLING)?))
}

/// The error with its causes, one a line.
fn report(error: &dyn std::error::Error) {
    eprintln!("aion-router-server: {error}");
    let mut cause = error.source();
    while let Some(error) = cause {
        eprintln!("  because: {error}");
        cause = error.source();
    }
}
