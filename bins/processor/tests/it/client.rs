//! A client of the router, with a clock that stands still.

use aion_processor::{Limits, MemTaskStore, Processor, SqliteOptions, SqliteTaskStore, TaskStore};
use aion_processor_server::{Archive, ServiceOptions};
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
    folder: Option<tempfile::TempDir>,
}

impl Client {
    pub(crate) fn new() -> Self {
        Self::over(MemTaskStore::new)
    }

    pub(crate) fn over(store: impl FnOnce(ManualClock, Limits) -> MemTaskStore) -> Self {
        let clock = clock();
        let store = store(clock.clone(), Limits::default());
        Self::with(clock, store, None)
    }

    /// One client for each kind of store, so that a test can go through both.
    pub(crate) async fn each() -> [Self; 2] {
        [Self::new(), Self::on_sqlite(SqliteOptions::default()).await]
    }

    /// Over a file in a folder of its own, which is the archive as well.
    pub(crate) async fn on_sqlite(options: SqliteOptions) -> Self {
        let (clock, folder) = (clock(), tempfile::tempdir().unwrap());
        let options = options.with_clock(clock.clone());
        let store = SqliteTaskStore::open(folder.path().join("processor.db"), options).await;
        Self::with(clock, store.unwrap(), Some(folder))
    }

    pub(crate) fn with(clock: ManualClock, store: impl TaskStore, folder: Option<tempfile::TempDir>) -> Self {
        let processor = Processor::new(store);
        let mut options = ServiceOptions::default();
        if let Some(folder) = &folder {
            options = options.with_archive(Archive::new(folder.path()));
        }
        let service = aion_processor_server::service_with(processor.clone(), options);
        Self {
            clock,
            processor,
            router: service.into_router(&aion_service::Limits::default()),
            folder,
        }
    }

    /// Where the file and the archive are.
    pub(crate) fn folder(&self) -> &std::path::Path {
        self.folder.as_ref().unwrap().path()
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

    pub(crate) async fn put(&self, path: &str, body: Value) -> (StatusCode, Value) {
        self.ask(put(path, &body, &[])).await
    }

    pub(crate) async fn delete(&self, path: &str) -> (StatusCode, Value) {
        self.ask(Request::delete(path).body(Body::empty()).unwrap()).await
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

pub(crate) fn clock() -> ManualClock {
    ManualClock::at(Timestamp::from_ms(1_700_000_000_000))
}

pub(crate) fn put(path: &str, body: &Value, headers: &[(&str, &str)]) -> Request<Body> {
    let mut request = Request::put(path).header("content-type", "application/json");
    for (name, value) in headers {
        request = request.header(*name, *value);
    }
    request.body(Body::from(body.to_string())).unwrap()
}

/// The status, the code and the pointer of a problem.
pub(crate) fn problem((status, body): (StatusCode, Value)) -> (u16, String, String) {
    let member = |name: &str| body[name].as_str().unwrap_or_default().to_owned();
    (status.as_u16(), member("code"), member("pointer"))
}

/// What [`problem`] gives, to be compared with.
pub(crate) fn wanted(status: u16, code: &str, pointer: &str) -> (u16, String, String) {
    (status, code.to_owned(), pointer.to_owned())
}

pub(crate) fn post(path: &str, body: &Value) -> Request<Body> {
    let request = Request::post(path).header("content-type", "application/json");
    request.body(Body::from(body.to_string())).unwrap()
}
