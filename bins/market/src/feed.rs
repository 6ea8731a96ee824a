//! [`HttpFeed`]: the tasks of a processor, read over HTTP. There is no way to write here.

use std::time::Duration;

use aion_market::TaskFeed;
use aion_market::feed::FeedError;
use aion_types::{EventRecord, MessageRecord, TaskId, TaskRecord};
use async_trait::async_trait;
use futures::StreamExt;
use http::{StatusCode, header};
use reqwest::redirect::Policy;
use secrecy::{ExposeSecret, SecretString};
use serde::Deserialize;
use serde::de::DeserializeOwned;
use serde_json::Value;

/// The longest answer that is read.
const MAX_ANSWER_BYTES: usize = 32 << 20;
/// The largest page that the processor gives.
const MAX_PAGE: usize = 1_000;
/// Time for one answer.
const TIMEOUT: Duration = Duration::from_secs(20);

/// Why the processor could not be read.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum HttpFeedError {
    /// The address is none.
    #[error("{0:?} is no http or https address")]
    BadAddress(String),
    /// The client could not be set up, or the processor did not answer.
    #[error("the processor cannot be reached")]
    Unreachable(#[source] reqwest::Error),
    /// It answered with an error.
    #[error("the processor answered {0}")]
    Refused(StatusCode),
    /// Its log ends before what was read already: it is not the log of then.
    #[error("the log of the processor ends before event {0}, which was read: is it another log?")]
    Behind(u64),
    /// Its answer is too long.
    #[error("the answer of the processor is longer than {MAX_ANSWER_BYTES} bytes")]
    TooLong,
    /// Its answer is something else.
    #[error("the answer of the processor cannot be read")]
    Unreadable(#[from] serde_json::Error),
}

/// A client of the processor that only reads.
#[derive(Debug, Clone)]
pub struct HttpFeed {
    client: reqwest::Client,
    base: String,
    key: Option<SecretString>,
}

#[derive(Deserialize)]
struct Events {
    events: Vec<Value>,
}

#[derive(Deserialize)]
struct Messages {
    messages: Vec<MessageRecord>,
}

impl HttpFeed {
    /// A client of the processor at `base`, such as `http://127.0.0.1:9205`; redirects are not followed.
    ///
    /// # Errors
    /// [`HttpFeedError::BadAddress`], or [`HttpFeedError::Unreachable`] where TLS cannot be set up.
    pub fn new(base: &str) -> Result<Self, HttpFeedError> {
        let fits = reqwest::Url::parse(base).is_ok_and(|url| matches!(url.scheme(), "http" | "https"));
        if !fits {
            return Err(HttpFeedError::BadAddress(base.to_owned()));
        }
        // Fails only where a provider is set already, and then that one is used.
        let _ = rustls::crypto::ring::default_provider().install_default();
        let client = reqwest::Client::builder()
            .connect_timeout(Duration::from_secs(5))
            .timeout(TIMEOUT)
            .redirect(Policy::none())
            .build()
            .map_err(HttpFeedError::Unreachable)?;
        Ok(Self {
            client,
            base: base.trim_end_matches('/').to_owned(),
            key: None,
        })
    }

    /// Sends this key with every request.
    #[must_use]
    pub fn with_key(mut self, key: SecretString) -> Self {
        self.key = Some(key);
        self
    }

    /// What is at a path; `None` if nothing is.
    async fn get<T: DeserializeOwned>(&self, path: &str) -> Result<Option<T>, HttpFeedError> {
        let mut request = self.client.get(format!("{}{path}", self.base));
        if let Some(key) = &self.key {
            let bearer = format!("Bearer {}", key.expose_secret());
            request = request.header(header::AUTHORIZATION, bearer);
        }
        let response = request.send().await.map_err(unreachable)?;
        match response.status() {
            StatusCode::NOT_FOUND => Ok(None),
            status if status.is_success() => Ok(Some(serde_json::from_slice(&body(response).await?)?)),
            status => Err(HttpFeedError::Refused(status)),
        }
    }

    /// One page of the log, without the events of kinds that are not known here.
    async fn page(&self, after: u64, limit: usize) -> Result<(Vec<EventRecord>, Option<u64>), HttpFeedError> {
        let path = format!("/v1/events?after={after}&limit={limit}");
        let page: Option<Events> = self.get(&path).await.map_err(|error| match error {
            HttpFeedError::Refused(StatusCode::UNPROCESSABLE_ENTITY) => HttpFeedError::Behind(after),
            error => error,
        })?;
        let page = page.ok_or(HttpFeedError::Refused(StatusCode::NOT_FOUND))?;
        let last = page.events.last().and_then(|event| event["seq"].as_u64());
        let known = page.events.into_iter().map(EventRecord::deserialize);
        Ok((known.filter_map(Result::ok).collect(), last))
    }
}

/// The address is taken out: it may carry a key.
fn unreachable(error: reqwest::Error) -> HttpFeedError {
    HttpFeedError::Unreachable(error.without_url())
}

async fn body(response: reqwest::Response) -> Result<Vec<u8>, HttpFeedError> {
    let (mut stream, mut bytes) = (response.bytes_stream(), Vec::new());
    while let Some(chunk) = stream.next().await {
        bytes.extend_from_slice(&chunk.map_err(unreachable)?);
        if bytes.len() > MAX_ANSWER_BYTES {
            return Err(HttpFeedError::TooLong);
        }
    }
    Ok(bytes)
}

#[async_trait]
impl TaskFeed for HttpFeed {
    async fn events(&self, after: u64, limit: usize) -> Result<Vec<EventRecord>, FeedError> {
        let (mut after, limit) = (after, limit.clamp(1, MAX_PAGE));
        loop {
            let (known, last) = self.page(after, limit).await?;
            match last {
                // A page of nothing but news from a newer processor is not the end of the log.
                Some(last) if known.is_empty() && last > after => after = last,
                _ => return Ok(known),
            }
        }
    }

    async fn task(&self, id: TaskId) -> Result<Option<TaskRecord>, FeedError> {
        Ok(self.get(&format!("/v1/tasks/{id}")).await?)
    }

    async fn messages(&self, id: TaskId, after: u64, limit: usize) -> Result<Vec<MessageRecord>, FeedError> {
        let limit = limit.clamp(1, MAX_PAGE);
        let path = format!("/v1/tasks/{id}/messages?from={after}&limit={limit}");
        let page: Option<Messages> = self.get(&path).await?;
        Ok(page.map_or_else(Vec::new, |page| page.messages))
    }
}
