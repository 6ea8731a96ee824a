//! A client of the service.

use std::sync::Arc;

use aion_router::{ByteTokens, EngineOptions, Exploration, LiveRouter};
use axum::Router;
use axum::body::Body;
use http::{Method, Request, StatusCode};
use http_body_util::BodyExt;
use serde_json::{Value, json};
use tower::ServiceExt;

pub(crate) struct Client(Router);

impl Client {
    pub(crate) fn new() -> Self {
        Self::with(EngineOptions::default())
    }

    pub(crate) fn with_holdout(share: f64) -> Self {
        let exploration = Exploration::default().with_holdout(share);
        Self::with(EngineOptions::default().with_exploration(exploration))
    }

    fn with(options: EngineOptions) -> Self {
        Self::over(LiveRouter::in_memory(options).unwrap())
    }

    pub(crate) fn over(router: LiveRouter) -> Self {
        let service = aion_router_server::service(router, Arc::new(ByteTokens));
        Self(service.into_router(&aion_service::Limits::default()))
    }

    pub(crate) async fn ask(&self, method: Method, path: &str, body: Body) -> (StatusCode, Value) {
        let request = Request::builder().method(method).uri(path);
        let request = request
            .header("content-type", "application/json")
            .body(body)
            .unwrap();
        let response = self.0.clone().oneshot(request).await.unwrap();
        let status = response.status();
        let bytes = response.into_body().collect().await.unwrap().to_bytes();
        (status, serde_json::from_slice(&bytes).unwrap_or(Value::Null))
    }

    pub(crate) async fn get(&self, path: &str) -> (StatusCode, Value) {
        self.ask(Method::GET, path, Body::empty()).await
    }

    pub(crate) async fn post(&self, path: &str, body: Value) -> (StatusCode, Value) {
        self.ask(Method::POST, path, Body::from(body.to_string())).await
    }

    pub(crate) async fn put(&self, path: &str, body: Value) -> (StatusCode, Value) {
        self.ask(Method::PUT, path, Body::from(body.to_string())).await
    }

    /// Puts items in that must be taken.
    pub(crate) async fn fill(&self, items: Value) -> Value {
        let (status, answer) = self.put("/v1/items", json!({ "items": items })).await;
        assert_eq!(status, StatusCode::OK, "{answer}");
        answer
    }

    /// Ranks tools within a budget.
    pub(crate) async fn rank(&self, text: &str, tokens: u32, seed: u64) -> Value {
        let body = json!({
            "text": text, "total_tokens": tokens, "seed": seed, "surfaces": [{"surface": "tool"}],
        });
        let (status, answer) = self.post("/v1/rank", body).await;
        assert_eq!(status, StatusCode::OK, "{answer}");
        answer
    }
}

/// Four tools.
pub(crate) fn tools() -> Value {
    json!([
        {"surface": "tool", "name": "read_file", "text": "Reads the contents of a file"},
        {"surface": "tool", "name": "send_mail", "text": "Sends an e-mail message", "tags": ["mail"]},
        {"surface": "tool", "name": "weather", "text": "Temperature and rain at a place"},
        {"surface": "tool", "name": "exec", "text": "Runs a shell command", "pinned": true,
         "renderings": [{"text": "exec"}, {"text": "exec: runs a shell command", "tokens": 7}]},
    ])
}
