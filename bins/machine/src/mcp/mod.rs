//! The same tools over the Model Context Protocol: at `/mcp` of the server, or over standard input and output.
//!
//! The tools are read from the service's own API document: every `POST` operation with the tag `tool` is one,
//! and so are seven of a workspace (`stat`, `make_directory`, `remove`, `move`, `apply_patch`, `snapshot`, `diff`),
//! each with its description, its input schema and its output schema. A call goes through the very route that HTTP
//! clients use, so that limits, the journal of keys and the confinement are the same, and a backend that is
//! served ([`MachineOptions::over`](crate::MachineOptions::over)) is served over both.
//!
//! - An answer comes as structured content and as its JSON text. A failure is a tool error whose text is the
//!   problem document with its `code`; an unknown tool is an error of the protocol.
//! - `X-Task-State` and `Idempotency-Key` are headers of the HTTP request that carries the call. Over standard
//!   input and output there is one task for the whole session.
//! - A call with a progress token hears what its program writes, and every second that it still runs. Cancelling a call, or ending its
//!   session, ends what it executes.
//! - Sessions are bounded in number, and end after some minutes without a request. `Host` and `Origin` must be
//!   among the named ones, by default those of this host.

mod answer;
mod document;
mod handler;
mod progress;
mod sessions;

use std::sync::Arc;
use std::time::Duration;

use aion_service::Problem;
use axum::Router;
use axum::extract::{Request, State};
use axum::middleware::{Next, from_fn_with_state};
use axum::response::{IntoResponse, Response};
use http::Method;
use rmcp::transport::streamable_http_server::{StreamableHttpServerConfig, StreamableHttpService};

pub use self::handler::McpTools;
pub(crate) use self::progress::{REPLAY_BYTES, Watched};
use self::sessions::BoundedSessions;

/// Where the tools are served over HTTP.
pub const PATH: &str = "/mcp";
/// The names of this host, under which a server that nobody configured may be called.
const LOCAL_HOSTS: [&str; 3] = ["localhost", "127.0.0.1", "::1"];

/// Who may call over HTTP, and how many at once.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct McpOptions {
    /// The values of `Host` that are served, with a port or for any port.
    pub allowed_hosts: Vec<String>,
    /// The values of `Origin` that are served, like `https://app.example.com:443`; a request without one is.
    pub allowed_origins: Vec<String>,
    /// How many sessions there can be at once.
    pub max_sessions: usize,
    /// After this time without a request, a session ends.
    pub session_idle: Duration,
}

impl Default for McpOptions {
    /// The names of this host, 64 sessions, 5 minutes.
    fn default() -> Self {
        let origin = |host: &str| {
            if host.contains(':') {
                format!("http://[{host}]:*")
            } else {
                format!("http://{host}:*")
            }
        };
        Self {
            allowed_hosts: LOCAL_HOSTS.map(str::to_owned).to_vec(),
            allowed_origins: LOCAL_HOSTS.map(origin).to_vec(),
            max_sessions: 64,
            session_idle: Duration::from_secs(300),
        }
    }
}

impl McpOptions {
    /// Serves this `Host` too.
    #[must_use]
    pub fn with_allowed_host(mut self, host: impl Into<String>) -> Self {
        self.allowed_hosts.push(host.into());
        self
    }

    /// Serves pages of this `Origin` too.
    #[must_use]
    pub fn with_allowed_origin(mut self, origin: impl Into<String>) -> Self {
        self.allowed_origins.push(origin.into());
        self
    }

    /// Bounds the number of sessions.
    #[must_use]
    pub fn with_max_sessions(mut self, max_sessions: usize) -> Self {
        self.max_sessions = max_sessions;
        self
    }

    /// Ends sessions after this time without a request.
    #[must_use]
    pub fn with_session_idle(mut self, session_idle: Duration) -> Self {
        self.session_idle = session_idle;
        self
    }
}

/// What answers at [`PATH`].
pub(crate) fn http_routes(tools: McpTools, options: &McpOptions, max_body_bytes: usize) -> Router {
    let config = StreamableHttpServerConfig::default()
        .with_allowed_hosts(options.allowed_hosts.iter().cloned())
        .with_allowed_origins(options.allowed_origins.iter().cloned())
        .enforce_origin_validation()
        .with_max_request_body_bytes(max_body_bytes);
    let sessions = Arc::new(BoundedSessions::new(options.max_sessions, options.session_idle));
    let service = StreamableHttpService::new(move || Ok(tools.clone()), Arc::clone(&sessions), config);
    Router::new()
        .route_service(PATH, service)
        .layer(from_fn_with_state(sessions, places))
}

/// A session that there is no place for is refused before it is made.
async fn places(State(sessions): State<Arc<BoundedSessions>>, request: Request, next: Next) -> Response {
    let version = request.headers().get("mcp-protocol-version");
    // From this version on there are no sessions.
    let sessionless = version.is_some_and(|version| version.as_bytes() >= b"2026-07-28".as_slice());
    let begins = request.method() == Method::POST && !request.headers().contains_key("mcp-session-id");
    if begins && !sessionless && sessions.is_full().await {
        let detail = "there are as many sessions as there may be; try again shortly";
        return Problem::unavailable("too_many_sessions", detail)
            .retry_after(10)
            .into_response();
    }
    next.run(request).await
}
