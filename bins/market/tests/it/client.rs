//! A client of the router, with a clock that stands still.

use std::sync::Arc;

use aion_market::{Market, MarketOptions, MemoryMarketStore};
use aion_trust::{MemoryLedgerStore, TrustLedger, TrustOptions};
use aion_types::{ManualClock, Timestamp};
use axum::Router;
use axum::body::Body;
use http::{Request, StatusCode};
use http_body_util::BodyExt;
use serde_json::{Value, json};
use tower::ServiceExt;

pub(crate) struct Client {
    router: Router,
}

pub(crate) const TASK: &str = "018bcfe5-6800-7abc-8def-0123456789ab";

impl Client {
    pub(crate) fn new() -> Self {
        let clock = Arc::new(ManualClock::at(Timestamp::from_ms(1_700_000_000_000)));
        let market = Market::new(
            Arc::new(MemoryMarketStore::new()),
            clock.clone(),
            MarketOptions::default(),
        );
        let trust = TrustLedger::new(Arc::new(MemoryLedgerStore::new()), clock, TrustOptions::default());
        let service = aion_market_server::service(market, trust);
        Self::over(service.into_router(&aion_service::Limits::default()))
    }

    /// A client of this router, of whatever service.
    pub(crate) fn over(router: Router) -> Self {
        Self { router }
    }

    pub(crate) fn router(&self) -> Router {
        self.router.clone()
    }

    pub(crate) async fn ask(&self, request: Request<Body>) -> (StatusCode, Value) {
        let response = self.router.clone().oneshot(request).await.unwrap();
        let status = response.status();
        let bytes = response.into_body().collect().await.unwrap().to_bytes();
        (status, serde_json::from_slice(&bytes).unwrap_or(Value::Null))
    }

    pub(crate) async fn get(&self, path: &str) -> (StatusCode, Value) {
        self.ask(Request::get(path).body(Body::empty()).unwrap()).await
    }

    pub(crate) async fn post(&self, path: &str, body: Value) -> (StatusCode, Value) {
        self.ask(post(path, &body)).await
    }

    /// Posts what must succeed.
    pub(crate) async fn ok(&self, path: &str, body: Value) -> Value {
        let (status, answer) = self.post(path, body).await;
        assert!(status.is_success(), "{path}: {status} {answer}");
        answer
    }

    /// Opens a market on a question and gives its path.
    pub(crate) async fn opened(&self, maker: &str) -> String {
        let body = json!({"question": "Will it rain?", "kind": "weather", "maker": maker});
        let market = self.ok("/v1/markets", body).await;
        format!("/v1/markets/{}", market["id"].as_str().unwrap())
    }
}

pub(crate) fn post(path: &str, body: &Value) -> Request<Body> {
    let request = Request::post(path).header("content-type", "application/json");
    request.body(Body::from(body.to_string())).unwrap()
}

/// A body with its headers, as it came.
pub(crate) struct Answer {
    pub(crate) status: StatusCode,
    pub(crate) headers: http::HeaderMap,
    pub(crate) bytes: Vec<u8>,
}

impl Answer {
    pub(crate) fn header(&self, name: &str) -> &str {
        self.headers.get(name).map_or("", |value| value.to_str().unwrap())
    }

    pub(crate) fn json(&self) -> Value {
        serde_json::from_slice(&self.bytes).unwrap()
    }

    /// The code of the problem that it is.
    pub(crate) fn code(&self) -> String {
        self.json()["code"].as_str().unwrap().to_owned()
    }
}

impl Client {
    pub(crate) async fn raw(&self, request: Request<Body>) -> Answer {
        let response = self.router.clone().oneshot(request).await.unwrap();
        let (parts, body) = response.into_parts();
        Answer {
            status: parts.status,
            headers: parts.headers,
            bytes: body.collect().await.unwrap().to_bytes().to_vec(),
        }
    }

    /// Opens a stream, which has no end.
    pub(crate) async fn stream(&self, request: Request<Body>) -> Body {
        let response = self.router.clone().oneshot(request).await.unwrap();
        assert_eq!(response.status(), StatusCode::OK);
        response.into_body()
    }
}
