//! [`OpenAiChat`]: any server that speaks OpenAI's chat completions, over any transport.

use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use backon::{ExponentialBuilder, Retryable};
use bytes::Bytes;
use eventsource_stream::{EventStreamError, Eventsource};
use futures::StreamExt;
use http::header::{ACCEPT, AUTHORIZATION, CONTENT_TYPE, RETRY_AFTER};
use http::{HeaderMap, HeaderValue};
use secrecy::ExposeSecret;
use serde_json::Value;

use super::{ChatModel, ChatReply, ChatRequest, ModelError, OpenAiConfig, StreamAccumulator, wire};
use crate::transport::{BodyStream, Transport, TransportError, read_body};

/// Whether to ask for the answer piece by piece.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Streaming {
    /// The answer in one body.
    #[default]
    Off,
    /// Server-sent events.
    On,
}

/// How often and how patiently to ask again.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct RetryPolicy {
    /// Tries after the first.
    pub retries: usize,
    /// The first wait; every next one is twice as long.
    pub min_delay: Duration,
    /// The longest wait, also where the server asks for more.
    pub max_delay: Duration,
}

impl Default for RetryPolicy {
    fn default() -> Self {
        Self {
            retries: 3,
            min_delay: Duration::from_millis(500),
            max_delay: Duration::from_secs(30),
        }
    }
}

/// A client for `POST {base}/chat/completions` that takes servers as they are.
///
/// An answer is given whole or not at all; a key is sent as a bearer token and shows in no error.
#[derive(Debug, Clone)]
pub struct OpenAiChat {
    transport: Arc<dyn Transport>,
    url: http::Uri,
    config: OpenAiConfig,
    authorization: Option<HeaderValue>,
    streaming: Streaming,
    retry: RetryPolicy,
    timeout: Duration,
    max_body_bytes: usize,
}

impl OpenAiChat {
    /// A client over `transport`: whole answers, 3 retries, 5 minutes, 16 MiB.
    ///
    /// # Errors
    /// [`ModelError::Config`] for an address that is none or a key that fits no header.
    pub fn new(config: OpenAiConfig, transport: Arc<dyn Transport>) -> Result<Self, ModelError> {
        let url = format!("{}/chat/completions", config.base_url.trim_end_matches('/'));
        let url = url
            .parse()
            .map_err(|_| ModelError::Config(format!("{} is not an address", config.base_url)))?;
        let authorization = match &config.api_key {
            Some(key) => Some(bearer(key.expose_secret())?),
            None => None,
        };
        Ok(Self {
            transport,
            url,
            config,
            authorization,
            streaming: Streaming::Off,
            retry: RetryPolicy::default(),
            timeout: Duration::from_secs(300),
            max_body_bytes: 16 << 20,
        })
    }

    /// Chooses between whole answers and streams.
    #[must_use]
    pub fn with_streaming(mut self, streaming: Streaming) -> Self {
        self.streaming = streaming;
        self
    }

    /// Sets how often to ask again.
    #[must_use]
    pub fn with_retry(mut self, retry: RetryPolicy) -> Self {
        self.retry = retry;
        self
    }

    /// Sets the time for one answer, from the request to its last byte.
    #[must_use]
    pub fn with_timeout(mut self, timeout: Duration) -> Self {
        self.timeout = timeout;
        self
    }

    /// Sets the largest answer.
    #[must_use]
    pub fn with_max_body_bytes(mut self, bytes: usize) -> Self {
        self.max_body_bytes = bytes;
        self
    }

    async fn ask_once(&self, body: &Bytes) -> Result<ChatReply, ModelError> {
        let after_ms = u64::try_from(self.timeout.as_millis()).unwrap_or(u64::MAX);
        match tokio::time::timeout(self.timeout, self.exchange(body)).await {
            Ok(reply) => reply.map_err(|error| self.scrub(error)),
            Err(_) => Err(ModelError::Timeout { after_ms }),
        }
    }

    /// Takes the key out of what a server says: some repeat it in their refusal.
    fn scrub(&self, mut error: ModelError) -> ModelError {
        let (ModelError::Status { message: text, .. }
        | ModelError::NotJson { snippet: text, .. }
        | ModelError::Shape { snippet: text, .. }) = &mut error
        else {
            return error;
        };
        if let Some(key) = &self.config.api_key {
            *text = text.replace(key.expose_secret(), "[key]");
        }
        error
    }

