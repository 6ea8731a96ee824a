//! The router as an HTTP service: catalogs, shortlists, outcomes and embeddings over REST, on port 9210.
//!
//! [`service`] is pure construction over a [`LiveRouter`].
//!
//! ```
//! use std::sync::Arc;
//! use aion_router::{ByteTokens, EngineOptions, LiveRouter};
//!
//! let router = LiveRouter::in_memory(EngineOptions::default())?;
//! let service = aion_router_server::service(router, Arc::new(ByteTokens));
//! assert!(service.openapi_json().contains("\"rank_items\""));
//! # Ok::<(), aion_router::Error>(())
//! ```
//!
//! # Reading order
//! [`StoreArgs`], [`EmbedderArgs`] and [`RankingArgs`] (the flags of a program), [`wire`] (what goes over the wire), then the
//! operations: items, imports, ranking, judging, embeddings, stats, state.

mod embeddings;
mod imports;
mod items;
mod judging;
mod options;
mod problem;
mod ranking;
mod service;
mod setup;
mod state;
mod stats;
pub mod wire;

use std::sync::Arc;

use aion_router::{ByteTokens, EngineOptions, LiveRouter};

pub use options::RankingArgs;
pub use service::service;
pub use setup::{EmbedderArgs, Store, StoreArgs, keep_embedded, keep_spare};

/// The port of the router.
pub const DEFAULT_PORT: u16 = 9210;

/// The OpenAPI document of the service, without opening anything.
///
/// # Errors
/// [`aion_router::Error`], which the options used here never give.
pub fn openapi_json() -> aion_router::Result<String> {
    let router = LiveRouter::in_memory(EngineOptions::default())?;
    Ok(service(router, Arc::new(ByteTokens)).openapi_json())
}
