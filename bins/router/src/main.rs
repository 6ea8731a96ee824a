//! `aion-router-server`: catalogs, shortlists, outcomes and embeddings over HTTP.

use std::path::PathBuf;
use std::process::ExitCode;
use std::sync::Arc;
use std::time::Duration;

use aion_router::{ByteTokens, LiveRouter, ModelTokens, TokenCounter};
use aion_router_server::{
    DEFAULT_PORT, EmbedderArgs, RankingArgs, StoreArgs, keep_embedded, keep_spare, service,
};
use aion_service::ServeArgs;
use clap::Parser;

/// How often items without an embedding are looked for.
const EMBED_EVERY: Duration = Duration::from_secs(30);
/// How often embeddings that no item needs are taken out.
const CUT_EVERY: Duration = Duration::from_secs(3_600);

/// Catalogs over HTTP: which tools, files, docs and handlers belong in the next step, learned from use.
#[derive(Debug, Parser)]
#[command(version)]
struct Cli {
    #[command(flatten)]
    store: StoreArgs,
    #[command(flatten)]
    embedder: EmbedderArgs,
    /// The tokenizer.json of the model that reads the shortlists; without it, four bytes are a token
    #[arg(long, value_name = "FILE", env = "AION_ROUTER_TOKENIZER")]
    tokenizer: Option<PathBuf>,
    #[command(flatten)]
    ranking: RankingArgs,
    #[command(flatten)]
    serve: ServeArgs,
}

type Failure = Box<dyn std::error::Error>;

#[tokio::main]
async fn main() -> ExitCode {
    match run(Cli::parse()).await {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            aion_service::report("aion-router-server", &*error);
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
    let store = cli.store.open().await?;
    for warning in cli.ranking.warnings() {
        eprintln!("aion-router-server: {warning}");
    }
    let options = cli.ranking.options()?.with_kept(cli.store.log_decisions as usize);
    let embedder = cli.embedder.embedder()?;
    let router = LiveRouter::open(store.shared(), embedder, options).await?;
    let embedding = tokio::spawn(keep_embedded(router.clone(), EMBED_EVERY));
    let spare = keep_spare(router.clone(), cli.store.spare_embeddings as usize, CUT_EVERY);
    let cutting = tokio::spawn(spare);
    let served = aion_service::run(service(router, counter), serving).await;
    embedding.abort();
    cutting.abort();
    store.close().await;
    Ok(served?)
}
