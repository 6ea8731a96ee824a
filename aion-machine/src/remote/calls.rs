//! One request and what it gave.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use bytes::{Bytes, BytesMut};
use reqwest::header::{ACCEPT, AUTHORIZATION, CONTENT_TYPE, HeaderMap, HeaderValue};
use reqwest::redirect::Policy;
use reqwest::{Client, Method, RequestBuilder, Response};
use secrecy::ExposeSecret;
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

use super::RemoteOptions;
use crate::wire::{OPERATOR_KEY_HEADER, error_of};
use crate::{Error, RelPath, Result};

const TASK_STATE: &str = "x-task-state";
const IDEMPOTENCY_KEY: &str = "idempotency-key";
/// Connections are closed here before servers close them, so that no request meets a closed one.
const IDLE: Duration = Duration::from_secs(20);
/// A stream that says nothing for so long is dead; servers say something every 15 s.
const SILENCE: Duration = Duration::from_secs(45);
/// The longest problem document that is read, in bytes.
const MAX_PROBLEM_BYTES: usize = 64 << 10;

/// A server and the connections to it.
#[derive(Debug)]
pub(super) struct Calls {
    client: Client,
    base: String,
    options: RemoteOptions,
}

/// A request before it is sent.
#[derive(Debug, Clone)]
pub(super) struct Call<'c> {
    pub(super) method: Method,
    pub(super) path: &'c str,
    pub(super) cwd: Option<&'c RelPath>,
    pub(super) body: Option<Bytes>,
    /// By which it happens once; what only looks needs none. So all of them can be sent again.
    pub(super) key: Option<&'c str>,
}

#[derive(Deserialize)]
struct Problem {
    #[serde(default)]
    code: String,
    #[serde(default)]
    detail: String,
    #[serde(default)]
    error: Value,
}

/// A request that gave nothing.
pub(super) struct Failed {
    pub(super) error: Error,
    fate: Fate,
}

#[derive(PartialEq, Eq)]
enum Fate {
    /// The server said no, or is none.
    Refused,
    /// It did not arrive, or its answer did not.
    Unknown,
}

impl Calls {
    pub(super) fn new(base: &str, options: RemoteOptions) -> Result<Self> {
        let url =
            reqwest::Url::parse(base).map_err(|e| Error::invalid(format!("the address is none: {e}")))?;
        if !matches!(url.scheme(), "http" | "https") || url.query().is_some() || url.fragment().is_some() {
            return Err(Error::invalid(
                "the address is no http or https address of a server",
            ));
        }
        // Fails only where a provider is set already, and then that one is used.
        let _ = rustls::crypto::ring::default_provider().install_default();
        let client = Client::builder()
            .connect_timeout(options.connect_timeout)
            .read_timeout(options.timeout.max(SILENCE))
            .pool_idle_timeout(IDLE)
            .tcp_nodelay(true)
            .redirect(Policy::none())
            .default_headers(headers(&options)?)
            .build()
            .map_err(|e| unreachable(e.without_url().to_string()))?;
        Ok(Self {
            client,
            base: base.trim_end_matches('/').to_owned(),
            options,
        })
    }

    pub(super) fn options(&self) -> &RemoteOptions {
        &self.options
    }

    pub(super) async fn get<T: DeserializeOwned>(&self, path: &str, cwd: Option<&RelPath>) -> Result<T> {
        let call = Call {
            method: Method::GET,
            path,
            cwd,
            body: None,
            key: None,
        };
        self.call(call).await
    }

    pub(super) async fn post<T: DeserializeOwned>(
        &self,
        path: &str,
        cwd: &RelPath,
        body: &impl Serialize,
        key: Option<&str>,
    ) -> Result<T> {
        let body = Some(json_bytes(body)?);
        let call = Call {
            method: Method::POST,
            path,
            cwd: Some(cwd),
            body,
            key,
        };
        self.call(call).await
    }

    /// Sends a request until there is an answer or it must not be sent again.
    pub(super) async fn call<T: DeserializeOwned>(&self, call: Call<'_>) -> Result<T> {
        let mut tries = 0;
        loop {
            let failed = match self.once(&call).await {
                Ok(answer) => return Ok(answer),
                Err(failed) => failed,
            };
            if failed.is_refusal() || tries == self.options.retries {
                return Err(failed.error);
            }
            tokio::time::sleep(self.options.pause_after(tries)).await;
            tries += 1;
        }
    }

    async fn once<T: DeserializeOwned>(&self, call: &Call<'_>) -> Result<T, Failed> {
        let request = self.request(call)?.timeout(self.options.timeout);
        let response = request.send().await.map_err(lost)?;
        if !response.status().is_success() || !is_of(&response, "application/json") {
            return Err(self.refusal(response).await);
        }
        let body = body(response, self.options.max_answer_bytes).await?;
        serde_json::from_slice(&body).map_err(|e| self.foreign(&format!("its answer cannot be read ({e})")))
    }

    /// A stream of server-sent events that begins after an event.
    pub(super) async fn events(
        &self,
        path: &str,
        cwd: &RelPath,
        last: Option<&str>,
    ) -> Result<Response, Failed> {
        let call = Call {
            method: Method::GET,
            path,
            cwd: Some(cwd),
            body: None,
            key: None,
        };
        let mut request = self.request(&call)?.header(ACCEPT, "text/event-stream");
        if let Some(last) = last {
            request = request.header("last-event-id", last);
        }
        let response = request.send().await.map_err(lost)?;
        if response.status().is_success() && is_of(&response, "text/event-stream") {
            return Ok(response);
        }
        Err(self.refusal(response).await)
    }

