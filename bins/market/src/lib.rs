//! The market as an HTTP service: markets, forecasts, trades, scores and trust over REST, on port 9400.
//!
//! [`service`] is pure construction over a [`Market`] and a [`TrustLedger`].
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
//! [`wire`] (what goes over the wire), then the operations: markets, orders, scores, state.

mod batch;
mod conditions;
mod log;
mod markets;
mod orders;
mod own;
mod problem;
mod scores;
mod standings;
mod state;
pub mod wire;

use std::sync::Arc;

use aion_market::Market;
use aion_service::{PathLimits, Service};
use aion_trust::TrustLedger;
use axum::extract::FromRef;
use utoipa_axum::{router::OpenApiRouter, routes};

use log::Streams;

/// The port of the market.
pub const DEFAULT_PORT: u16 = 9400;
/// Bytes of a batch of forecasts to score.
const BATCH_BODY_BYTES: usize = 8 << 20;

/// What the operations work on.
#[derive(Debug, Clone)]
struct Handles {
    market: Market,
    trust: TrustLedger,
    streams: Streams,
}

impl FromRef<Handles> for Streams {
    fn from_ref(handles: &Handles) -> Self {
        handles.streams.clone()
    }
}

impl FromRef<Handles> for Market {
    fn from_ref(handles: &Handles) -> Self {
        handles.market.clone()
    }
}

impl FromRef<Handles> for TrustLedger {
    fn from_ref(handles: &Handles) -> Self {
        handles.trust.clone()
    }
}

/// The service over these handles.
pub fn service(market: Market, trust: TrustLedger) -> Service {
    let state = Arc::new(state::MarketState::new(market.clone()));
    let routes = operations().with_state(Handles {
        market,
        trust,
        streams: Streams::new(),
    });
    let batch = PathLimits::new().with_max_body_bytes(BATCH_BODY_BYTES);
    Service::new("market", DEFAULT_PORT, routes, state)
        .with_path_limits("/v1/scores", batch)
        .with_path_limits(
            "/v1/score/batch",
            PathLimits::new().with_max_body_bytes(batch::MAX_BYTES),
        )
}

/// The OpenAPI document of the service, without opening anything.
pub fn openapi_json() -> String {
    service(Market::in_memory(), TrustLedger::in_memory()).openapi_json()
}

fn operations() -> OpenApiRouter<Handles> {
    OpenApiRouter::new()
        .routes(routes!(markets::open_market, markets::list_markets))
        .routes(routes!(markets::get_market))
        .routes(routes!(markets::close_market))
        .routes(routes!(markets::resolve_market))
        .routes(routes!(markets::get_report))
        .routes(routes!(orders::forecast))
        .routes(routes!(orders::quote))
        .routes(routes!(orders::trade))
        .routes(routes!(scores::leaderboard))
        .routes(routes!(scores::calibration))
        .routes(routes!(scores::score_batch))
        .routes(routes!(scores::calibration_diagram))
        .routes(routes!(scores::list_trust))
        .routes(routes!(standings::get_prob))
        .routes(routes!(standings::list_probs))
        .routes(routes!(standings::forecaster_score))
        .routes(routes!(log::list_market_events))
        .routes(routes!(log::list_events))
        .routes(routes!(log::stream_events))
        .routes(routes!(batch::score_columns))
}
