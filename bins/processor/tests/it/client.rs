//! A client of the router, with a clock that stands still.

use aion_processor::{Limits, MemTaskStore, Processor};
use aion_types::{ManualClock, Timestamp};
use axum::Router;
use axum::body::Body;
use http::{Request, Response, StatusCode};
use http_body_util::BodyExt;
use serde_json::{Value, json};
use tower::ServiceExt;

pub(crate) struct Client {
    pub(crate) clock: ManualClock,
    pub(crate) processor: Processor,
    router: Router,
}

impl Client {
    pub(crate) fn new() -> Self {
        Self::over(MemTaskStore::new)
    }

    pub(crate) fn over(store: impl FnOnce(ManualClock, Limits) -> MemTaskStore) -> Self {
        let clock = ManualClock::at(Timestamp::from_ms(1_700_000_000_000));
        let processor = Processor::new(store(clock.clone(), Limits::default()));
        let router =
            aion_processor_server::service(processor.clone()).into_router(&aion_service::Limits::default());
        Self {
            clock,
            processor,
            router,
        }
    }

    pub(crate) async fn send(&self, request: Request<Body>) -> Response<Body> {
        self.router.clone().oneshot(request).await.unwrap()
    }

    pub(crate) async fn ask(&self, request: Request<Body>) -> (StatusCode, Value) {
        let response = self.send(request).await;
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

    /// Creates a task and gives its id.
    pub(crate) async fn task(&self) -> String {
        let task = self
            .ok("/v1/tasks", json!({"kind": "test", "title": "A task"}))
            .await;
        task["id"].as_str().unwrap().to_owned()
    }

    /// Creates a task, claims it, and gives its path and epoch.
    pub(crate) async fn claimed(&self) -> (String, u64) {
        let id = self.task().await;
        let leases = self
            .ok("/v1/claims", json!({"handler_id": "worker", "task_id": id}))
            .await;
        (
            format!("/v1/tasks/{id}"),
            leases["leases"][0]["epoch"].as_u64().unwrap(),
        )
    }
}

pub(crate) fn post(path: &str, body: &Value) -> Request<Body> {
    let request = Request::post(path).header("content-type", "application/json");
    request.body(Body::from(body.to_string())).unwrap()
}
