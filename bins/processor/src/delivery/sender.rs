//! Sending one message over HTTP.

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use aion_processor::Outcome;
use aion_service::webhook::{ID_HEADER, SIGNATURE_HEADER, TIMESTAMP_HEADER};
use async_trait::async_trait;
use http::{HeaderMap, StatusCode, header};
use reqwest::redirect::Policy;
use thiserror::Error;

use super::message::Outgoing;
use super::resolver::{Guard, Lookup, SystemLookup};
use super::target::{TargetError, TargetPolicy};

/// Bytes of an answer that are read, so that its connection can be used again; the rest is not waited for.
const ANSWER_BYTES: usize = 16 << 10;
/// How long to read an answer whose status is known.
const ANSWER_WAIT: Duration = Duration::from_secs(1);

/// Sends messages; there is one that uses HTTP, [`HttpSender`].
#[async_trait]
pub trait Sender: fmt::Debug + Send + Sync + 'static {
    /// Sends a message once and says what came of it.
    async fn send(&self, message: &Outgoing) -> Outcome;
}

/// Nothing can be sent at all.
#[derive(Debug, Error)]
#[error("webhooks cannot be sent, for TLS cannot be set up")]
pub struct SenderError(#[source] reqwest::Error);

/// How long a receiver may take.
#[derive(Debug, Clone, Copy)]
pub struct Patience {
    /// Until there is a connection.
    pub connect: Duration,
    /// Until there is a status.
    pub answer: Duration,
}

impl Default for Patience {
    fn default() -> Self {
        Self {
            connect: Duration::from_secs(5),
            answer: Duration::from_secs(10),
        }
    }
}

/// Sends by HTTP: to the addresses that a [`TargetPolicy`] allows, through no proxy, following no redirect.
#[derive(Debug, Clone)]
pub struct HttpSender {
    client: reqwest::Client,
    policy: Arc<TargetPolicy>,
    patience: Patience,
}

impl HttpSender {
    /// Resolves names as this host does.
    ///
    /// # Errors
    /// [`SenderError`].
    pub fn new(policy: TargetPolicy) -> Result<Self, SenderError> {
        Self::with(policy, SystemLookup, Patience::default())
    }

    /// Resolves names by `lookup`, and waits as long as it is told.
    ///
    /// # Errors
    /// [`SenderError`].
    pub fn with(policy: TargetPolicy, lookup: impl Lookup, patience: Patience) -> Result<Self, SenderError> {
        // Fails only where a provider is set already, and then that one is used.
        let _ = rustls::crypto::ring::default_provider().install_default();
        let policy = Arc::new(policy);
        let guard = Guard {
            lookup: Arc::new(lookup),
            policy: Arc::clone(&policy),
        };
        let client = reqwest::Client::builder()
            .dns_resolver(Arc::new(guard))
            .no_proxy()
            .redirect(Policy::none())
            .connect_timeout(patience.connect)
            .pool_max_idle_per_host(4)
            .pool_idle_timeout(Duration::from_secs(30))
            .user_agent(concat!("aion-processor/", env!("CARGO_PKG_VERSION")))
            .build()
            .map_err(SenderError)?;
        Ok(Self {
            client,
            policy,
            patience,
        })
    }

    async fn try_to(&self, message: &Outgoing) -> Result<Outcome, String> {
        let url = self
            .policy
            .check_url(&message.url)
            .map_err(|error| error.to_string())?;
        let request = self
            .client
            .post(url)
            .header(header::CONTENT_TYPE, "application/json")
            .header(ID_HEADER, &message.id)
            .header(TIMESTAMP_HEADER, message.timestamp)
            .header(SIGNATURE_HEADER, &message.signature)
            .body(message.body.clone());
        let response = tokio::time::timeout(self.patience.answer, request.send()).await;
        let response = response.map_err(|_| "the receiver took too long")?;
        let response = response.map_err(|error| reason(&error))?;
        let outcome = judge(response.status(), response.headers());
        drain(response).await;
        Ok(outcome)
    }
}

#[async_trait]
impl Sender for HttpSender {
    async fn send(&self, message: &Outgoing) -> Outcome {
        match self.try_to(message).await {
            Ok(outcome) => outcome,
            Err(reason) => Outcome::failed(None, reason),
        }
    }
}

/// What a status says.
fn judge(status: StatusCode, headers: &HeaderMap) -> Outcome {
    let code = status.as_u16();
    if status.is_success() {
        return Outcome::accepted(code);
    }
    let what = if status.is_redirection() {
        format!("the receiver answered {code}; redirects are not followed")
    } else {
        format!("the receiver answered {code}")
    };
    Outcome::failed(Some(code), what).with_retry_after_ms(retry_after_ms(headers))
}

/// The seconds of `Retry-After`. A date is left alone: the waits of the schedule do.
fn retry_after_ms(headers: &HeaderMap) -> Option<u64> {
    let value = headers.get(header::RETRY_AFTER)?.to_str().ok()?;
    let seconds: u64 = value.trim().parse().ok()?;
    Some(seconds.saturating_mul(1_000))
}

/// Reads what is left of a short answer.
async fn drain(mut response: reqwest::Response) {
    let read = async {
        let mut bytes = 0;
        while let Ok(Some(chunk)) = response.chunk().await {
            bytes += chunk.len();
            if bytes > ANSWER_BYTES {
                return;
            }
        }
    };
    // Whoever goes on talking loses the connection; the status was what counted.
    let _ = tokio::time::timeout(ANSWER_WAIT, read).await;
}

/// Why there was no answer, without the address, which may carry a key.
fn reason(error: &reqwest::Error) -> String {
    let mut cause: Option<&dyn std::error::Error> = Some(error);
    while let Some(error) = cause {
        if let Some(refused) = error.downcast_ref::<TargetError>() {
            return refused.to_string();
        }
        cause = error.source();
    }
    let what = if error.is_timeout() {
        "there was no connection in time"
    } else if error.is_connect() {
        "there was no connection"
    } else {
        "the connection broke off"
    };
    what.to_owned()
}
