//! [`Service`]: routes with their OpenAPI document, and everything every service has.

use std::collections::BTreeMap;
use std::fmt;
use std::sync::Arc;

use axum::Router;
use axum::extract::{DefaultBodyLimit, State};
use axum::middleware::{from_fn, from_fn_with_state};
use axum::response::{IntoResponse, Response};
use http::{HeaderMap, Method, StatusCode, Uri, header};
use serde_json::Value;
use tower_http::catch_panic::CatchPanicLayer;
use utoipa::openapi::OpenApi;
use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;

use crate::envelope::{self, Owners};
use crate::limits::{self, Guard};
use crate::state::Merged;
use crate::{Json, Limits, PathLimits, Problem, StateQuery, StateSource, document, metering};

/// One HTTP service: its own routes, plus `/state`, `/healthz`, `/readyz`, `/metrics`, `/openapi.json`.
///
/// The routes come from `utoipa_axum`, so that the OpenAPI document cannot drift from what is served.
pub struct Service {
    name: &'static str,
    default_port: u16,
    routes: Router,
    api: OpenApi,
    state: Arc<dyn StateSource>,
    path_limits: BTreeMap<String, PathLimits>,
    owners: BTreeMap<String, &'static str>,
}

impl Service {
    /// A service called `name` (`"market"`), which listens on `default_port` unless told otherwise.
    pub fn new(
        name: &'static str,
        default_port: u16,
        routes: OpenApiRouter,
        state: Arc<dyn StateSource>,
    ) -> Self {
        let (routes, api) = routes.split_for_parts();
        let owners = api.paths.paths.keys().map(|path| (path.clone(), name)).collect();
        Self {
            name,
            default_port,
            routes,
            api,
            state,
            path_limits: BTreeMap::new(),
            owners,
        }
    }

    /// Several services as one: routes side by side, their states merged, ready when all are. In the document,
    /// schemas and operations of equal names but different meaning get the name of their service before theirs.
    ///
    /// # Panics
    /// When two services have the same path and method.
    pub fn combine(name: &'static str, default_port: u16, services: impl IntoIterator<Item = Self>) -> Self {
        let mut states = Vec::new();
        let mut whole = Self::new(name, default_port, OpenApiRouter::new(), Arc::new(crate::NoState));
        for service in services {
            whole.routes = whole.routes.merge(service.routes);
            document::merge(&mut whole.api, service.api, service.name);
            whole.path_limits.extend(service.path_limits);
            whole.owners.extend(service.owners);
            states.push(service.state);
        }
        whole.state = Arc::new(Merged(states));
        whole
    }

    /// Gives one path its own limits; `path` is written as in the routes (`/tasks/{id}`).
    #[must_use]
    pub fn with_path_limits(mut self, path: impl Into<String>, limits: PathLimits) -> Self {
        self.path_limits.insert(path.into(), limits);
        self
    }

    /// The name.
    pub fn name(&self) -> &'static str {
        self.name
    }

    /// The port to listen on unless told otherwise.
    pub fn default_port(&self) -> u16 {
        self.default_port
    }

    /// The state of the service, as `GET /state` gives it.
    pub fn state(&self) -> Arc<dyn StateSource> {
        Arc::clone(&self.state)
    }

    /// The OpenAPI 3.1 document: pretty, in a stable order, with a newline at the end.
    pub fn openapi_json(&self) -> String {
        let (_, shared) = shared_routes(self.shared(String::new())).split_for_parts();
        let mut api = self.api.clone();
        api.merge(shared);
        document::complete(&mut api, self.name, self.default_port);
        // Only maps with keys that are not strings cannot be written, and the document has none.
        let mut text = api.to_pretty_json().unwrap_or_default();
        text.push('\n');
        text
    }

    /// The service as an axum router with every layer in place. Put it behind
    /// [`protect`](crate::protect) or [`serve`](crate::serve) before the network sees it.
    pub fn into_router(self, limits: &Limits) -> Router {
        metering::handle();
        let (shared, _) = shared_routes(self.shared(self.openapi_json())).split_for_parts();
        let guard = Guard::new(limits.clone(), self.path_limits);
        let owners = Arc::new(Owners {
            name: self.name,
            paths: self.owners,
        });
        self.routes
            .merge(shared)
            .fallback(unknown_route)
            .method_not_allowed_fallback(wrong_method)
            .layer(from_fn(problems_only))
            .layer(DefaultBodyLimit::disable())
            .layer(from_fn_with_state(guard, limits::enforce))
            .layer(CatchPanicLayer::custom(envelope::panic_response))
            .layer(from_fn_with_state(owners, envelope::wrap))
    }

    fn shared(&self, openapi_json: String) -> Arc<Shared> {
        Arc::new(Shared {
            state: Arc::clone(&self.state),
            openapi_json,
        })
    }
}

