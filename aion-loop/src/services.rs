//! The services of a run: their tools, their state, and the dispatch of calls.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use futures::future::join_all;
use http::header::{ACCEPT, CONTENT_TYPE};
use http::{HeaderName, HeaderValue, StatusCode};
use serde_json::{Map, Value, json};

use crate::canonical::{canonical_json, clip};
use crate::openapi::{OpenApiOptions, tools_from_openapi};
use crate::run::{CallResult, CallStatus, PlannedCall};
use crate::tool::{Replay, Tool, Toolset};
use crate::transport::{Transport, TransportError, read_body};
use crate::{Error, Result};

/// The header that tells a service which task, and which directory of it, a call is about.
pub const TASK_STATE: &str = "x-task-state";

/// The header that makes a repeated call harmless.
pub const IDEMPOTENCY_KEY: &str = "idempotency-key";

/// The wait before a call is sent again to a busy service.
const RESEND_PAUSE: Duration = Duration::from_millis(200);

/// The wait before a look whether the first call under a key is answered by now.
const IN_USE_PAUSE: Duration = Duration::from_secs(1);

/// The most time for reading the tools of a service.
const TOOLS_TIMEOUT: Duration = Duration::from_secs(60);

/// Limits on talking with services.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ServiceLimits {
    /// Time for `GET /state` of one service.
    pub state_timeout: Duration,
    /// The largest state of one service, in bytes.
    pub max_state_bytes: usize,
    /// Time for one call: more than a tool may take by its own limit, such as 600 s of an execution.
    /// Whoever gives up before does not learn what became of the call.
    pub call_timeout: Duration,
    /// The largest answer that is read, in bytes.
    pub max_answer_bytes: usize,
    /// Times that a call which may be repeated is sent again when its answer is lost.
    pub resends: u32,
}

impl Default for ServiceLimits {
    fn default() -> Self {
        Self {
            state_timeout: Duration::from_secs(5),
            max_state_bytes: 64 << 10,
            call_timeout: Duration::from_secs(660),
            max_answer_bytes: 1 << 20,
            resends: 2,
        }
    }
}

/// Makes the value of `X-Task-State` that a service believes from the plain one, which is JSON with `task_id`
/// and sometimes `cwd`.
pub trait TaskStateSigner: std::fmt::Debug + Send + Sync + 'static {
    /// The signed value; nothing if the plain one says nothing that may be signed, and then nothing is sent.
    fn sign(&self, plain: &str) -> Option<String>;
}

/// One service: its name, the address of its root, and the way to it.
#[derive(Debug, Clone)]
pub struct ServiceLink {
    name: String,
    base_url: String,
    transport: Arc<dyn Transport>,
    key: Option<HeaderValue>,
    signer: Option<Arc<dyn TaskStateSigner>>,
}

impl ServiceLink {
    /// A service at `base_url`, such as `http://127.0.0.1:9202`.
    pub fn new(name: impl Into<String>, base_url: impl Into<String>, transport: Arc<dyn Transport>) -> Self {
        Self {
            name: name.into(),
            base_url: base_url.into().trim_end_matches('/').to_owned(),
            transport,
            key: None,
            signer: None,
        }
    }

    /// Signs which task calls, for a service that believes nobody else.
    #[must_use]
    pub fn with_signer(mut self, signer: Arc<dyn TaskStateSigner>) -> Self {
        self.signer = Some(signer);
        self
    }

    /// The value of `X-Task-State` for this service.
    fn task_state(&self, plain: &str) -> Option<HeaderValue> {
        match &self.signer {
            None => HeaderValue::from_str(plain).ok(),
            Some(signer) => HeaderValue::from_str(&signer.sign(plain)?).ok(),
        }
    }

    /// A service of this process, for an [`InProcessTransport`](crate::InProcessTransport).
    pub fn in_process(name: impl Into<String>, transport: Arc<dyn Transport>) -> Self {
        Self::new(name, "http://aion.invalid", transport)
    }

    /// Sends `key` as a bearer token. A key that fits no header is left out, and the service refuses.
    #[must_use]
    pub fn with_api_key(mut self, key: &str) -> Self {
        self.key = HeaderValue::try_from(format!("Bearer {key}"))
            .ok()
            .map(|mut value| {
                value.set_sensitive(true);
                value
            });
        self
    }

    /// The name.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Reads `GET /openapi.json` and derives tools.
    ///
    /// # Errors
    /// [`Error::Transport`], [`Error::Service`] or [`Error::Tools`].
    pub async fn tools(&self, options: &OpenApiOptions, timeout: Duration) -> Result<Vec<Tool>> {
        let document = self.get_json("/openapi.json", None, 16 << 20, timeout).await?;
        let derived = tools_from_openapi(&document, &self.name, options);
        derived
            .map(|derived| derived.tools)
            .map_err(|source| Error::Tools {
                service: self.name.clone(),
                source,
            })
    }

