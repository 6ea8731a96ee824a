//! Where the catalog is kept and who makes its embeddings, as flags of a program.

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use aion_router::embed::minilm;
use aion_router::embed::remote::{RemoteEmbedder, RemoteOptions};
use aion_router::{
    Blended, Embedder, HashingEmbedder, LiveRouter, RouterStore, SqliteRouterStore, StoreError,
};
use clap::Args;

/// Where the key of the embedding server is.
const EMBEDDINGS_KEY: &str = "AION_ROUTER_EMBEDDINGS_API_KEY";

/// Where the catalog and the log are.
#[derive(Debug, Clone, Args)]
pub struct StoreArgs {
    /// The SQLite file with the catalog and the log; made if it is not there
    #[arg(
        long,
        value_name = "FILE",
        env = "AION_ROUTER_DATABASE",
        default_value = "router.db"
    )]
    pub database: PathBuf,
    /// A Postgres database with the catalog and the log, instead of a file; other users of the machine can read
    /// flags, so give a password by the environment
    #[cfg(feature = "postgres")]
    #[arg(
        long,
        value_name = "URL",
        env = "AION_ROUTER_POSTGRES",
        hide_env_values = true
    )]
    pub postgres: Option<String>,
    /// How many decisions are kept: an outcome can be told, and another policy judged, only for the latest so many.
    /// What was learned from older ones stays
    #[arg(
        long,
        value_name = "N",
        env = "AION_ROUTER_LOG_DECISIONS",
        default_value_t = 65_536,
        value_parser = clap::value_parser!(u32).range(100..)
    )]
    pub log_decisions: u32,
    /// How many embeddings of texts that no item has any more are kept, for when one comes back; those of items always
    /// are
    #[arg(
        long,
        value_name = "N",
        env = "AION_ROUTER_SPARE_EMBEDDINGS",
        default_value_t = 65_536
    )]
    pub spare_embeddings: u32,
}

/// An open store.
#[derive(Debug, Clone)]
#[non_exhaustive]
pub enum Store {
    /// A file.
    Sqlite(SqliteRouterStore),
    /// A database of a server.
    #[cfg(feature = "postgres")]
    Postgres(aion_router::PostgresRouterStore),
}

impl StoreArgs {
    /// Opens the store.
    ///
    /// # Errors
    /// [`StoreError::Open`] for a database of another or a newer program, or one that cannot be opened.
    pub async fn open(&self) -> Result<Store, StoreError> {
        #[cfg(feature = "postgres")]
        if let Some(url) = &self.postgres {
            let options = aion_sql::PostgresOptions::url(url);
            let options = options.map_err(|error| StoreError::Open(Box::new(error)))?;
            return Ok(Store::Postgres(
                aion_router::PostgresRouterStore::open(&options).await?,
            ));
        }
        Ok(Store::Sqlite(SqliteRouterStore::open(&self.database).await?))
    }
}

impl Store {
    /// The store as routers take it.
    pub fn shared(&self) -> Arc<dyn RouterStore> {
        match self {
            Self::Sqlite(store) => Arc::new(store.clone()),
            #[cfg(feature = "postgres")]
            Self::Postgres(store) => Arc::new(store.clone()),
        }
    }

    /// Closes all connections.
    pub async fn close(&self) {
        match self {
            Self::Sqlite(store) => store.close().await,
            #[cfg(feature = "postgres")]
            Self::Postgres(store) => store.close().await,
        }
    }
}

/// Who makes embeddings; nobody named means that texts are compared by their spelling.
#[derive(Debug, Clone, Args)]
pub struct EmbedderArgs {
    /// A folder with a sentence encoder (config.json, model.safetensors, tokenizer.json), such as
    /// all-MiniLM-L6-v2; without it, texts are compared by their spelling
    #[arg(long, value_name = "FOLDER", env = "AION_ROUTER_MINILM")]
    pub minilm: Option<PathBuf>,
    /// A server that speaks OpenAI's embeddings, up to `/embeddings`, such as https://host/v1; its key, if it has
    /// one, is AION_ROUTER_EMBEDDINGS_API_KEY
    #[arg(
        long,
        value_name = "URL",
        env = "AION_ROUTER_EMBEDDINGS_URL",
        requires = "embeddings_model",
        conflicts_with = "minilm"
    )]
    pub embeddings_url: Option<String>,
    /// The model's name on that server
    #[arg(long, value_name = "NAME", env = "AION_ROUTER_EMBEDDINGS_MODEL")]
    pub embeddings_model: Option<String>,
}

impl EmbedderArgs {
    /// The embedder; one of a server has not been asked anything.
    ///
    /// # Errors
    /// A model that cannot be read, or an address that is none.
    pub fn embedder(&self) -> Result<Arc<dyn Embedder>, Box<dyn std::error::Error>> {
        if let (Some(url), Some(model)) = (&self.embeddings_url, &self.embeddings_model) {
            let mut options = RemoteOptions::new(url, model);
            if let Some(key) = aion_service::secret(EMBEDDINGS_KEY) {
                options = options.with_key(key);
            }
            let remote = RemoteEmbedder::new(options)?;
            return Ok(Arc::new(Blended::with_spelling(remote)));
        }
        match &self.minilm {
            Some(folder) => Ok(Arc::new(minilm::with_spelling(folder)?)),
            None => Ok(Arc::new(HashingEmbedder)),
        }
    }
}

/// Embeds what has no embedding, again and again: what came while the embedder was away. It never ends.
pub async fn keep_embedded(router: LiveRouter, every: Duration) {
    let runtime = tokio::runtime::Handle::current();
    loop {
        tokio::time::sleep(every).await;
        if router.read(|engine| engine.catalog().without_vector().next().is_none()) {
            continue;
        }
        let (router, runtime) = (router.clone(), runtime.clone());
        let embedding = tokio::task::spawn_blocking(move || runtime.block_on(router.embed_missing()));
        match embedding.await {
            Ok(Ok(items)) => tracing::info!(items, "items have their embedding now"),
            Ok(Err(error)) => {
                tracing::warn!(error = aion_service::chain(&error), "items have no embedding");
            }
            Err(error) => tracing::error!(%error, "embedding items ended"),
        }
    }
}

/// Takes out of the store, again and again, the embeddings of texts that no item has any more, all but `spare` of them.
/// It never ends.
pub async fn keep_spare(router: LiveRouter, spare: usize, every: Duration) {
    loop {
        tokio::time::sleep(every).await;
        match router.forget_embeddings(spare).await {
            Ok(0) => {}
            Ok(gone) => tracing::info!(gone, "embeddings that no item needs are gone"),
            Err(error) => {
                tracing::warn!(error = aion_service::chain(&error), "embeddings are not cut");
            }
        }
    }
}
