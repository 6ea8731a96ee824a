//! Catalogs of what an agent could use, and the few of it that belong in its next step.
//!
//! A [`Catalog`] holds items of every surface (tools, files, docs, ...), each with its words, its vector and
//! renderings of different cost. [`Router::rank`] picks a [`Shortlist`] within a budget of tokens and says why.
//! An [`Engine`] also learns from what was used and how it ended; a [`LiveRouter`] keeps it in a store. The
//! catalog, the ranking and the learning do no I/O and never wait: equal inputs give equal answers.
//!
//! ```
//! use aion_router::{Catalog, Item, Query, Rendering, Router, Surface, SurfaceBudget};
//!
//! let mut catalog = Catalog::new();
//! for (name, text) in [("read_file", "Reads a file"), ("exec", "Runs a command"), ("glob", "Finds files")] {
//!     let item = Item::new(Surface::Tool, name, text)?
//!         .with_renderings(vec![Rendering::new(name, 3), Rendering::new(text, 40)])?;
//!     catalog.upsert(item)?;
//! }
//! let budget = SurfaceBudget::new(Surface::Tool).with_max_items(2);
//! let query = Query::new("run the command that lists files", 60).with_surface(budget);
//! let shortlist = Router::default().rank(&catalog, &query)?;
//! assert_eq!(shortlist.picks[0].item.as_str(), "tool:exec");
//! assert!(shortlist.tokens <= 60 && shortlist.picks.len() == 2);
//! # Ok::<(), aion_router::Error>(())
//! ```
//!
//! # Features
//!
//! - `tokenizer`: token counts by the tokenizer of a model.
//! - `minilm`: sentence embeddings by a small BERT, from its safetensors.
//! - `remote`: embeddings by a server that speaks OpenAI's `/v1/embeddings`.
//! - `mcp`: the tools of running MCP servers, over stdio and streamable HTTP.
//! - `folders`: items from the files of a folder.
//! - `sqlite`: a store in a SQLite file.
//! - `postgres`: a store in a Postgres database, with embeddings as pgvector's where the server has it.
//! - `testkit`: the conformance suite of the store trait.
//!
//! # Reading order
//!
//! 1. [`item`], [`Catalog`], [`TokenCounter`]: what there is, and what it costs.
//! 2. [`text`] and [`index`]: words, and BM25 over fields. [`embed`] and [`vector`]: meaning, and exact search.
//! 3. [`Query`], [`Feature`], [`Router`] and [`Shortlist`]: what is asked, the ranking, the answer.
//! 4. [`budget`], [`Ladder`], [`Reranker`], [`prompt`]: which renderings fit, how much effort is worth it, what a cache
//!    keeps.
//! 5. [`Engine`], [`History`], [`Learner`], [`Mixture`]: learning from a [`Decision`] and its [`Outcome`].
//! 6. [`Exploration`] and [`ope`]: what another policy would have been worth. [`quality`]: recall, NDCG, bits.
//! 7. [`import`]: items from OpenAPI documents, MCP servers, Markdown and folders.
//! 8. [`store`] and [`LiveRouter`]: state that outlives the program.

mod assemble;
mod bound;
pub mod budget;
mod bytes;
mod catalog;
mod columns;
mod decision;
pub mod embed;
mod engine;
mod error;
mod exp;
mod explore;
mod feature;
mod floats;
mod history;
pub mod import;
pub mod index;
pub mod item;
mod ladder;
mod learner;
mod live;
mod mixture;
#[cfg(any(feature = "mcp", feature = "remote"))]
mod net;
pub mod ope;
mod packed;
mod past;
mod profile;
pub mod prompt;
pub mod quality;
mod query;
mod rank;
mod rerank;
mod router;
mod rules;
mod slots;
pub mod store;
mod sweep;
#[cfg(feature = "testkit")]
pub mod testkit;
pub mod text;
mod tokens;
pub mod vector;
mod veto;
mod words;

pub use catalog::{Catalog, CatalogChange, CatalogVersion, ChangeKind, MAX_ITEMS};
pub use decision::{
    Decision, Gain, LoggedItem, LoggedSurface, MAX_USED, Outcome, OutcomeStatus, StoredVector, SurfaceGain,
};
pub use embed::{Blended, Embedder, EmbeddingCache, HashingEmbedder};
pub use engine::{Engine, EngineOptions, LogEntry};
pub use error::{Error, Result};
pub use explore::Exploration;
pub use feature::{FEATURES, Feature, Weights};
pub use history::{History, HistoryOptions};
pub use item::{ContentHash, Item, ItemId, Provenance, Rendering, Surface};
pub use ladder::{Ladder, LadderOptions, Rung, RungRecord, doubt_bits};
pub use learner::{Learner, LearnerOptions};
pub use live::{LiveError, LiveRouter, Ranking};
pub use mixture::Mixture;
pub use profile::{PROFILES, Profile};
pub use query::{NearestPast, Pick, Query, Shortlist, ShortlistState, SurfaceBudget, Why};
pub use rerank::{Reading, Reranker};
pub use router::Router;
pub use rules::Rules;
#[cfg(feature = "postgres")]
pub use store::PostgresRouterStore;
#[cfg(feature = "sqlite")]
pub use store::SqliteRouterStore;
pub use store::{MemoryRouterStore, RouterStore, StoreError};
#[cfg(feature = "tokenizer")]
pub use tokens::ModelTokens;
pub use tokens::{ByteTokens, TokenCounter};
pub use veto::VetoOptions;