    async fn state(&self, task_state: &str, limits: &ServiceLimits) -> Result<Value> {
        let (limit, timeout) = (limits.max_state_bytes, limits.state_timeout);
        self.get_json("/state", Some(task_state), limit, timeout).await
    }

    async fn get_json(
        &self,
        path: &str,
        task_state: Option<&str>,
        limit: usize,
        timeout: Duration,
    ) -> Result<Value> {
        let mut request = self
            .request("GET", path, Bytes::new())
            .map_err(|e| self.unreachable(e))?;
        if let Some(value) = task_state.and_then(|text| self.task_state(text)) {
            request.headers_mut().insert(TASK_STATE, value);
        }
        let (status, body) = self
            .exchange(request, limit, timeout)
            .await
            .map_err(|e| self.unreachable(e))?;
        if !status.is_success() {
            return Err(self.failed(format!("GET {path} gave {status}")));
        }
        serde_json::from_slice(&body)
            .map_err(|error| self.failed(format!("GET {path} gave no JSON: {error}")))
    }

    fn request(&self, method: &str, path: &str, body: Bytes) -> Result<http::Request<Bytes>, TransportError> {
        let mut request = http::Request::builder()
            .method(method)
            .uri(format!("{}{path}", self.base_url))
            .header(ACCEPT, "application/json")
            .body(body)
            .map_err(|error| TransportError::Request(error.into()))?;
        if let Some(key) = &self.key {
            request
                .headers_mut()
                .insert(http::header::AUTHORIZATION, key.clone());
        }
        Ok(request)
    }

    async fn exchange(
        &self,
        request: http::Request<Bytes>,
        limit: usize,
        timeout: Duration,
    ) -> Result<(StatusCode, Bytes), TransportError> {
        let exchange = async {
            let response = self.transport.send(request).await?;
            let status = response.status();
            Ok((status, read_body(response.into_body(), limit).await?))
        };
        let after_ms = u64::try_from(timeout.as_millis()).unwrap_or(u64::MAX);
        let answered = tokio::time::timeout(timeout, exchange).await;
        answered.unwrap_or(Err(TransportError::Timeout { after_ms }))
    }

    fn unreachable(&self, source: TransportError) -> Error {
        Error::Transport {
            service: self.name.clone(),
            source,
        }
    }

    fn failed(&self, reason: String) -> Error {
        Error::Service {
            service: self.name.clone(),
            reason,
        }
    }
}

/// The services that a run senses and acts through.
///
/// ```
/// use std::sync::Arc;
/// use aion_loop::{InProcessTransport, ServiceLimits, ServiceLink, Services, Toolset};
/// use bytes::Bytes;
/// use http_body_util::Full;
///
/// let notes = tower::service_fn(|_: http::Request<Full<Bytes>>| async {
///     Ok::<_, std::convert::Infallible>(http::Response::new(Full::new(Bytes::from(r#"{"count": 3}"#))))
/// });
/// let link = ServiceLink::in_process("notes", Arc::new(InProcessTransport::new(notes)));
/// let services = Services::new([link], Toolset::default(), ServiceLimits::default());
/// # tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap().block_on(async {
/// assert_eq!(services.state("{}").await, serde_json::json!({"notes": {"count": 3}}));
/// # });
/// ```
#[derive(Debug, Clone)]
pub struct Services {
    links: Arc<BTreeMap<String, ServiceLink>>,
    tools: Toolset,
    limits: ServiceLimits,
}

impl Services {
    /// These services with these tools; a later service of the same name takes the place of the first.
    pub fn new(links: impl IntoIterator<Item = ServiceLink>, tools: Toolset, limits: ServiceLimits) -> Self {
        let links = links.into_iter().map(|link| (link.name.clone(), link));
        Self {
            links: Arc::new(links.collect()),
            tools,
            limits,
        }
    }

    /// Asks every service for its tools.
    ///
    /// # Errors
    /// As [`ServiceLink::tools`], or [`Error::DuplicateTool`].
    pub async fn discover(
        links: impl IntoIterator<Item = (ServiceLink, OpenApiOptions)>,
        limits: ServiceLimits,
    ) -> Result<Self> {
        let mut tools = Vec::new();
        let mut known = Vec::new();
        for (link, options) in links {
            tools.extend(
                link.tools(&options, limits.call_timeout.min(TOOLS_TIMEOUT))
                    .await?,
            );
            known.push(link);
        }
        Ok(Self::new(known, Toolset::new(tools)?, limits))
    }

    /// The same services with fewer tools.
    #[must_use]
    pub fn with_tools(mut self, tools: Toolset) -> Self {
        self.tools = tools;
        self
    }