    fn request(&self, call: &Call<'_>) -> Result<RequestBuilder, Failed> {
        let mut request = self
            .client
            .request(call.method.clone(), format!("{}{}", self.base, call.path));
        if let Some(cwd) = call.cwd {
            request = request.header(TASK_STATE, self.task_state(cwd));
        }
        if let Some(key) = call.key {
            request = request.header(IDEMPOTENCY_KEY, key);
        }
        if let Some(body) = &call.body {
            request = request
                .header(CONTENT_TYPE, "application/json")
                .body(body.clone());
        }
        Ok(request)
    }

    /// Who calls and where it works, signed if there is a key.
    fn task_state(&self, cwd: &RelPath) -> String {
        let task_id = self.options.task_id.as_deref();
        let Some(keys) = &self.options.task_keys else {
            let mut state = json!({"cwd": cwd});
            if let Some(task_id) = task_id {
                state["task_id"] = task_id.into();
            }
            return URL_SAFE_NO_PAD.encode(state.to_string());
        };
        let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
        let exp = now
            .saturating_add(self.options.signature_life)
            .as_secs()
            .saturating_add(1);
        keys.sign(task_id, Some(cwd), exp)
    }

    /// Why there is no answer.
    async fn refusal(&self, response: Response) -> Failed {
        let status = response.status();
        let is_problem = is_of(&response, "application/problem+json");
        let body = match body(response, MAX_PROBLEM_BYTES).await {
            Ok(body) => body,
            Err(failed) => return failed,
        };
        match serde_json::from_slice::<Problem>(&body) {
            Ok(problem) if is_problem => Failed {
                error: error_of(&problem.code, &problem.error, &problem.detail),
                // The first request with this key goes on; its answer can be had a moment later.
                fate: if problem.code == "idempotency_key_in_use" {
                    Fate::Unknown
                } else {
                    Fate::Refused
                },
            },
            _ => self.foreign(&format!("it answered {status}")),
        }
    }

    fn foreign(&self, what: &str) -> Failed {
        let reason = format!(
            "what listens at {} does not speak as a machine does: {what}",
            self.base
        );
        Failed {
            error: unreachable(reason),
            fate: Fate::Refused,
        }
    }
}

impl From<Error> for Failed {
    fn from(error: Error) -> Self {
        Self {
            error,
            fate: Fate::Refused,
        }
    }
}

impl Failed {
    /// Whether the server said no, so that asking again is of no use.
    pub(super) fn is_refusal(&self) -> bool {
        self.fate == Fate::Refused
    }
}

pub(super) fn json_bytes(body: &impl Serialize) -> Result<Bytes> {
    let bytes = serde_json::to_vec(body).map_err(|e| Error::invalid(e.to_string()))?;
    Ok(bytes.into())
}

fn headers(options: &RemoteOptions) -> Result<HeaderMap> {
    let mut headers = HeaderMap::new();
    if let Some(key) = &options.api_key {
        let bearer = format!("Bearer {}", key.expose_secret().trim());
        headers.insert(AUTHORIZATION, secret(&bearer)?);
    }
    if let Some(key) = &options.operator_key {
        headers.insert(OPERATOR_KEY_HEADER, secret(key.expose_secret().trim())?);
    }
    Ok(headers)
}

fn secret(text: &str) -> Result<HeaderValue> {
    let mut value = HeaderValue::from_str(text)
        .map_err(|_| Error::invalid("the key has characters that no header may have"))?;
    value.set_sensitive(true);
    Ok(value)
}

fn is_of(response: &Response, essence: &str) -> bool {
    let value = response.headers().get(CONTENT_TYPE);
    let kind = value.and_then(|value| value.to_str().ok()).unwrap_or_default();
    kind.split(';')
        .next()
        .is_some_and(|kind| kind.trim().eq_ignore_ascii_case(essence))
}

/// The whole body, if it is not too long.
async fn body(mut response: Response, max_bytes: usize) -> Result<Bytes, Failed> {
    let mut whole = BytesMut::new();
    while let Some(chunk) = response.chunk().await.map_err(lost)? {
        if whole.len() + chunk.len() > max_bytes {
            let error = unreachable(format!("the answer is longer than {max_bytes} bytes"));
            return Err(Failed {
                error,
                fate: Fate::Refused,
            });
        }
        whole.extend_from_slice(&chunk);
    }
    Ok(whole.freeze())
}

/// The request, or its answer, got lost on the way. The address is taken out, for it may hold a name.
fn lost(error: reqwest::Error) -> Failed {
    let fate = if error.is_builder() {
        Fate::Refused
    } else {
        Fate::Unknown
    };
    Failed {
        error: unreachable(causes(&error.without_url())),
        fate,
    }
}

fn causes(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut source = error.source();
    while let Some(cause) = source {
        text.push_str(": ");
        text.push_str(&cause.to_string());
        source = cause.source();
    }
    text
}

pub(super) fn unreachable(reason: impl Into<String>) -> Error {
    Error::Unreachable {
        reason: reason.into(),
    }
}
