//! What one request may cost: body bytes, time, and how many run at once.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use axum::body::Body;
use axum::extract::{MatchedPath, Request, State};
use axum::middleware::Next;
use axum::response::{IntoResponse, Response};
use http::{HeaderMap, StatusCode, header};
use http_body_util::Limited;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};

use crate::Problem;
use crate::extract::body_too_large;

/// Paths that answer even when the service is full: whoever watches it must be able to.
const NEVER_SHED: [&str; 3] = ["/healthz", "/readyz", "/metrics"];

/// The limits of a service, unless one of its paths has its own ([`PathLimits`]).
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct Limits {
    /// The largest request body, in bytes.
    pub max_body_bytes: usize,
    /// How long a handler may take until its response begins; the body may stream on after that.
    pub timeout: Duration,
    /// How many requests run at once; more get 503 and `Retry-After`.
    pub max_concurrent: usize,
}

impl Default for Limits {
    /// 1 MiB, 30 s, 256 at once.
    fn default() -> Self {
        Self {
            max_body_bytes: 1 << 20,
            timeout: Duration::from_secs(30),
            max_concurrent: 256,
        }
    }
}

impl Limits {
    /// Sets the largest request body, in bytes.
    #[must_use]
    pub fn with_max_body_bytes(mut self, bytes: usize) -> Self {
        self.max_body_bytes = bytes;
        self
    }

    /// Sets how long a handler may take until its response begins.
    #[must_use]
    pub fn with_timeout(mut self, timeout: Duration) -> Self {
        self.timeout = timeout;
        self
    }

    /// Sets how many requests run at once.
    #[must_use]
    pub fn with_max_concurrent(mut self, requests: usize) -> Self {
        self.max_concurrent = requests;
        self
    }
}

/// Limits of one path that differ from the service's.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct PathLimits {
    max_body_bytes: Option<usize>,
    timeout: Option<Timeout>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Timeout {
    After(Duration),
    Never,
}

impl PathLimits {
    /// Nothing differs yet.
    pub fn new() -> Self {
        Self::default()
    }

    /// Sets the largest request body of this path, in bytes.
    #[must_use]
    pub fn with_max_body_bytes(mut self, bytes: usize) -> Self {
        self.max_body_bytes = Some(bytes);
        self
    }

    /// Sets the time of this path.
    #[must_use]
    pub fn with_timeout(mut self, timeout: Duration) -> Self {
        self.timeout = Some(Timeout::After(timeout));
        self
    }

    /// Lifts the time limit: for long answers that the handler bounds itself.
    #[must_use]
    pub fn without_timeout(mut self) -> Self {
        self.timeout = Some(Timeout::Never);
        self
    }
}

/// The limits in force: the service's, those of single paths, and the free places.
#[derive(Debug)]
pub(crate) struct Guard {
    limits: Limits,
    paths: BTreeMap<String, PathLimits>,
    places: Arc<Semaphore>,
}

impl Guard {
    pub(crate) fn new(limits: Limits, paths: BTreeMap<String, PathLimits>) -> Arc<Self> {
        let places = Arc::new(Semaphore::new(limits.max_concurrent.min(Semaphore::MAX_PERMITS)));
        Arc::new(Self {
            limits,
            paths,
            places,
        })
    }

    /// The limits of a matched path. Under a prefix (a nested router) the path's own end counts.
    fn for_path(&self, matched: &str) -> (usize, Option<Duration>) {
        let own = self.paths.get(matched).copied().unwrap_or_else(|| {
            let nested = self
                .paths
                .iter()
                .filter(|(path, _)| matched.ends_with(path.as_str()));
            nested
                .max_by_key(|(path, _)| path.len())
                .map(|(_, own)| *own)
                .unwrap_or_default()
        });
        let timeout = match own.timeout {
            Some(Timeout::Never) => None,
            Some(Timeout::After(timeout)) => Some(timeout),
            None => Some(self.limits.timeout),
        };
        (own.max_body_bytes.unwrap_or(self.limits.max_body_bytes), timeout)
    }

    fn take_place(&self, path: &str) -> Result<Option<OwnedSemaphorePermit>, Problem> {
        if NEVER_SHED.iter().any(|open| path.ends_with(open)) {
            return Ok(None);
        }
        let place = Arc::clone(&self.places).try_acquire_owned();
        place
            .map(Some)
            .map_err(|_| Problem::unavailable("overloaded", "too many requests at once; try again shortly"))
    }
}

/// Middleware: sheds load, bounds the body and the time.
pub(crate) async fn enforce(State(guard): State<Arc<Guard>>, request: Request, next: Next) -> Response {
    let matched = request
        .extensions()
        .get::<MatchedPath>()
        .map(|path| path.as_str().to_owned());
    let (max_body_bytes, timeout) = guard.for_path(matched.as_deref().unwrap_or_default());
    let _place = match guard.take_place(matched.as_deref().unwrap_or_default()) {
        Ok(place) => place,
        Err(problem) => return problem.into_response(),
    };
    if announced_bytes(request.headers()).is_some_and(|bytes| bytes > max_body_bytes as u64) {
        return body_too_large().into_response();
    }
    let answer = next.run(request.map(|body| Body::new(Limited::new(body, max_body_bytes))));
    match timeout {
        None => answer.await,
        Some(limit) => tokio::time::timeout(limit, answer)
            .await
            .unwrap_or_else(|_| too_slow(limit)),
    }
}

fn announced_bytes(headers: &HeaderMap) -> Option<u64> {
    headers.get(header::CONTENT_LENGTH)?.to_str().ok()?.parse().ok()
}

fn too_slow(limit: Duration) -> Response {
    let detail = format!("no answer within {} ms", limit.as_millis());
    Problem::new(StatusCode::GATEWAY_TIMEOUT, "timeout", detail).into_response()
}
