//! What every request gets on its way in and out: an id, a span, metrics, safe headers.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Instant;

use axum::extract::{MatchedPath, Request, State};
use axum::middleware::Next;
use axum::response::{IntoResponse, Response};
use http::{HeaderMap, HeaderName, HeaderValue, header};
use tower_http::request_id::{MakeRequestId, MakeRequestUuid, RequestId};
use tracing::Instrument;

use crate::{Problem, metering};

/// The header that carries the id of a request, in and out.
pub const REQUEST_ID_HEADER: &str = "x-request-id";
const REQUEST_ID: HeaderName = HeaderName::from_static(REQUEST_ID_HEADER);
const MAX_REQUEST_ID_BYTES: usize = 128;

tokio::task_local! {
    static CURRENT: String;
}

/// The id of the request that this task answers, if it answers one.
pub fn current_request_id() -> Option<String> {
    CURRENT.try_with(Clone::clone).ok()
}

/// Which service a path belongs to, for the `service` label.
#[derive(Debug)]
pub(crate) struct Owners {
    pub(crate) name: &'static str,
    pub(crate) paths: BTreeMap<String, &'static str>,
}

impl Owners {
    fn of(&self, matched: &str) -> &'static str {
        self.paths.get(matched).copied().unwrap_or(self.name)
    }
}

/// Middleware, outermost: id, span, metrics, headers.
pub(crate) async fn wrap(State(owners): State<Arc<Owners>>, mut request: Request, next: Next) -> Response {
    let started = Instant::now();
    let id = ensure_request_id(&mut request);
    let method = request.method().clone();
    let matched = request.extensions().get::<MatchedPath>();
    let path = matched.map_or("unmatched", |path| path.as_str()).to_owned();
    let service = owners.of(&path);
    let span = tracing::info_span!("request", service, %method, path, request_id = id);
    let in_flight = metering::InFlight::enter(service);
    let mut response = CURRENT
        .scope(id.clone(), next.run(request))
        .instrument(span.clone())
        .await;
    drop(in_flight);
    let took = started.elapsed();
    metering::record(service, &method, &path, response.status(), took);
    span.in_scope(|| tracing::debug!(status = response.status().as_u16(), ?took, "answered"));
    put_headers(response.headers_mut(), &id);
    response
}

/// Runs `answer` as part of the request, so that its problems carry the id.
pub(crate) async fn scope(id: String, answer: impl Future<Output = Response>) -> Response {
    let mut response = CURRENT.scope(id.clone(), answer).await;
    put_headers(response.headers_mut(), &id);
    response
}

/// The client's id if it is short, visible ASCII; a fresh one otherwise. It is put on the request.
pub(crate) fn ensure_request_id(request: &mut Request) -> String {
    let sent = request
        .headers()
        .get(&REQUEST_ID)
        .and_then(|value| value.to_str().ok());
    if let Some(id) = sent.filter(|id| is_request_id(id)) {
        return id.to_owned();
    }
    let fresh = MakeRequestUuid
        .make_request_id(request)
        .map(RequestId::into_header_value);
    let value = fresh.unwrap_or_else(|| HeaderValue::from_static("none"));
    let id = value.to_str().unwrap_or_default().to_owned();
    request.headers_mut().insert(REQUEST_ID, value);
    id
}

fn is_request_id(id: &str) -> bool {
    !id.is_empty() && id.len() <= MAX_REQUEST_ID_BYTES && id.bytes().all(|byte| byte.is_ascii_graphic())
}

fn put_headers(headers: &mut HeaderMap, id: &str) {
    headers.insert(
        header::X_CONTENT_TYPE_OPTIONS,
        HeaderValue::from_static("nosniff"),
    );
    headers
        .entry(header::CACHE_CONTROL)
        .or_insert(HeaderValue::from_static("no-store"));
    if let Ok(value) = HeaderValue::from_str(id) {
        headers.insert(REQUEST_ID, value);
    }
}

/// What a panic in a handler becomes: the message goes to the log, never to the client.
#[expect(
    clippy::needless_pass_by_value,
    reason = "the signature that the layer asks for"
)]
pub(crate) fn panic_response(cause: Box<dyn std::any::Any + Send>) -> Response {
    let text = cause.downcast_ref::<&str>().map(|text| (*text).to_owned());
    let text = text.or_else(|| cause.downcast_ref::<String>().cloned());
    Problem::internal(format!("panic: {}", text.as_deref().unwrap_or("no message"))).into_response()
}
