//! What every Aion HTTP service shares, so that each of them is only its own operations.
//!
//! A service is a set of routes, a [`StateSource`] and a name; [`Service`] adds `GET /state`, `/healthz`,
//! `/readyz`, `/metrics` and `/openapi.json`, and the layers: request id, tracing, metrics, panics caught,
//! load shed, body and time limits. [`serve`] adds the API key (or, on loopback without one, a guard
//! against web pages) and a graceful stop. Every error is a [`Problem`] (RFC 9457).
//!
//! ```
//! use std::sync::Arc;
//! use aion_service::{Json, Limits, NoState, Problem, Service};
//! use serde::{Deserialize, Serialize};
//! use utoipa_axum::{router::OpenApiRouter, routes};
//!
//! #[derive(Deserialize, Serialize, utoipa::ToSchema)]
//! #[serde(deny_unknown_fields)]
//! struct Sum { terms: Vec<u32> }
//!
//! /// Adds the terms.
//! #[utoipa::path(post, path = "/sum", request_body = Sum, responses((status = 200, body = u32)))]
//! async fn sum(Json(sum): Json<Sum>) -> Result<Json<u32>, Problem> {
//!     let total = sum.terms.iter().try_fold(0u32, |total, term| total.checked_add(*term));
//!     total.map(Json).ok_or_else(|| Problem::unprocessable("overflow", "over 2^32").at("/terms"))
//! }
//!
//! let routes = OpenApiRouter::new().routes(routes!(sum));
//! let service = Service::new("adder", 9999, routes, Arc::new(NoState));
//! assert!(service.openapi_json().contains("\"/sum\""));
//! let router = service.into_router(&Limits::default());
//! # use tower::ServiceExt as _;
//! # tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap().block_on(async {
//! let request = http::Request::post("/sum")
//!     .header("content-type", "application/json")
//!     .body(axum::body::Body::from(r#"{"terms": [1, "2"]}"#))?;
//! let response = router.oneshot(request).await?;
//! assert_eq!(response.status(), 422); // with "pointer": "/terms/1"
//! # Ok::<(), Box<dyn std::error::Error>>(()) }).unwrap();
//! ```
//!
//! # A server's `main`
//!
//! ```no_run
//! use clap::Parser;
//! # fn service() -> aion_service::Service {
//! #     let routes = utoipa_axum::router::OpenApiRouter::new();
//! #     aion_service::Service::new("demo", 9400, routes, std::sync::Arc::new(aion_service::NoState))
//! # }
//! #[derive(Parser)]
//! struct Cli {
//!     #[command(flatten)]
//!     serve: aion_service::ServeArgs,
//! }
//!
//! # async fn run() -> Result<(), aion_service::ServeError> {
//! let options = Cli::parse().serve.resolve(9400)?;
//! aion_service::run(service(), options).await
//! # }
//! ```
//!
//! # Reading order
//! [`Problem`], [`Json`]/[`Path`]/[`Query`], [`StateSource`], [`Service`], [`Limits`], [`ServeArgs`], [`serve`].

mod access;
mod chain;
mod document;
mod envelope;
mod error;
mod extract;
mod limits;
mod logging;
mod members;
mod metering;
mod options;
mod problem;
mod serve;
mod service;
mod state;
pub mod webhook;
pub mod whole;

pub use access::{Access, ApiKey, MIN_KEY_BYTES, protect};
pub use chain::{chain, report};
pub use envelope::{REQUEST_ID_HEADER, current_request_id};
pub use error::ServeError;
pub use extract::{Json, Path, Query, parse_json};
pub use limits::{Limits, PathLimits};
pub use logging::{LogFormat, init_tracing};
pub use metering::{IN_FLIGHT, REQUEST_SECONDS, REQUESTS_TOTAL};
pub use options::{ServeArgs, ServeOptions, secret};
pub use problem::{PROBLEM_JSON, Problem, ProblemCode};
pub use serve::{Server, run, serve, stop_signal};
pub use service::Service;
pub use state::{NoState, StateQuery, StateSource, TASK_STATE_HEADER, merge_state};
