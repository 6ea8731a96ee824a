//! A service over a fresh directory, called without sockets.

use std::path::PathBuf;

use aion_machine::{LocalOptions, Supervisor};
use aion_machine_server::{MachineOptions, service};
use aion_service::Limits;
use axum::Router;
use axum::body::Body;
use axum::http::{Request, StatusCode};
use http_body_util::BodyExt;
use serde_json::Value;
use tempfile::TempDir;
use tower::ServiceExt;

pub(crate) struct Server {
    pub(crate) dir: TempDir,
    pub(crate) router: Router,
}

/// One call: operation, body, headers.
pub(crate) struct Call<'a> {
    pub(crate) operation: &'a str,
    pub(crate) body: Value,
    pub(crate) headers: Vec<(&'a str, String)>,
}

pub(crate) fn call(operation: &str, body: Value) -> Call<'_> {
    Call {
        operation,
        body,
        headers: Vec::new(),
    }
}

impl Call<'_> {
    pub(crate) fn key(mut self, key: &str) -> Self {
        self.headers.push(("idempotency-key", key.to_owned()));
        self
    }

    pub(crate) fn task(mut self, state: &str) -> Self {
        self.headers.push(("x-task-state", state.to_owned()));
        self
    }
}

/// This package's own binary supervises: its `main` begins with the hook.
pub(crate) fn local() -> LocalOptions {
    LocalOptions::default().with_supervisor(Supervisor::Program(
        env!("CARGO_BIN_EXE_aion-machine-server").into(),
    ))
}

/// A machine in a directory, with a journal.
pub(crate) fn options(dir: &TempDir) -> MachineOptions {
    MachineOptions::new(dir.path().join("work"))
        .with_journal(dir.path().join("keys"))
        .with_local(local())
}

impl Server {
    pub(crate) fn new() -> Self {
        Self::over(tempfile::tempdir().unwrap())
    }

    /// Serves a directory that may have been served before.
    pub(crate) fn over(dir: TempDir) -> Self {
        Self::with(dir, local())
    }

    pub(crate) fn with(dir: TempDir, local: LocalOptions) -> Self {
        let options = options(&dir).with_local(local);
        Self::of(dir, options)
    }

    pub(crate) fn of(dir: TempDir, options: MachineOptions) -> Self {
        let router = service(options).unwrap().into_router(&Limits::default());
        Self { dir, router }
    }

    /// Ends the service; its directory.
    pub(crate) fn close(self) -> TempDir {
        drop(self.router);
        self.dir
    }

    /// Ends the service and serves the same directory again.
    pub(crate) fn restart(self) -> Self {
        Self::over(self.close())
    }

    pub(crate) fn file(&self, name: &str) -> PathBuf {
        self.dir.path().join("work").join(name)
    }

    pub(crate) async fn send(&self, call: Call<'_>) -> (StatusCode, Value) {
        let mut request =
            Request::post(format!("/v1/{}", call.operation)).header("content-type", "application/json");
        for (name, value) in call.headers {
            request = request.header(name, value);
        }
        self.answer(request.body(Body::from(call.body.to_string())).unwrap())
            .await
    }

    pub(crate) async fn get(&self, path: &str, task: Option<&str>) -> (StatusCode, Value) {
        let mut request = Request::get(path);
        if let Some(task) = task {
            request = request.header("x-task-state", task);
        }
        self.answer(request.body(Body::empty()).unwrap()).await
    }

    /// What an operator sends.
    pub(crate) async fn operate(&self, path: &str, key: &str) -> (StatusCode, Value) {
        let request = Request::get(path).header("x-operator-key", key);
        self.answer(request.body(Body::empty()).unwrap()).await
    }

    pub(crate) async fn delete(&self, path: &str) -> (StatusCode, Value) {
        self.answer(Request::delete(path).body(Body::empty()).unwrap())
            .await
    }

    async fn answer(&self, request: Request<Body>) -> (StatusCode, Value) {
        let response = self.router.clone().oneshot(request).await.unwrap();
        let status = response.status();
        let body = response.into_body().collect().await.unwrap().to_bytes();
        (status, serde_json::from_slice(&body).unwrap_or(Value::Null))
    }

    /// A call that must succeed.
    pub(crate) async fn ok(&self, call: Call<'_>) -> Value {
        let operation = call.operation.to_owned();
        let (status, body) = self.send(call).await;
        assert_eq!(status, StatusCode::OK, "{operation}: {body}");
        body
    }

    /// A call that must fail; its status and code.
    pub(crate) async fn problem(&self, call: Call<'_>) -> (u16, String) {
        let (status, body) = self.send(call).await;
        assert!(!status.is_success(), "{body}");
        assert_eq!(body["status"], status.as_u16(), "{body}");
        (status.as_u16(), body["code"].as_str().unwrap().to_owned())
    }
}
