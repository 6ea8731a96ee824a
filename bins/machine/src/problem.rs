//! Errors of the machine as problem documents.

use std::borrow::Cow;

use aion_machine::{Error, wire};
use aion_service::{Problem, current_request_id};
use axum::body::Body;
use axum::http::StatusCode;
use axum::response::{IntoResponse, Response};
use serde::Serialize;
use serde_json::{Value, json};
use utoipa::openapi::{RefOr, Schema};
use utoipa::{PartialSchema, ToSchema};

/// The problem of an error; `field` is the member of the body that most errors are about.
pub(crate) fn from_error(error: &Error, field: &'static str) -> Problem {
    let code = error.code();
    let detail = aion_service::chain(error);
    let status = match error {
        Error::NotFound { .. } | Error::UnknownSnapshot { .. } => StatusCode::NOT_FOUND,
        Error::Exists { .. } | Error::HardLinked { .. } => StatusCode::CONFLICT,
        Error::Escapes { .. } | Error::Denied { .. } | Error::EnvDenied { .. } => StatusCode::FORBIDDEN,
        Error::TooLarge { .. } => StatusCode::PAYLOAD_TOO_LARGE,
        Error::Conflict { .. } => StatusCode::PRECONDITION_FAILED,
        Error::NoSpace { .. } => StatusCode::INSUFFICIENT_STORAGE,
        Error::Busy { .. } | Error::TooManyWatches { .. } => return Problem::too_many(code, detail, 1),
        Error::ConfinementUnavailable { .. } | Error::NoSupervisor | Error::Supervisor { .. } => {
            return Problem::new(StatusCode::SERVICE_UNAVAILABLE, code, detail);
        }
        Error::Audit(_) if code == "audit_no_space" => StatusCode::INSUFFICIENT_STORAGE,
        Error::Audit(_) => return Problem::unavailable(code, detail),
        Error::Unreachable { .. } => StatusCode::BAD_GATEWAY,
        Error::Unsupported { .. } => StatusCode::NOT_IMPLEMENTED,
        Error::Io { .. } => return Problem::internal(&detail),
        _ => StatusCode::UNPROCESSABLE_ENTITY,
    };
    Problem::new(status, code, detail).at(format!("/{}", pointer(error, field)))
}

/// The member that the error is about, where that is not the usual one.
fn pointer(error: &Error, field: &'static str) -> &'static str {
    match error {
        Error::EditNotFound { .. } | Error::EditAmbiguous { .. } => "old",
        Error::PatchInvalid { .. } | Error::PatchRejected { .. } => "patch",
        Error::Conflict { .. } => "if_match",
        Error::TooLarge { .. } | Error::NoSpace { .. } => "content",
        Error::Pattern { .. } => "pattern",
        Error::Program { .. } => "argv",
        Error::EnvDenied { .. } => "env",
        _ => field,
    }
}

/// A problem document from which a client of the library makes the same error: its member `error` has what
/// the code does not say.
#[derive(Debug, Clone)]
pub(crate) struct Refusal {
    problem: Problem,
    error: Box<Value>,
}

impl Refusal {
    pub(crate) fn of(error: &Error, field: &'static str) -> Self {
        Self {
            problem: from_error(error, field),
            error: Box::new(wire::error_members(error)),
        }
    }

    fn document(&self) -> Value {
        let mut document = serde_json::to_value(&self.problem).unwrap_or_else(|_| json!({}));
        document["error"] = (*self.error).clone();
        document
    }
}

impl From<Problem> for Refusal {
    fn from(problem: Problem) -> Self {
        Self {
            problem,
            error: Box::new(json!({})),
        }
    }
}

impl From<Error> for Refusal {
    fn from(error: Error) -> Self {
        Self::of(&error, "path")
    }
}

impl Serialize for Refusal {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        self.document().serialize(serializer)
    }
}

impl IntoResponse for Refusal {
    fn into_response(self) -> Response {
        let mut document = self.document();
        if let Some(id) = current_request_id() {
            document["trace_id"] = id.into();
        }
        self.problem
            .into_response()
            .map(|_| Body::from(document.to_string()))
    }
}

impl PartialSchema for Refusal {
    fn schema() -> RefOr<Schema> {
        Problem::schema()
    }
}

impl ToSchema for Refusal {
    fn name() -> Cow<'static, str> {
        Problem::name()
    }
}