    async fn exchange(&self, body: &Bytes) -> Result<ChatReply, ModelError> {
        let response = self.transport.send(self.http_request(body)?).await?;
        let (head, body) = response.into_parts();
        let content_type = text_header(&head.headers, CONTENT_TYPE.as_str());
        if head.status.is_success() && content_type.starts_with("text/event-stream") {
            return self.read_stream(body).await;
        }
        let body = read_body(body, self.max_body_bytes).await.map_err(sort)?;
        if !head.status.is_success() {
            return Err(refusal(head.status, &head.headers, &content_type, &body));
        }
        match serde_json::from_slice(&body) {
            Ok(answer) => wire::parse_completion(&answer),
            Err(_) => Err(wire::not_json(&content_type, &body)),
        }
    }

    fn http_request(&self, body: &Bytes) -> Result<http::Request<Bytes>, ModelError> {
        let mut request = http::Request::post(self.url.clone())
            .header(CONTENT_TYPE, "application/json")
            .header(ACCEPT, "application/json, text/event-stream")
            .body(body.clone())
            .map_err(|error| ModelError::Config(error.to_string()))?;
        if let Some(value) = &self.authorization {
            request.headers_mut().insert(AUTHORIZATION, value.clone());
        }
        Ok(request)
    }

    async fn read_stream(&self, body: BodyStream) -> Result<ChatReply, ModelError> {
        let mut seen = 0;
        let limit = self.max_body_bytes;
        let bounded = body.map(move |chunk| {
            let chunk = chunk?;
            seen += chunk.len();
            if seen > limit {
                return Err(TransportError::TooLarge { limit });
            }
            Ok(chunk)
        });
        let mut events = Box::pin(bounded.eventsource());
        let mut stream = StreamAccumulator::default();
        while let Some(event) = events.next().await {
            match event {
                Ok(event) => stream.push(&event.data)?,
                Err(EventStreamError::Transport(error @ TransportError::TooLarge { .. })) => {
                    return Err(sort(error));
                }
                // A broken stream is still a reply if the model had finished before.
                Err(_) => break,
            }
            if stream.is_done() {
                break;
            }
        }
        stream.finish()
    }
}

#[async_trait]
impl ChatModel for OpenAiChat {
    fn name(&self) -> &str {
        &self.config.model
    }

    async fn chat(&self, request: &ChatRequest) -> Result<ChatReply, ModelError> {
        let body = wire::request_body(request, &self.config.model, self.streaming);
        let body = Bytes::from(body.to_string());
        let max_delay = self.retry.max_delay;
        let backoff = ExponentialBuilder::default()
            .with_jitter()
            .with_min_delay(self.retry.min_delay)
            .with_max_delay(max_delay)
            .with_max_times(self.retry.retries);
        let ask = || self.ask_once(&body);
        ask.retry(backoff)
            .when(ModelError::is_transient)
            .adjust(move |error, wait| {
                let asked = error.retry_after_s().map(Duration::from_secs);
                wait.map(|wait| asked.map_or(wait, |asked| asked.max(wait).min(max_delay)))
            })
            .notify(|error, wait| tracing::info!(%error, ?wait, "asking the model again"))
            .await
    }
}

fn bearer(key: &str) -> Result<HeaderValue, ModelError> {
    let mut value = HeaderValue::try_from(format!("Bearer {key}"))
        .map_err(|_| ModelError::Config("the API key has characters that no header takes".to_owned()))?;
    value.set_sensitive(true);
    Ok(value)
}

fn sort(error: TransportError) -> ModelError {
    match error {
        TransportError::TooLarge { limit } => ModelError::TooLarge { limit },
        other => ModelError::Transport(other),
    }
}

fn refusal(status: http::StatusCode, headers: &HeaderMap, content_type: &str, body: &[u8]) -> ModelError {
    let message = match serde_json::from_slice::<Value>(body) {
        Ok(document) => wire::error_message(&document),
        Err(_) => wire::not_json(content_type, body).to_string(),
    };
    ModelError::Status {
        status: status.as_u16(),
        message,
        // The form with a date is rare, and a clock of ours would have to agree with theirs.
        retry_after_s: text_header(headers, RETRY_AFTER.as_str()).trim().parse().ok(),
    }
}

fn text_header(headers: &HeaderMap, name: &str) -> String {
    let value = headers.get(name).and_then(|value| value.to_str().ok());
    value.unwrap_or_default().to_ascii_lowercase()
}
