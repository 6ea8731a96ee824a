//! The market as an HTTP service: markets, forecasts, trades, scores and trust over REST, on port 9400.
//!
//! [`service`] is pure construction over a [`Market`] and a [`TrustLedger`]; [`MarketService`] also follows
//! a processor: by polling, and faster when webhooks tell of news.
//!
//! ```
//! use aion_market::Market;
//! use aion_trust::TrustLedger;
//!
//! let service = aion_market_server::service(Market::in_memory(), TrustLedger::in_memory());
//! let router = service.into_router(&aion_service::Limits::default());
//! # let _ = router;
//! assert!(aion_market_server::openapi_json().contains("\"open_market\""));
//! ```
//!
//! # Reading order
//! [`wire`] (what goes over the wire), then the operations: markets, orders, scores, standings, batch, log,
//! predictors, hooks, state; [`HttpFeed`], [`panel`] and [`Follower`] for tasks.

mod batch;
mod chat;
mod conditions;
mod contests;
mod feed;
mod follow;
mod hooks;
mod log;
mod markets;
mod orders;
mod own;
mod panel;
mod predictors;
mod problem;
mod scores;
mod service;
mod standings;
mod state;
pub mod wire;

use aion_market::Market;
use aion_service::Service;
use aion_trust::TrustLedger;

pub use chat::{HttpChat, HttpChatError};
pub use feed::{HttpFeed, HttpFeedError};
pub use follow::Follower;
pub use panel::panel;
pub(crate) use service::Hooks;
pub use service::MarketService;

/// The port of the market.
pub const DEFAULT_PORT: u16 = 9400;

/// The service over these handles, without a processor.
pub fn service(market: Market, trust: TrustLedger) -> Service {
    MarketService::new(market, trust).into_service()
}

/// The OpenAPI document of the service, without opening anything.
pub fn openapi_json() -> String {
    service(Market::in_memory(), TrustLedger::in_memory()).openapi_json()
}