impl fmt::Debug for Service {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let paths: Vec<_> = self.api.paths.paths.keys().collect();
        f.debug_struct("Service")
            .field("name", &self.name)
            .field("paths", &paths)
            .finish_non_exhaustive()
    }
}

/// What the shared operations answer from.
struct Shared {
    state: Arc<dyn StateSource>,
    openapi_json: String,
}

fn shared_routes(shared: Arc<Shared>) -> OpenApiRouter {
    OpenApiRouter::new()
        .routes(routes!(get_state))
        .routes(routes!(healthz))
        .routes(routes!(readyz))
        .routes(routes!(metrics_text))
        .routes(routes!(openapi_document))
        .with_state(shared)
}

/// The present state of the service: a small JSON object that can be merged with other services'.
#[utoipa::path(
    get,
    path = "/state",
    operation_id = "get_state",
    tag = "service",
    params(("x-task-state" = Option<String>, Header, description = "The caller's task, where the state depends on it")),
    responses((status = 200, description = "The state", body = Object)),
)]
async fn get_state(State(shared): State<Arc<Shared>>, headers: HeaderMap) -> Result<Json<Value>, Problem> {
    shared
        .state
        .state(&StateQuery::from_headers(&headers))
        .await
        .map(Json)
}

/// Whether the process is alive. Needs no key.
#[utoipa::path(
    get,
    path = "/healthz",
    operation_id = "healthz",
    tag = "service",
    responses((status = 200, description = "Alive", body = String, content_type = "text/plain")),
)]
async fn healthz() -> &'static str {
    "ok\n"
}

/// Whether the service can take work now.
#[utoipa::path(
    get,
    path = "/readyz",
    operation_id = "readyz",
    tag = "service",
    responses(
        (status = 200, description = "Ready", body = String, content_type = "text/plain"),
        (status = 503, description = "Not ready", body = Problem, content_type = "application/problem+json"),
    ),
)]
async fn readyz(State(shared): State<Arc<Shared>>) -> Result<&'static str, Problem> {
    let ready = shared.state.ready().await;
    ready
        .map(|()| "ready\n")
        .map_err(|reason| Problem::unavailable("not_ready", reason))
}

/// The metrics of the process in the Prometheus text format.
#[utoipa::path(
    get,
    path = "/metrics",
    operation_id = "metrics",
    tag = "service",
    responses((status = 200, description = "Metrics", body = String, content_type = "text/plain")),
)]
async fn metrics_text(State(shared): State<Arc<Shared>>) -> impl IntoResponse {
    shared.state.measure().await;
    (
        [(header::CONTENT_TYPE, "text/plain; version=0.0.4; charset=utf-8")],
        metering::render(),
    )
}

/// This document.
#[utoipa::path(
    get,
    path = "/openapi.json",
    operation_id = "openapi",
    tag = "service",
    responses((status = 200, description = "The OpenAPI 3.1 document", body = Object)),
)]
async fn openapi_document(State(shared): State<Arc<Shared>>) -> impl IntoResponse {
    (
        [(header::CONTENT_TYPE, "application/json")],
        shared.openapi_json.clone(),
    )
}

async fn unknown_route(method: Method, uri: Uri) -> Problem {
    Problem::not_found("unknown_route", format!("there is no {method} {}", uri.path()))
}

async fn wrong_method(method: Method, uri: Uri) -> Problem {
    let detail = format!(
        "{} does not take {method}; the Allow header lists what it takes",
        uri.path()
    );
    Problem::new(StatusCode::METHOD_NOT_ALLOWED, "method_not_allowed", detail)
}

/// Extractors of axum itself reject with plain text; a client still gets a problem document.
async fn problems_only(request: axum::extract::Request, next: axum::middleware::Next) -> Response {
    let response = next.run(request).await;
    let plain = response
        .headers()
        .get(header::CONTENT_TYPE)
        .is_some_and(|value| value.to_str().is_ok_and(|value| value.starts_with("text/plain")));
    if !response.status().is_client_error() || !plain {
        return response;
    }
    let status = response.status();
    let body = axum::body::to_bytes(response.into_body(), 4096)
        .await
        .unwrap_or_default();
    Problem::new(status, "rejected", String::from_utf8_lossy(&body).into_owned()).into_response()
}
