//! What the machine is, and what was done with it.

use aion_machine::audit::AuditPage;
use aion_machine::wire::About;
use aion_service::{Json, Problem, Query};
use axum::extract::State;
use serde::Deserialize;
use utoipa::IntoParams;

use super::{Answer, Shared};
use crate::context::blocking;
use crate::task::Operator;

const MAX_ROWS: usize = 1000;
const MAX_TASK_CHARS: usize = 128;

/// Says what the machine is and can.
#[utoipa::path(
    get,
    path = "/v1/machine",
    operation_id = "machine",
    tag = "workspace",
    responses((status = 200, description = "What it is.", body = About)),
)]
pub(super) async fn machine(State(context): Shared) -> Json<About> {
    Json(About {
        id: context.machine().id().to_owned(),
        capabilities: context.machine().capabilities(),
    })
}

/// Which rows.
#[derive(Debug, Deserialize, IntoParams)]
#[into_params(parameter_in = Query)]
#[serde(deny_unknown_fields)]
pub(super) struct Rows {
    /// Rows after this number.
    #[serde(default)]
    #[param(default = 0, minimum = 0)]
    after: u64,
    /// How many at most.
    #[serde(default = "default_rows")]
    #[param(default = 100, minimum = 1, maximum = 1000)]
    limit: usize,
    /// Only those of this task.
    #[param(max_length = 128)]
    task: Option<String>,
}

fn default_rows() -> usize {
    100
}

/// Lists what was asked for and what came of it, in the order in which it was recorded.
#[utoipa::path(
    get,
    path = "/v1/audit",
    operation_id = "list_audit",
    tag = "operator",
    params(
        Rows,
        ("X-Operator-Key" = Option<String>, Header, description = "the operator's key, where one is needed"),
    ),
    responses(
        (status = 200, description = "Rows; `next` is where to go on after.", body = AuditPage),
        (status = "4XX", description = "There is no audit log, the caller is no operator, or the request is not valid.", body = Problem, content_type = "application/problem+json"),
        (status = "5XX", description = "The log cannot be read.", body = Problem, content_type = "application/problem+json"),
    )
)]
pub(super) async fn audit(
    State(context): Shared,
    _: Operator,
    Query(rows): Query<Rows>,
) -> Answer<AuditPage> {
    if !(1..=MAX_ROWS).contains(&rows.limit) {
        let detail = format!("between 1 and {MAX_ROWS} rows can be had at once");
        return Err(Problem::unprocessable("invalid_request", detail).at("query:limit"));
    }
    if rows
        .task
        .as_ref()
        .is_some_and(|task| task.chars().count() > MAX_TASK_CHARS)
    {
        let detail = format!("the name of a task has at most {MAX_TASK_CHARS} characters");
        return Err(Problem::unprocessable("invalid_request", detail).at("query:task"));
    }
    let Some(log) = context.audit().cloned() else {
        return Err(Problem::not_found("audit_off", "this server keeps no audit log"));
    };
    let page = blocking(move || log.page(rows.after, rows.limit, rows.task.as_deref())).await?;
    page.map(Json).map_err(|error| {
        tracing::error!(%error, "the audit log cannot be read");
        Problem::unavailable("audit_unavailable", "the audit log cannot be read")
    })
}
