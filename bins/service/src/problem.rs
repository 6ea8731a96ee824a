//! [`Problem`]: the one error a client of any service sees (RFC 9457).

use std::borrow::Cow;
use std::fmt;

use axum::response::{IntoResponse, Response};
use http::{HeaderValue, StatusCode, header};
use serde::{Deserialize, Serialize};
use utoipa::openapi::{RefOr, Schema};
use utoipa::{PartialSchema, ToSchema};

use crate::envelope::current_request_id;

/// The media type of a problem document.
pub const PROBLEM_JSON: &str = "application/problem+json";

/// An RFC 9457 problem document: what went wrong, where, and a code that programs can match on.
///
/// `code` is stable and machine readable; `detail` is for people and may change. The request id is
/// filled in as `trace_id` when the problem becomes a response.
///
/// ```
/// use aion_service::Problem;
/// let problem = Problem::unprocessable("out_of_range", "p must lie in [0, 1]").at("/forecast/p");
/// assert_eq!(problem.status().as_u16(), 422);
/// let document = serde_json::to_value(&problem)?;
/// assert_eq!(document["code"], "out_of_range");
/// assert_eq!(document["pointer"], "/forecast/p");
/// # Ok::<(), serde_json::Error>(())
/// ```
#[derive(Clone, PartialEq, Serialize, Deserialize)]
#[serde(into = "Document", from = "Document")]
pub struct Problem {
    status: StatusCode,
    code: Cow<'static, str>,
    detail: Box<str>,
    pointer: Option<Box<str>>,
    instance: Option<Box<str>>,
    trace_id: Option<Box<str>>,
    retry_after_s: Option<u32>,
}

/// The code of a [`Problem`], among the extensions of the response that it became.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ProblemCode(pub Cow<'static, str>);

/// The wire form of a [`Problem`].
#[derive(Clone, Serialize, Deserialize, ToSchema)]
struct Document {
    /// A URN that names the kind of problem: `urn:aion:problem:` and the code.
    #[serde(rename = "type", default)]
    kind: String,
    /// The standard phrase of the status.
    #[serde(default)]
    title: String,
    /// The HTTP status of the response.
    status: u16,
    /// What went wrong this time, for people.
    #[serde(default)]
    detail: String,
    /// A stable name of the problem, for programs.
    #[serde(default)]
    code: String,
    /// JSON pointer to the offending part of the request body, or `path:`/`query:` and the parameter.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    #[schema(nullable = false)]
    pointer: Option<String>,
    /// The resource that the problem is about.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    #[schema(nullable = false)]
    instance: Option<String>,
    /// The id of the request, as in the `x-request-id` header.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    #[schema(nullable = false)]
    trace_id: Option<String>,
    /// How many seconds to wait before another try.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    #[schema(nullable = false)]
    retry_after_s: Option<u32>,
}

impl Problem {
    /// A problem of any status; prefer the named constructors.
    pub fn new(status: StatusCode, code: impl Into<Cow<'static, str>>, detail: impl Into<String>) -> Self {
        Self {
            status,
            code: code.into(),
            detail: detail.into().into(),
            pointer: None,
            instance: None,
            trace_id: None,
            retry_after_s: None,
        }
    }

    /// 400: the request could not be understood.
    pub fn bad_request(code: impl Into<Cow<'static, str>>, detail: impl Into<String>) -> Self {
        Self::new(StatusCode::BAD_REQUEST, code, detail)
    }

    /// 401: a key is needed and was missing or wrong (the answer does not say which).
    pub fn unauthorized() -> Self {
        Self::new(
            StatusCode::UNAUTHORIZED,
            "unauthorized",
            "a valid bearer key is needed",
        )
    }

    /// 403: understood and refused; a key does not help.
    pub fn forbidden(code: impl Into<Cow<'static, str>>, detail: impl Into<String>) -> Self {
        Self::new(StatusCode::FORBIDDEN, code, detail)
    }

    /// 404: there is no such thing.
    pub fn not_found(code: impl Into<Cow<'static, str>>, detail: impl Into<String>) -> Self {
        Self::new(StatusCode::NOT_FOUND, code, detail)
    }

    /// 409: the request does not fit the present state (an illegal transition, a lost lease).
    pub fn conflict(code: impl Into<Cow<'static, str>>, detail: impl Into<String>) -> Self {
        Self::new(StatusCode::CONFLICT, code, detail)
    }

    /// 412: `If-Match`, an expected revision or an epoch did not hold.
    pub fn precondition_failed(code: impl Into<Cow<'static, str>>, detail: impl Into<String>) -> Self {
        Self::new(StatusCode::PRECONDITION_FAILED, code, detail)
    }

    /// 413: the body, or something in it, is over a limit.
    pub fn payload_too_large(code: impl Into<Cow<'static, str>>, detail: impl Into<String>) -> Self {
        Self::new(StatusCode::PAYLOAD_TOO_LARGE, code, detail)
    }

