//! Every request to an operation has a row in the audit log: where nobody else wrote one, it is written here.
//!
//! A workspace records what it is asked for. What never comes so far (a refusal, an answer that was kept under a key)
//! and what is not about a workspace's files (executions that are asked for) is recorded when it is answered. An
//! answer that cannot be recorded is not given. Reading the log and asking what the machine is leave no row.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use aion_machine::RelPath;
use aion_machine::audit::{AuditEvent, Outcome};
use aion_service::ProblemCode;
use axum::extract::{MatchedPath, Request, State};
use axum::http::StatusCode;
use axum::middleware::Next;
use axum::response::{IntoResponse, Response};
use serde_json::json;

use crate::context::Context;
use crate::problem::from_error;
use crate::task::TaskState;

/// The longest part of an address that is recorded, in characters.
const MAX_PATH_CHARS: usize = 200;
/// What leaves no row when it succeeds.
const SILENT: [&str; 2] = ["/v1/audit", "/v1/machine"];

/// What became known of a request while it was answered.
#[derive(Debug, Default)]
struct Seen {
    is_recorded: AtomicBool,
    task: Mutex<Option<TaskState>>,
}

tokio::task_local! {
    static SEEN: Arc<Seen>;
}

/// There is a row of this request.
pub(crate) fn is_recorded() {
    let _ = SEEN.try_with(|seen| seen.is_recorded.store(true, Ordering::Relaxed));
}

/// This task asks.
pub(crate) fn is_of(task: &TaskState) {
    let _ = SEEN.try_with(|seen| {
        *seen.task.lock().unwrap_or_else(PoisonError::into_inner) = Some(task.clone());
    });
}

/// The same work as a part of this request, to be spawned.
pub(crate) fn as_part<T>(work: impl Future<Output = T>) -> impl Future<Output = T> {
    let seen = SEEN.try_with(Arc::clone).unwrap_or_default();
    SEEN.scope(seen, work)
}

/// Records what nobody else has recorded.
pub(super) async fn record(State(context): State<Arc<Context>>, request: Request, next: Next) -> Response {
    let route = request.extensions().get::<MatchedPath>().cloned();
    let route = route.as_ref().map_or("", MatchedPath::as_str);
    let path: String = request.uri().path().chars().take(MAX_PATH_CHARS).collect();
    let what = json!({"method": request.method().as_str(), "path": path});
    let seen: Arc<Seen> = Arc::default();
    let response = SEEN.scope(Arc::clone(&seen), next.run(request)).await;
    let is_silent = response.status().is_success() && SILENT.contains(&route);
    if is_silent || seen.is_recorded.load(Ordering::Relaxed) {
        return response;
    }
    let (outcome, code) = outcome(&response);
    let task = seen.task.lock().unwrap_or_else(PoisonError::into_inner).take();
    let TaskState { task_id, cwd } = task.unwrap_or(TaskState {
        task_id: None,
        cwd: RelPath::root(),
    });
    let event = AuditEvent::new("request", cwd)
        .with_task(task_id)
        .with_outcome(outcome, code.as_deref())
        .with_what(what);
    match context.record(event).await {
        Err(error) if outcome == Outcome::Done => from_error(&error, "").into_response(),
        Err(error) => {
            tracing::warn!(%error, "a refused request is not in the audit log");
            response
        }
        Ok(()) => response,
    }
}

fn outcome(response: &Response) -> (Outcome, Option<String>) {
    let status = response.status();
    let code = response.extensions().get::<ProblemCode>();
    let code = code.map_or_else(|| format!("http_{}", status.as_u16()), |code| code.0.to_string());
    if status.is_success() {
        (Outcome::Done, None)
    } else if status.is_client_error() || status == StatusCode::SERVICE_UNAVAILABLE {
        (Outcome::Denied, Some(code))
    } else {
        (Outcome::Failed, Some(code))
    }
}
