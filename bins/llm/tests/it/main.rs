//! The service around a tiny random model, called without sockets.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

mod encoder;
mod errors;
mod load;
mod protocol;

use aion_llm::testkit::TinyModel;
use aion_llm::{Engine, EngineOptions};
use aion_llm_server::{LlmOptions, service};
use aion_service::Limits;
use axum::Router;
use axum::body::Body;
use http::{Method, Request, Response, StatusCode};
use http_body_util::BodyExt as _;
use serde_json::Value;
use tower::ServiceExt as _;

fn engine() -> Engine {
    let options = EngineOptions::default().with_threads(1).with_name("tiny");
    Engine::load(&TinyModel::random(1).source(), options).unwrap()
}

fn router(options: LlmOptions) -> Router {
    service(engine(), options).into_router(&Limits::default())
}

/// A router whose model is loaded.
async fn ready(options: LlmOptions) -> Router {
    let router = router(options);
    wait_until_ready(&router).await;
    router
}

async fn wait_until_ready(router: &Router) {
    while send(router, Method::GET, "/readyz", &Value::Null).await.status() != StatusCode::OK {
        tokio::time::sleep(std::time::Duration::from_millis(5)).await;
    }
}

async fn send(router: &Router, method: Method, path: &str, body: &Value) -> Response<Body> {
    let request = Request::builder()
        .method(method)
        .uri(path)
        .header("content-type", "application/json");
    let body = if body.is_null() {
        Body::empty()
    } else {
        Body::from(body.to_string())
    };
    router.clone().oneshot(request.body(body).unwrap()).await.unwrap()
}

async fn text(response: Response<Body>) -> String {
    String::from_utf8(response.into_body().collect().await.unwrap().to_bytes().to_vec()).unwrap()
}

async fn post(router: &Router, path: &str, body: &Value) -> (StatusCode, Value) {
    let response = send(router, Method::POST, path, body).await;
    let status = response.status();
    (status, serde_json::from_str(&text(response).await).unwrap())
}

async fn ok(router: &Router, path: &str, body: &Value) -> Value {
    let (status, value) = post(router, path, body).await;
    assert_eq!(status, StatusCode::OK, "{value}");
    value
}

/// The data of a stream's events; the last is `[DONE]` in the older protocols.
async fn events(router: &Router, path: &str, body: &Value) -> Vec<String> {
    let response = send(router, Method::POST, path, body).await;
    assert_eq!(response.headers()["content-type"], "text/event-stream");
    let text = text(response).await;
    text.lines()
        .filter_map(|line| line.strip_prefix("data: "))
        .map(str::to_owned)
        .collect()
}
