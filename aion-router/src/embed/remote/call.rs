//! The thread that talks to the server, and one request with its attempts.

use std::sync::Arc;
use std::sync::mpsc::{SyncSender, sync_channel};
use std::time::Duration;

use reqwest::header::{AUTHORIZATION, CONTENT_TYPE, HeaderMap, HeaderValue, RETRY_AFTER};
use reqwest::{Client, Response, Url};
use secrecy::ExposeSecret;
use tokio::sync::Semaphore;
use tokio::sync::mpsc::{UnboundedReceiver, UnboundedSender, unbounded_channel};

use super::wire;
use super::{RemoteError, RemoteOptions};
use crate::net;

/// Requests at once.
const AT_ONCE: usize = 4;
/// The longest wait between two attempts.
const MAX_WAIT: Duration = Duration::from_secs(2);

/// Texts whose vectors somebody waits for. Every caller waits for one, so the queue is as long as there are callers.
#[derive(Debug)]
pub(super) struct Job {
    texts: Vec<String>,
    dim: Option<usize>,
    reply: SyncSender<Result<Vec<Vec<f32>>, RemoteError>>,
}

/// Starts the thread; it ends when the sender goes.
pub(super) fn start(caller: Caller) -> Result<UnboundedSender<Job>, RemoteError> {
    let setup = |error: std::io::Error| RemoteError::Setup(error.into());
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .map_err(setup)?;
    let (jobs, received) = unbounded_channel();
    std::thread::Builder::new()
        .name("aion-embeddings".to_owned())
        .spawn(move || runtime.block_on(serve(Arc::new(caller), received)))
        .map_err(setup)?;
    Ok(jobs)
}

async fn serve(caller: Arc<Caller>, mut jobs: UnboundedReceiver<Job>) {
    let places = Arc::new(Semaphore::new(AT_ONCE));
    while let Some(job) = jobs.recv().await {
        let Ok(place) = places.clone().acquire_owned().await else {
            return;
        };
        let caller = caller.clone();
        tokio::spawn(async move {
            let _place = place;
            // Whoever asked may have gone.
            let _ = job.reply.send(caller.ask(&job.texts, job.dim).await);
        });
    }
}

/// Hands texts to the thread and waits for their vectors.
pub(super) fn ask(
    jobs: &UnboundedSender<Job>,
    texts: Vec<String>,
    dim: Option<usize>,
) -> Result<Vec<Vec<f32>>, RemoteError> {
    let (reply, answer) = sync_channel(1);
    let gone = || RemoteError::Setup("its thread has ended".into());
    jobs.send(Job { texts, dim, reply }).map_err(|_| gone())?;
    answer.recv().map_err(|_| gone())?
}

/// A client of one server.
#[derive(Debug)]
pub(super) struct Caller {
    client: Client,
    url: Url,
    options: RemoteOptions,
}

impl Caller {
    pub(super) fn new(options: &RemoteOptions) -> Result<Self, RemoteError> {
        let base = options.base.trim_end_matches('/');
        let url = net::address(&format!("{base}/embeddings")).map_err(|_| {
            let place = options.base.rsplit('@').next().unwrap_or_default();
            RemoteError::BadAddress(place.to_owned())
        })?;
        let client = net::client()
            .default_headers(headers(options)?)
            .timeout(options.timeout)
            .build()
            .map_err(|error| RemoteError::Setup(error.into()))?;
        Ok(Self {
            client,
            url,
            options: options.clone(),
        })
    }

    async fn ask(&self, texts: &[String], dim: Option<usize>) -> Result<Vec<Vec<f32>>, RemoteError> {
        let mut wait = self.options.backoff;
        for _ in 1..self.options.attempts {
            match self.try_once(texts, dim).await {
                Err(Failure::Passing { after, .. }) => {
                    tokio::time::sleep(after.unwrap_or(wait).min(MAX_WAIT)).await;
                    wait = wait.saturating_mul(2);
                }
                done => return done.map_err(Failure::into_error),
            }
        }
        self.try_once(texts, dim).await.map_err(Failure::into_error)
    }

    async fn try_once(&self, texts: &[String], dim: Option<usize>) -> Result<Vec<Vec<f32>>, Failure> {
        let body = wire::question(&self.options.model, texts).map_err(Failure::Lasting)?;
        let asked = self.client.post(self.url.clone()).body(body).send().await;
        let response = asked.map_err(|error| self.broken(error))?;
        let status = response.status();
        if !status.is_success() {
            return Err(refused(&response));
        }
        let bytes = self.read(response).await?;
        wire::vectors(&bytes, texts.len(), dim).map_err(Failure::Lasting)
    }

    async fn read(&self, mut response: Response) -> Result<Vec<u8>, Failure> {
        let limit = self.options.max_answer_bytes;
        let too_long = || Failure::Lasting(RemoteError::TooLong(limit));
        if response
            .content_length()
            .is_some_and(|length| length > limit as u64)
        {
            return Err(too_long());
        }
        let mut bytes = Vec::new();
        while let Some(chunk) = response.chunk().await.map_err(|error| self.broken(error))? {
            if bytes.len() + chunk.len() > limit {
                return Err(too_long());
            }
            bytes.extend_from_slice(&chunk);
        }
        Ok(bytes)
    }

    fn broken(&self, error: reqwest::Error) -> Failure {
        if error.is_timeout() {
            // Whoever waits has waited for long enough.
            return Failure::Lasting(RemoteError::TooSlow(self.options.timeout));
        }
        let error = RemoteError::Unreachable(error.without_url());
        Failure::Passing { error, after: None }
    }
}

/// Whether it pays to try again.
enum Failure {
    Passing {
        error: RemoteError,
        /// How long the server wants to be left alone.
        after: Option<Duration>,
    },
    Lasting(RemoteError),
}

impl Failure {
    fn into_error(self) -> RemoteError {
        match self {
            Self::Passing { error, .. } | Self::Lasting(error) => error,
        }
    }
}

fn refused(response: &Response) -> Failure {
    let code = response.status().as_u16();
    let error = RemoteError::Status(code);
    if !matches!(code, 408 | 429 | 500 | 502 | 503 | 504) {
        return Failure::Lasting(error);
    }
    let after = response.headers().get(RETRY_AFTER);
    let after = after.and_then(|value| value.to_str().ok()?.parse().ok());
    Failure::Passing {
        error,
        after: after.map(Duration::from_secs),
    }
}

fn headers(options: &RemoteOptions) -> Result<HeaderMap, RemoteError> {
    let mut headers = HeaderMap::new();
    headers.insert(CONTENT_TYPE, HeaderValue::from_static("application/json"));
    if let Some(key) = &options.key {
        let bearer = HeaderValue::from_str(&format!("Bearer {}", key.expose_secret()));
        let mut bearer = bearer.map_err(|error| RemoteError::Setup(error.into()))?;
        bearer.set_sensitive(true);
        headers.insert(AUTHORIZATION, bearer);
    }
    Ok(headers)
}