    /// The tools of all services.
    pub fn tools(&self) -> &Toolset {
        &self.tools
    }

    /// The states of all services in one object, each under its name, whether or not the service puts it
    /// there itself. A service that fails has `{"unavailable": true}`.
    pub async fn state(&self, task_state: &str) -> Value {
        let states = self.links.values().map(|link| async move {
            let state = link
                .state(task_state, &self.limits)
                .await
                .unwrap_or_else(|error| {
                    tracing::warn!(service = link.name, %error, "no state");
                    unavailable()
                });
            (link.name.clone(), state)
        });
        merged(join_all(states).await)
    }

    /// Sends a call; repeats it where its answer is lost and repeating is safe.
    pub async fn dispatch(&self, call: &PlannedCall, task_state: &str) -> CallResult {
        self.sent(call, task_state, Trail::Fresh).await
    }

    /// Sends a call that was perhaps sent before, by a process that is gone.
    pub(crate) async fn dispatch_again(&self, call: &PlannedCall, task_state: &str) -> CallResult {
        self.sent(call, task_state, Trail::MayHaveActed).await
    }

    async fn sent(&self, call: &PlannedCall, task_state: &str, trail: Trail) -> CallResult {
        let (status, answer) = self.outcome(call, task_state, trail).await;
        CallResult {
            ordinal: call.ordinal,
            status,
            answer,
        }
    }

    async fn outcome(&self, call: &PlannedCall, task_state: &str, mut trail: Trail) -> (CallStatus, String) {
        let Some(tool) = self.tools.get(&call.tool) else {
            return (CallStatus::Failed, format!("there is no tool {}", call.tool));
        };
        let Some(link) = self.links.get(&tool.service) else {
            return (
                CallStatus::Failed,
                format!("there is no service {}", tool.service),
            );
        };
        let began = tokio::time::Instant::now();
        let mut tries = if tool.replay.is_safe() {
            self.limits.resends
        } else {
            0
        };
        loop {
            let request = match prepare(link, tool, call, task_state) {
                Ok(request) => request,
                Err(reason) => return (CallStatus::Failed, reason),
            };
            let limit = self.limits.max_answer_bytes;
            let exchanged = link.exchange(request, limit, self.limits.call_timeout).await;
            let (meaning, said) = match &exchanged {
                Ok((status, body)) => understood(*status, body),
                Err(error) => lost(tool, error),
            };
            match meaning {
                Meaning::Done => return (CallStatus::Succeeded, said),
                Meaning::Unknown => return (CallStatus::Ambiguous, said),
                Meaning::Refused => return (CallStatus::Failed, said),
                Meaning::UnderWay if tool.replay.is_safe() && began.elapsed() < self.limits.call_timeout => {
                    trail = Trail::MayHaveActed;
                    tokio::time::sleep(IN_USE_PAUSE).await;
                }
                Meaning::UnderWay => return (CallStatus::Ambiguous, said),
                Meaning::Broke | Meaning::Passing(_) => {
                    if let Meaning::Passing(now) = meaning {
                        trail = trail.max(now);
                    }
                    if tries == 0 {
                        return (self.given_up(tool, meaning, trail), said);
                    }
                    tries -= 1;
                    tracing::info!(tool = tool.name, said, "sending the call again under its key");
                    tokio::time::sleep(RESEND_PAUSE).await;
                }
            }
        }
    }

    /// How a call ends that was never answered for good. To set a number twice changes nothing, so the
    /// model may try that again; what adds must not be taken for undone. A service that broke on the
    /// same key again has said itself that the key holds nothing.
    fn given_up(&self, tool: &Tool, meaning: Meaning, trail: Trail) -> CallStatus {
        match (tool.replay, meaning, trail) {
            (Replay::Idempotent, ..) => CallStatus::Failed,
            (Replay::ByKey, Meaning::Broke, _) if self.limits.resends > 0 => CallStatus::Failed,
            (_, Meaning::Broke, _) | (_, _, Trail::MayHaveActed) => CallStatus::Ambiguous,
            (_, _, Trail::Fresh) => CallStatus::Failed,
        }
    }
}

/// What earlier attempts at a call may have left behind.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Trail {
    /// None of them had an effect.
    Fresh,
    /// One of them may have had its effect.
    MayHaveActed,
}

/// What an attempt at a call came to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Meaning {
    /// The service did it.
    Done,
    /// The service will not do it, and did nothing.
    Refused,
    /// The service says that nobody knows, and that asking again helps nothing.
    Unknown,
    /// The first call under this key is not answered yet.
    UnderWay,
    /// The service failed at it, perhaps halfway.
    Broke,
    /// The same call may well be answered a little later.
    Passing(Trail),
}

