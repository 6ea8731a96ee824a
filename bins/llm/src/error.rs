//! Errors in both shapes at once: an RFC 9457 problem, and the `error` object that OpenAI's clients read.

use aion_llm::Error as ModelError;
use aion_service::{PROBLEM_JSON, Problem, current_request_id};
use axum::response::{IntoResponse, Response};
use http::{HeaderValue, header};
use serde_json::{Value, json};

/// A problem on its way to a client of the OpenAI protocol.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct ApiError(pub(crate) Problem);

pub(crate) type ApiResult<T> = Result<T, ApiError>;

impl ApiError {
    /// A request that asks for what cannot be done; `pointer` says where.
    pub(crate) fn bad_request(code: &'static str, detail: impl Into<String>, pointer: &str) -> Self {
        Self(Problem::bad_request(code, detail).at(pointer))
    }

    /// The document: the problem's members, and `error` with `message`, `type`, `param` and `code`.
    pub(crate) fn document(&self) -> Value {
        let problem = &self.0;
        let kind = match problem.status().as_u16() {
            401 | 403 => "authentication_error",
            429 => "rate_limit_error",
            500.. => "server_error",
            _ => "invalid_request_error",
        };
        let mut document = serde_json::to_value(problem).unwrap_or_default();
        document["error"] = json!({
            "message": problem.detail(),
            "type": kind,
            "param": problem.pointer().map(|pointer| pointer.trim_start_matches('/')),
            "code": problem.code(),
        });
        if let Some(id) = current_request_id() {
            document["trace_id"] = id.into();
        }
        document
    }
}

impl From<Problem> for ApiError {
    fn from(problem: Problem) -> Self {
        Self(problem)
    }
}

impl From<ModelError> for ApiError {
    fn from(error: ModelError) -> Self {
        if let ModelError::Busy { retry_after_s, .. } = error {
            return Self(Problem::too_many("queue_full", error.to_string(), retry_after_s));
        }
        if !error.is_bad_request() {
            return Self(Problem::internal(error));
        }
        let (code, pointer) = match &error {
            ModelError::ContextFull { .. } => ("context_length_exceeded", "/messages"),
            ModelError::CacheFull { .. } => ("cache_memory_exceeded", "/max_tokens"),
            ModelError::Schema(_) => ("invalid_schema", "/response_format"),
            ModelError::Template(_) => ("invalid_messages", "/messages"),
            ModelError::Request { field, .. } => ("invalid_value", *field),
            _ => ("invalid_request", ""),
        };
        let pointer = if pointer.starts_with('/') {
            pointer.to_owned()
        } else {
            format!("/{pointer}")
        };
        Self(Problem::bad_request(code, error.to_string()).at(pointer))
    }
}

impl IntoResponse for ApiError {
    fn into_response(self) -> Response {
        let document = self.document();
        let mut response = (self.0.status(), document.to_string()).into_response();
        let headers = response.headers_mut();
        headers.insert(header::CONTENT_TYPE, HeaderValue::from_static(PROBLEM_JSON));
        if let Some(seconds) = document["retry_after_s"].as_u64() {
            headers.insert(header::RETRY_AFTER, HeaderValue::from(seconds));
        }
        response
    }
}
