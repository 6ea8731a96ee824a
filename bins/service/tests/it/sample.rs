//! A small service with operations that fail in every way, and a client of it.

use std::sync::Arc;
use std::time::Duration;

use aion_service::{Json, Path, PathLimits, Problem, Query, Service, StateQuery, StateSource};
use async_trait::async_trait;
use axum::Router;
use axum::body::Body;
use axum::response::Response;
use http::{Request, StatusCode};
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};
use tower::ServiceExt as _;
use utoipa::ToSchema;
use utoipa_axum::{router::OpenApiRouter, routes};

/// What the sample service takes.
#[derive(Debug, Deserialize, Serialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct Order {
    name: String,
    lines: Vec<Line>,
}

/// A part of an order.
#[derive(Debug, Deserialize, Serialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct Line {
    count: u8,
}

#[derive(Debug, Deserialize)]
struct Page {
    limit: u32,
}

/// Takes an order.
#[utoipa::path(post, path = "/orders", request_body = Order, responses((status = 200, body = Order)))]
async fn order(Json(order): Json<Order>) -> Json<Order> {
    Json(order)
}

/// One order.
#[utoipa::path(get, path = "/orders/{id}", params(("id" = u32, Path)), responses((status = 200, body = u32)))]
async fn one(Path(id): Path<u32>, Query(page): Query<Page>) -> Json<u32> {
    Json(id + page.limit)
}

/// Panics with a secret.
#[utoipa::path(get, path = "/panic", responses((status = 200, body = u32)))]
async fn panics() -> Json<u32> {
    Json("secret-in-a-panic".parse().expect("a number"))
}

/// Fails with a cause that is nobody's business.
#[utoipa::path(get, path = "/broken", responses((status = 200, body = u32)))]
async fn broken() -> Result<Json<u32>, Problem> {
    Err(Problem::internal("secret-cause"))
}

/// Takes half a second.
#[utoipa::path(get, path = "/slow", responses((status = 200, body = u32)))]
async fn slow() -> Json<u32> {
    tokio::time::sleep(Duration::from_millis(500)).await;
    Json(1)
}

/// Takes half a second, which is fine here.
#[utoipa::path(get, path = "/patient", responses((status = 200, body = u32)))]
async fn patient() -> Json<u32> {
    tokio::time::sleep(Duration::from_millis(500)).await;
    Json(2)
}

/// Uses an extractor of axum itself, whose rejection is plain text.
#[utoipa::path(post, path = "/plain", responses((status = 200, body = u32)))]
async fn plain(axum::Json(order): axum::Json<Order>) -> Json<usize> {
    Json(order.lines.len())
}

/// Says which task asked; not ready for a task called `nobody`.
struct Echo;

#[async_trait]
impl StateSource for Echo {
    async fn state(&self, query: &StateQuery) -> Result<Value, Problem> {
        Ok(json!({ "sample": { "task": query.task_state } }))
    }
}

/// Never ready.
pub(crate) struct Waiting;

#[async_trait]
impl StateSource for Waiting {
    async fn state(&self, _query: &StateQuery) -> Result<Value, Problem> {
        Ok(json!({ "waiting": true }))
    }

    async fn ready(&self) -> Result<(), String> {
        Err("the store is not open yet".to_owned())
    }
}

/// The sample service under a name of the caller's, so that metrics of tests do not mix.
pub(crate) fn service(name: &'static str) -> Service {
    let routes = OpenApiRouter::new()
        .routes(routes!(order))
        .routes(routes!(one))
        .routes(routes!(panics))
        .routes(routes!(broken))
        .routes(routes!(slow))
        .routes(routes!(patient))
        .routes(routes!(plain));
    Service::new(name, 9999, routes, Arc::new(Echo))
        .with_path_limits("/patient", PathLimits::new().without_timeout())
}

pub(crate) fn get(uri: &str) -> Request<Body> {
    Request::get(uri).body(Body::empty()).unwrap()
}

pub(crate) fn post(uri: &str, body: impl Into<Body>) -> Request<Body> {
    Request::post(uri)
        .header("content-type", "application/json")
        .body(body.into())
        .unwrap()
}

pub(crate) async fn send(router: &Router, request: Request<Body>) -> Response {
    router.clone().oneshot(request).await.unwrap()
}

pub(crate) async fn text(response: Response) -> String {
    let body = axum::body::to_bytes(response.into_body(), 1 << 20).await.unwrap();
    String::from_utf8(body.to_vec()).unwrap()
}

/// Asserts that the response is a whole problem document, and returns it.
pub(crate) async fn problem(response: Response, status: u16, code: &str) -> Value {
    assert_eq!(response.status(), StatusCode::from_u16(status).unwrap());
    assert_eq!(response.headers()["content-type"], "application/problem+json");
    assert_eq!(response.headers()["x-content-type-options"], "nosniff");
    assert_eq!(response.headers()["cache-control"], "no-store");
    let id = response.headers()["x-request-id"].to_str().unwrap().to_owned();
    let document: Value = serde_json::from_str(&text(response).await).unwrap();
    assert_eq!(document["status"], status);
    assert_eq!(document["code"], code);
    assert_eq!(document["type"], format!("urn:aion:problem:{code}"));
    assert_eq!(document["trace_id"], id);
    assert!(!document["title"].as_str().unwrap().is_empty());
    document
}
