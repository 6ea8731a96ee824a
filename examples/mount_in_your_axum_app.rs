//! Services as routers of your own program: `cargo run -p aion-examples --example mount_in_your_axum_app`
//!
//! Expect: a task created over HTTP below `/tasks`, the market's state below `/market`, your own route
//! beside them; all of it here without a socket (`axum::serve` takes the same router).
#![allow(clippy::print_stdout)]

use aion_market::Market;
use aion_processor::{MemTaskStore, Processor};
use aion_service::Limits;
use aion_trust::TrustLedger;
use aion_types::{Clock, SystemClock, TaskId};
use axum::body::Body;
use axum::http::{Request, StatusCode};
use axum::{Router, routing::get};
use http_body_util::BodyExt;
use serde_json::{Value, json};
use tower::ServiceExt;

#[tokio::main(flavor = "current_thread")]
async fn main() -> Result<(), Box<dyn std::error::Error>> {
    let processor = Processor::new(MemTaskStore::new(SystemClock, aion_processor::Limits::default()));
    let market = Market::in_memory();
    let limits = Limits::default();
    let app = Router::new()
        .route("/", get(|| async { "my program" }))
        .nest(
            "/tasks",
            aion_processor_server::service(processor.clone()).into_router(&limits),
        )
        .nest(
            "/market",
            aion_market_server::service(market, TrustLedger::in_memory()).into_router(&limits),
        );

    let id = TaskId::generate(SystemClock.now());
    let task = json!({"id": id.to_string(), "kind": "demo", "title": "A task over HTTP"});
    let (status, made) = call(&app, "POST", "/tasks/v1/tasks", Some(&task)).await?;
    println!("POST /tasks/v1/tasks: {status} {}", made["status"]);
    // The handle sees the same tasks: it is one store.
    println!("by the handle: {}", processor.get(id).await?.status);

    let (status, state) = call(&app, "GET", "/market/state", None).await?;
    println!("GET /market/state: {status} {state}");
    let (status, problem) = call(&app, "POST", "/tasks/v1/tasks", Some(&json!({"kind": 7}))).await?;
    println!(
        "a bad body: {status} {} at {}",
        problem["code"], problem["pointer"]
    );
    let (status, _) = call(&app, "GET", "/", None).await?;
    println!("GET /: {status}");
    Ok(())
}

async fn call(
    app: &Router,
    method: &str,
    path: &str,
    body: Option<&Value>,
) -> Result<(StatusCode, Value), Box<dyn std::error::Error>> {
    let body = body.map_or_else(Body::empty, |body| Body::from(body.to_string()));
    let request = Request::builder()
        .method(method)
        .uri(path)
        .header("content-type", "application/json")
        .body(body)?;
    let response = app.clone().oneshot(request).await?;
    let status = response.status();
    let bytes = response.into_body().collect().await?.to_bytes();
    Ok((status, serde_json::from_slice(&bytes).unwrap_or(Value::Null)))
}
