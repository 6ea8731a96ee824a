//! Errors in both shapes at once: an RFC 9457 problem, and the `error` object that OpenAI's clients read.

use aion_llm::Error as ModelError;
use aion_service::{PROBLEM_JSON, Problem, current_request_id};
use axum::response::{IntoResponse, Response};
use http::{HeaderValue, StatusCode, header};
use serde_json::{Value, json};

/// A problem on its way to a client of the OpenAI protocol.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct ApiError(pub(crate) Problem);

pub(crate) type ApiResult<T> = Result<T, ApiError>;

/// Bytes of a client's own text that an answer repeats.
const MAX_SHOWN: usize = 128;

/// A client's own text as far as an answer repeats it.
pub(crate) fn shown(text: &str) -> &str {
    &text[..text.floor_char_boundary(MAX_SHOWN)]
}

impl ApiError {
    /// A request that asks for what cannot be done; `pointer` says where.
    pub(crate) fn bad_request(code: &'static str, detail: impl Into<String>, pointer: &str) -> Self {
        Self(Problem::bad_request(code, detail).at(pointer))
    }

    /// The same, where the engine's own words for the parts of a request become those of an endpoint.
    pub(crate) fn named(self, names: &Names) -> Self {
        let place = match self.0.pointer() {
            Some(PROMPT) => names.prompt,
            Some(FORMAT) => names.format,
            Some(MAX_TOKENS) => names.max_tokens,
            _ => return self,
        };
        Self(self.0.at(place))
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
            "param": problem.pointer().filter(|pointer| !pointer.is_empty()).map(param),
            "code": problem.code(),
        });
        if let Some(id) = current_request_id() {
            document["trace_id"] = id.into();
        }
        document
    }
}

/// What an endpoint calls the parts of a request that the engine knows, as JSON pointers.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Names {
    pub(crate) prompt: &'static str,
    pub(crate) format: &'static str,
    pub(crate) max_tokens: &'static str,
}

const PROMPT: &str = "/prompt";
const FORMAT: &str = "/format";
const MAX_TOKENS: &str = "/max_tokens";

/// A JSON pointer as OpenAI writes a place: `messages[0].content`.
fn param(pointer: &str) -> String {
    let mut param = String::new();
    for segment in pointer.split('/').skip(1) {
        let segment = segment.replace("~1", "/").replace("~0", "~");
        if !segment.is_empty() && segment.bytes().all(|byte| byte.is_ascii_digit()) {
            param.push_str(&format!("[{segment}]"));
        } else {
            param.push_str(if param.is_empty() { "" } else { "." });
            param.push_str(&segment);
        }
    }
    param
}

impl From<Problem> for ApiError {
    fn from(problem: Problem) -> Self {
        Self(problem)
    }
}

impl From<ModelError> for ApiError {
    fn from(error: ModelError) -> Self {
        let (code, pointer) = match &error {
            ModelError::Busy { retry_after_s, .. } => {
                return Self(Problem::too_many("queue_full", error.to_string(), *retry_after_s));
            }
            ModelError::Numeric(_) => {
                let detail = error.to_string();
                return Self(Problem::new(
                    StatusCode::INTERNAL_SERVER_ERROR,
                    "model_failed",
                    detail,
                ));
            }
            _ if !error.is_bad_request() => return Self(Problem::internal(error)),
            ModelError::ContextFull { .. } => ("context_length_exceeded", PROMPT.to_owned()),
            ModelError::CacheFull { .. } => ("cache_memory_exceeded", MAX_TOKENS.to_owned()),
            ModelError::Schema(_) => ("invalid_schema", FORMAT.to_owned()),
            ModelError::Template(_) => ("invalid_messages", PROMPT.to_owned()),
            ModelError::Request { field, .. } => ("invalid_value", format!("/{field}")),
            _ => ("invalid_request", String::new()),
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn places_are_written_as_openai_writes_them() {
        assert_eq!(
            param("/messages/0/content/12/text"),
            "messages[0].content[12].text"
        );
        assert_eq!(param("/n"), "n");
        assert_eq!(param("/a~1b/~0"), "a/b.~");
    }
}