    /// 422: well formed, but the values make no sense.
    pub fn unprocessable(code: impl Into<Cow<'static, str>>, detail: impl Into<String>) -> Self {
        Self::new(StatusCode::UNPROCESSABLE_ENTITY, code, detail)
    }

    /// 429: over a rate or a budget; try again after `retry_after_s` seconds.
    pub fn too_many(
        code: impl Into<Cow<'static, str>>,
        detail: impl Into<String>,
        retry_after_s: u32,
    ) -> Self {
        Self::new(StatusCode::TOO_MANY_REQUESTS, code, detail).retry_after(retry_after_s)
    }

    /// 503: not now (starting, overloaded, a dependency is away).
    pub fn unavailable(code: impl Into<Cow<'static, str>>, detail: impl Into<String>) -> Self {
        Self::new(StatusCode::SERVICE_UNAVAILABLE, code, detail).retry_after(1)
    }

    /// 500: our fault. `cause` goes to the log with the request id; the client sees only the id.
    pub fn internal(cause: impl fmt::Display) -> Self {
        let request_id = current_request_id();
        tracing::error!(%cause, request_id = request_id.as_deref(), "internal error");
        Self::new(
            StatusCode::INTERNAL_SERVER_ERROR,
            "internal",
            "internal error; the log has the cause under this trace_id",
        )
    }

    /// Says where in the request body: a JSON pointer (RFC 6901) such as `/steps/0/tool`.
    #[must_use]
    pub fn at(mut self, pointer: impl Into<String>) -> Self {
        self.pointer = Some(pointer.into().into());
        self
    }

    /// Names the resource that the problem is about.
    #[must_use]
    pub fn about(mut self, instance: impl Into<String>) -> Self {
        self.instance = Some(instance.into().into());
        self
    }

    /// Sets `Retry-After`, in seconds.
    #[must_use]
    pub fn retry_after(mut self, seconds: u32) -> Self {
        self.retry_after_s = Some(seconds);
        self
    }

    /// The HTTP status.
    pub fn status(&self) -> StatusCode {
        self.status
    }

    /// The stable code.
    pub fn code(&self) -> &str {
        &self.code
    }

    /// What went wrong, for people.
    pub fn detail(&self) -> &str {
        &self.detail
    }

    /// Where in the request, if known.
    pub fn pointer(&self) -> Option<&str> {
        self.pointer.as_deref()
    }
}

impl From<Problem> for Document {
    fn from(problem: Problem) -> Self {
        Self {
            kind: format!("urn:aion:problem:{}", problem.code),
            title: problem.status.canonical_reason().unwrap_or("Error").to_owned(),
            status: problem.status.as_u16(),
            detail: problem.detail.into(),
            code: problem.code.into_owned(),
            pointer: problem.pointer.map(Into::into),
            instance: problem.instance.map(Into::into),
            trace_id: problem.trace_id.map(Into::into),
            retry_after_s: problem.retry_after_s,
        }
    }
}

impl From<Document> for Problem {
    fn from(document: Document) -> Self {
        Self {
            status: StatusCode::from_u16(document.status).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR),
            code: document.code.into(),
            detail: document.detail.into(),
            pointer: document.pointer.map(Into::into),
            instance: document.instance.map(Into::into),
            trace_id: document.trace_id.map(Into::into),
            retry_after_s: document.retry_after_s,
        }
    }
}

impl IntoResponse for Problem {
    fn into_response(mut self) -> Response {
        self.trace_id = self.trace_id.or_else(|| current_request_id().map(Into::into));
        let (status, retry_after_s) = (self.status, self.retry_after_s);
        let code = ProblemCode(self.code.clone());
        let body = serde_json::to_vec(&Document::from(self)).unwrap_or_default();
        let mut response = (status, body).into_response();
        let headers = response.headers_mut();
        headers.insert(header::CONTENT_TYPE, HeaderValue::from_static(PROBLEM_JSON));
        if let Some(seconds) = retry_after_s {
            headers.insert(header::RETRY_AFTER, HeaderValue::from(seconds));
        }
        if status == StatusCode::UNAUTHORIZED {
            headers.insert(header::WWW_AUTHENTICATE, HeaderValue::from_static("Bearer"));
        }
        response.extensions_mut().insert(code);
        response
    }
}

impl fmt::Display for Problem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} {}: {}", self.status.as_u16(), self.code, self.detail)?;
        self.pointer
            .as_ref()
            .map_or(Ok(()), |pointer| write!(f, " (at {pointer})"))
    }
}

impl fmt::Debug for Problem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Problem({self})")
    }
}

impl std::error::Error for Problem {}

impl PartialSchema for Problem {
    fn schema() -> RefOr<Schema> {
        Document::schema()
    }
}

impl ToSchema for Problem {
    fn name() -> Cow<'static, str> {
        Cow::Borrowed("Problem")
    }
}