/// The state of a service that gives none.
fn unavailable() -> Value {
    json!({"unavailable": true})
}

/// Whether this stands for the state of a service that gave none.
pub(crate) fn is_unavailable(state: &Value) -> bool {
    *state == unavailable()
}

/// States side by side; a service that already names itself is not named twice.
fn merged(states: Vec<(String, Value)>) -> Value {
    let mut whole = Map::new();
    for (name, state) in states {
        match state {
            Value::Object(members) if members.contains_key(&name) => whole.extend(members),
            state => drop(whole.insert(name, state)),
        }
    }
    Value::Object(whole)
}

fn prepare(
    link: &ServiceLink,
    tool: &Tool,
    call: &PlannedCall,
    task_state: &str,
) -> Result<http::Request<Bytes>, String> {
    let parts = tool.request(&call.arguments)?;
    let body = parts.body.as_ref().map(|body| Bytes::from(body.to_string()));
    let mut request = link
        .request(
            &parts.method,
            &parts.path_and_query,
            body.clone().unwrap_or_default(),
        )
        .map_err(|error| error.to_string())?;
    let headers = request.headers_mut();
    if body.is_some() {
        headers.insert(CONTENT_TYPE, HeaderValue::from_static("application/json"));
    }
    for (name, value) in &parts.headers {
        let name = HeaderName::try_from(name).map_err(|_| format!("{name} is no header"))?;
        let value = HeaderValue::try_from(value).map_err(|_| format!("{name} takes no such value"))?;
        headers.insert(name, value);
    }
    if let Ok(value) = HeaderValue::from_str(&call.key) {
        headers.insert(IDEMPOTENCY_KEY, value);
    }
    if let Some(value) = link.task_state(task_state) {
        headers.insert(TASK_STATE, value);
    }
    Ok(request)
}

/// What an answer means and says: a success, or a refusal in the words of its problem document.
fn understood(status: StatusCode, body: &[u8]) -> (Meaning, String) {
    let text = || String::from_utf8_lossy(body).into_owned();
    let value: Option<Value> = serde_json::from_slice(body).ok();
    if status.is_success() {
        return (Meaning::Done, plain_answer(value).unwrap_or_else(text));
    }
    let code = value
        .as_ref()
        .and_then(|problem| problem.get("code")?.as_str())
        .unwrap_or_default();
    let meaning = meant(status, code);
    let said = value.as_ref().and_then(|problem| {
        let detail = problem
            .get("detail")
            .or_else(|| problem.get("title"))?
            .as_str()?
            .to_owned();
        let pointer = problem.get("pointer").and_then(Value::as_str).unwrap_or_default();
        Some(if pointer.is_empty() {
            detail
        } else {
            format!("{pointer}: {detail}")
        })
    });
    let said = said.unwrap_or_else(|| clip(&text(), 400));
    (
        meaning,
        format!("{} {said}", status.as_u16()).trim_end().to_owned(),
    )
}

/// What a status other than success means. A service that is busy (429, 503) did nothing, unless it
/// lost what it had begun; one that failed (500), or is lost behind a gateway, may have done it.
fn meant(status: StatusCode, code: &str) -> Meaning {
    match (status.as_u16(), code) {
        (409, "outcome_unknown") => Meaning::Unknown,
        (409, "idempotency_key_in_use") => Meaning::UnderWay,
        (429, _) => Meaning::Passing(Trail::Fresh),
        (503, "supervisor_failed") => Meaning::Passing(Trail::MayHaveActed),
        (503, _) => Meaning::Passing(Trail::Fresh),
        (501 | 505 | 507, _) => Meaning::Refused,
        (502 | 504, _) => Meaning::Passing(Trail::MayHaveActed),
        (500..=599, _) => Meaning::Broke,
        _ => Meaning::Refused,
    }
}

/// The shortest honest form: a lone string as it is, anything else as canonical JSON.
fn plain_answer(value: Option<Value>) -> Option<String> {
    match value? {
        Value::String(text) => Some(text),
        Value::Null => Some("ok".to_owned()),
        other => Some(canonical_json(&other)),
    }
}

/// What it means that no answer came.
fn lost(tool: &Tool, error: &TransportError) -> (Meaning, String) {
    match error {
        TransportError::TooLarge { limit } => (
            Meaning::Refused,
            format!("the answer is larger than {limit} bytes: ask for less"),
        ),
        TransportError::Request(_) => (Meaning::Refused, error.to_string()),
        error if error.may_have_arrived() => (
            Meaning::Passing(Trail::MayHaveActed),
            format!("{} gave no answer: {error}", tool.service),
        ),
        error => (
            Meaning::Passing(Trail::Fresh),
            format!("{} was not reached: {error}", tool.service),
        ),
    }
}
