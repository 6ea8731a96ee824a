//! One request and what it gave, or what became of it.

use std::time::Duration;

use bytes::{Bytes, BytesMut};
use reqwest::header::{ACCEPT, AUTHORIZATION, CONTENT_TYPE, HeaderMap, HeaderValue};
use reqwest::redirect::Policy;
use reqwest::{Client, RequestBuilder, Response, StatusCode};
use secrecy::ExposeSecret;
use serde::Deserialize;
use serde::de::DeserializeOwned;

use super::HttpOptions;
use crate::wire::unavailable;
use crate::{Error, Result};

/// The longest answer that is read.
const MAX_ANSWER_BYTES: usize = 256 << 20;
/// Connections are closed here before servers close them, so that no request meets a closed one.
const IDLE: Duration = Duration::from_secs(20);
/// A stream that says nothing for so long is dead; servers say something every 15 s.
const SILENCE: Duration = Duration::from_secs(45);
/// The longest wait that a server may ask for.
const MAX_WAIT: Duration = Duration::from_secs(5);
/// Characters of a foreign answer that are shown.
const SHOWN_CHARS: usize = 80;

/// A server and the connections to it.
#[derive(Debug)]
pub(super) struct Calls {
    client: Client,
    base: String,
    options: HttpOptions,
}

/// A request that gave nothing.
#[derive(Debug)]
pub(super) struct Failed {
    pub(super) error: Error,
    pub(super) fate: Fate,
}

/// What became of the request.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Fate {
    /// It did nothing, and may do better after a while.
    NotYet(Duration),
    /// It did nothing, because of what is in it.
    Body,
    /// It did nothing, whatever is in it.
    Refused,
    /// Nobody knows.
    Unknown,
}

/// A problem document.
#[derive(Deserialize)]
struct Problem {
    code: String,
    #[serde(default)]
    detail: String,
    pointer: Option<String>,
    retry_after_s: Option<u32>,
    error: Option<Error>,
}

impl Calls {
    pub(super) fn new(base: &str, options: HttpOptions) -> Result<Self> {
        let url = reqwest::Url::parse(base).map_err(|error| Error::invalid("base_url", error.to_string()))?;
        if !matches!(url.scheme(), "http" | "https") || url.query().is_some() || url.fragment().is_some() {
            return Err(Error::invalid(
                "base_url",
                "it is no http or https address of a server",
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
            .map_err(|error| unavailable(error.without_url().to_string()))?;
        Ok(Self {
            client,
            base: base.trim_end_matches('/').to_owned(),
            options,
        })
    }

    pub(super) fn options(&self) -> &HttpOptions {
        &self.options
    }

    async fn get(&self, path: &str) -> Result<Bytes, Failed> {
        self.bounded(self.client.get(self.url(path))).await
    }

    pub(super) async fn post(&self, path: &str, body: Bytes) -> Result<Bytes, Failed> {
        let request = self.client.post(self.url(path));
        self.bounded(request.header(CONTENT_TYPE, "application/json").body(body))
            .await
    }

    /// A stream of server-sent events, which has no end.
    pub(super) async fn events(&self, path: &str) -> Result<Response, Failed> {
        let request = self
            .client
            .get(self.url(path))
            .header(ACCEPT, "text/event-stream");
        let response = request.send().await.map_err(lost)?;
        if response.status() == StatusCode::OK && is_of(&response, "text/event-stream") {
            return Ok(response);
        }
        Err(self.refusal(response).await)
    }

    /// Gets, or posts a body, until there is an answer or no try is left; for what may be repeated.
    pub(super) async fn repeat<T: DeserializeOwned>(&self, path: &str, body: Option<Bytes>) -> Result<T> {
        let mut tries = 0;
        loop {
            let answer = match body.clone() {
                Some(body) => self.post(path, body).await,
                None => self.get(path).await,
            };
            let failed = match answer.and_then(|bytes| self.read(&bytes)) {
                Ok(answer) => return Ok(answer),
                Err(failed) => failed,
            };
            let Some(wait) = self.wait(&failed, tries) else {
                return Err(failed.error);
            };
            tries += 1;
            tokio::time::sleep(wait).await;
        }
    }

    /// How long to wait before the request is sent again; none if it should not be.
    pub(super) fn wait(&self, failed: &Failed, tries: u32) -> Option<Duration> {
        let own = self.options.pause_after(tries);
        let wait = match failed.fate {
            Fate::NotYet(asked) => own.max(asked.min(MAX_WAIT)),
            Fate::Unknown => own,
            Fate::Body | Fate::Refused => return None,
        };
        (tries < self.options.retries).then_some(wait)
    }

    /// An answer of the server; anything else comes from somebody else.
    pub(super) fn read<T: DeserializeOwned>(&self, answer: &[u8]) -> Result<T, Failed> {
        serde_json::from_slice(answer).map_err(|error| Failed {
            error: self.foreign(&format!("its answer cannot be read ({error})"), answer),
            fate: Fate::Unknown,
        })
    }

    fn url(&self, path: &str) -> String {
        format!("{}{path}", self.base)
    }

    async fn bounded(&self, request: RequestBuilder) -> Result<Bytes, Failed> {
        let sent = request.timeout(self.options.timeout).send().await;
        let response = sent.map_err(lost)?;
        if response.status() == StatusCode::OK && is_of(&response, "application/json") {
            return body(response).await;
        }
        Err(self.refusal(response).await)
    }

    /// Why there is no answer.
    async fn refusal(&self, response: Response) -> Failed {
        let status = response.status();
        let kind = content_type(&response).to_owned();
        let problem = is_of(&response, "application/problem+json");
        let body = match body(response).await {
            Ok(body) => body,
            Err(failed) => return failed,
        };
        match serde_json::from_slice::<Problem>(&body) {
            Ok(problem_document) if problem => sorted(status, problem_document),
            _ => Failed {
                error: self.foreign(&format!("it answered {status} with {kind}"), &body),
                fate: if status.is_client_error() || status.is_redirection() {
                    Fate::Refused
                } else {
                    Fate::Unknown
                },
            },
        }
    }

    fn foreign(&self, what: &str, body: &[u8]) -> Error {
        let shown: String = String::from_utf8_lossy(body).chars().take(SHOWN_CHARS).collect();
        unavailable(format!(
            "what listens at {} does not speak as a processor does: {what}, beginning {shown:?}",
            self.base
        ))
    }
}

fn headers(options: &HttpOptions) -> Result<HeaderMap> {
    let mut headers = HeaderMap::new();
    if let Some(key) = &options.api_key {
        let bearer = format!("Bearer {}", key.expose_secret().trim());
        let mut value = HeaderValue::from_str(&bearer)
            .map_err(|_| Error::invalid("api_key", "it has characters that no header may have"))?;
        value.set_sensitive(true);
        headers.insert(AUTHORIZATION, value);
    }
    Ok(headers)
}

fn content_type(response: &Response) -> &str {
    let value = response.headers().get(CONTENT_TYPE);
    value
        .and_then(|value| value.to_str().ok())
        .unwrap_or("no content type")
}

fn is_of(response: &Response, essence: &str) -> bool {
    content_type(response)
        .split(';')
        .next()
        .is_some_and(|given| given.trim().eq_ignore_ascii_case(essence))
}

/// The whole body, if it is not too long.
async fn body(mut response: Response) -> Result<Bytes, Failed> {
    let mut whole = BytesMut::new();
    while let Some(chunk) = response.chunk().await.map_err(lost)? {
        if whole.len() + chunk.len() > MAX_ANSWER_BYTES {
            return Err(Failed {
                error: unavailable(format!("the answer is longer than {MAX_ANSWER_BYTES} bytes")),
                fate: Fate::Unknown,
            });
        }
        whole.extend_from_slice(&chunk);
    }
    Ok(whole.freeze())
}

/// The request, or its answer, got lost on the way. The address is taken out, for it may hold a name.
fn lost(error: reqwest::Error) -> Failed {
    let fate = if error.is_connect() {
        Fate::NotYet(Duration::ZERO)
    } else if error.is_builder() {
        Fate::Refused
    } else {
        Fate::Unknown
    };
    Failed {
        error: Error::Unavailable(std::sync::Arc::new(error.without_url())),
        fate,
    }
}

/// What a problem document means.
fn sorted(status: StatusCode, problem: Problem) -> Failed {
    let wait = Duration::from_secs(problem.retry_after_s.unwrap_or(0).into());
    if let Some(error) = problem.error {
        let fate = match error {
            Error::Busy { retry_after_ms } => Fate::NotYet(Duration::from_millis(retry_after_ms)),
            Error::Unavailable(_) => Fate::Unknown,
            _ if of_the_body(status) => Fate::Body,
            _ => Fate::Refused,
        };
        return Failed { error, fate };
    }
    let Problem {
        code,
        detail,
        pointer,
        ..
    } = problem;
    let place = pointer
        .map(|pointer| format!(" at {pointer}"))
        .unwrap_or_default();
    match status {
        _ if of_the_body(status) => Failed {
            error: Error::invalid("request", format!("{detail}{place} ({code})")),
            fate: Fate::Body,
        },
        StatusCode::SERVICE_UNAVAILABLE | StatusCode::TOO_MANY_REQUESTS => Failed {
            error: Error::Busy {
                retry_after_ms: u64::try_from(wait.as_millis()).unwrap_or(u64::MAX),
            },
            fate: Fate::NotYet(wait),
        },
        _ if status.is_client_error() => Failed {
            error: Error::Denied(format!("{detail} ({code})")),
            fate: Fate::Refused,
        },
        _ => Failed {
            error: unavailable(format!("the server answered {status}: {detail} ({code})")),
            fate: Fate::Unknown,
        },
    }
}

fn of_the_body(status: StatusCode) -> bool {
    matches!(
        status,
        StatusCode::BAD_REQUEST | StatusCode::PAYLOAD_TOO_LARGE | StatusCode::UNPROCESSABLE_ENTITY
    )
}
