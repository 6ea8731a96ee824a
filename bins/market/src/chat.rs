//! [`HttpChat`]: any server that speaks OpenAI's chat completions, as the model of a predictor.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use aion_market::predict::llm::{ChatAnswer, ChatError, ChatModel, ChatPrompt};
use async_trait::async_trait;
use futures::StreamExt;
use http::{StatusCode, header};
use reqwest::redirect::Policy;
use secrecy::{ExposeSecret, SecretString};
use serde::Deserialize;
use serde_json::{Value, json};

/// The longest answer that is read.
const MAX_ANSWER_BYTES: usize = 1 << 20;

/// Why a model server gave no answer. No variant repeats the key.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum HttpChatError {
    /// The address is none.
    #[error("{0:?} is no http or https address")]
    BadAddress(String),
    /// Something is not set.
    #[error("{0} is not set")]
    Unset(&'static str),
    /// The client could not be set up, or the server did not answer.
    #[error("the model server cannot be reached")]
    Unreachable(#[source] reqwest::Error),
    /// It answered with an error.
    #[error("the model server answered {0}")]
    Refused(StatusCode),
    /// Its answer is too long.
    #[error("the answer of the model server is longer than {MAX_ANSWER_BYTES} bytes")]
    TooLong,
    /// Its answer is something else.
    #[error("the answer of the model server cannot be read")]
    Unreadable(#[from] serde_json::Error),
    /// It has no text.
    #[error("the answer of the model server has no text")]
    Empty,
}

/// A client of `POST {base}/chat/completions`.
///
/// The schema of the answer is sent as `response_format`; to a server that refuses it the prompt is sent
/// without, then and from then on.
#[derive(Debug, Clone)]
pub struct HttpChat {
    client: reqwest::Client,
    url: String,
    model: String,
    key: Option<SecretString>,
    without_schema: Arc<AtomicBool>,
}

#[derive(Deserialize)]
struct Completion {
    choices: Vec<Choice>,
    #[serde(default)]
    usage: Option<Usage>,
}

#[derive(Deserialize)]
struct Choice {
    message: Said,
}

#[derive(Deserialize)]
struct Said {
    #[serde(default)]
    content: Option<String>,
}

#[derive(Deserialize)]
struct Usage {
    #[serde(default)]
    total_tokens: Option<u64>,
}

impl HttpChat {
    /// A client of the server at `base`, such as `http://127.0.0.1:8790/v1`; redirects are not followed.
    ///
    /// # Errors
    /// [`HttpChatError::BadAddress`], or [`HttpChatError::Unreachable`] where TLS cannot be set up.
    pub fn new(base: &str, model: impl Into<String>) -> Result<Self, HttpChatError> {
        let fits = reqwest::Url::parse(base).is_ok_and(|url| matches!(url.scheme(), "http" | "https"));
        if !fits {
            return Err(HttpChatError::BadAddress(base.to_owned()));
        }
        // Fails only where a provider is set already, and then that one is used.
        let _ = rustls::crypto::ring::default_provider().install_default();
        let client = reqwest::Client::builder()
            .connect_timeout(Duration::from_secs(5))
            .redirect(Policy::none())
            .build()
            .map_err(HttpChatError::Unreachable)?;
        Ok(Self {
            client,
            url: format!("{}/chat/completions", base.trim_end_matches('/')),
            model: model.into(),
            key: None,
            without_schema: Arc::default(),
        })
    }

    /// Sends this key as a bearer token.
    #[must_use]
    pub fn with_key(mut self, key: SecretString) -> Self {
        self.key = Some(key);
        self
    }

    /// The server that `AION_OPENAI_BASEURL`, `AION_OPENAI_API_KEY` (or `AION_LLM_API_KEY`) and
    /// `AION_MODEL_NAME` (or `AION_LLM_MODEL_NAME`) name through `lookup`; none without an address.
    ///
    /// # Errors
    /// [`HttpChatError::Unset`] for an address without a model, and those of [`new`](Self::new).
    pub fn from_lookup(lookup: impl Fn(&str) -> Option<String>) -> Result<Option<Self>, HttpChatError> {
        let get = |names: &[&str]| {
            let mut set = names.iter().filter_map(|name| lookup(name));
            set.find(|value| !value.trim().is_empty())
        };
        let Some(base) = get(&["AION_OPENAI_BASEURL"]) else {
            return Ok(None);
        };
        let model = get(&["AION_MODEL_NAME", "AION_LLM_MODEL_NAME"]);
        let chat = Self::new(&base, model.ok_or(HttpChatError::Unset("AION_MODEL_NAME"))?)?;
        Ok(Some(match get(&["AION_OPENAI_API_KEY", "AION_LLM_API_KEY"]) {
            Some(key) => chat.with_key(SecretString::from(key)),
            None => chat,
        }))
    }

    fn body(&self, prompt: &ChatPrompt, with_schema: bool) -> Value {
        let mut body = json!({
            "model": self.model,
            "messages": [
                {"role": "system", "content": prompt.system},
                {"role": "user", "content": prompt.user},
            ],
            "max_tokens": prompt.max_tokens,
            "temperature": 0,
        });
        if with_schema {
            body["response_format"] = json!({
                "type": "json_schema",
                "json_schema": {"name": "forecast", "strict": true, "schema": prompt.schema},
            });
        }
        body
    }

    async fn send(&self, body: &Value) -> Result<(StatusCode, Vec<u8>), HttpChatError> {
        let mut request = self
            .client
            .post(&self.url)
            .header(header::CONTENT_TYPE, "application/json")
            .body(serde_json::to_vec(body)?);
        if let Some(key) = &self.key {
            request = request.bearer_auth(key.expose_secret());
        }
        let answer = request.send().await.map_err(unreachable)?;
        let status = answer.status();
        let mut bytes = Vec::new();
        let mut parts = answer.bytes_stream();
        while let Some(part) = parts.next().await {
            bytes.extend_from_slice(&part.map_err(unreachable)?);
            if bytes.len() > MAX_ANSWER_BYTES {
                return Err(HttpChatError::TooLong);
            }
        }
        Ok((status, bytes))
    }

    async fn ask(&self, prompt: &ChatPrompt) -> Result<ChatAnswer, HttpChatError> {
        let with_schema = !self.without_schema.load(Ordering::Relaxed);
        let (mut status, mut bytes) = self.send(&self.body(prompt, with_schema)).await?;
        let refused = matches!(status, StatusCode::BAD_REQUEST | StatusCode::UNPROCESSABLE_ENTITY);
        if with_schema && refused {
            (status, bytes) = self.send(&self.body(prompt, false)).await?;
            self.without_schema.store(status.is_success(), Ordering::Relaxed);
        }
        if !status.is_success() {
            return Err(HttpChatError::Refused(status));
        }
        let completion: Completion = serde_json::from_slice(&bytes)?;
        let said = completion.choices.into_iter().next();
        let text = said.and_then(|choice| choice.message.content);
        let answer = ChatAnswer::new(text.ok_or(HttpChatError::Empty)?);
        Ok(match completion.usage.and_then(|usage| usage.total_tokens) {
            Some(tokens) => answer.with_tokens(tokens),
            None => answer,
        })
    }
}

/// The address is taken out: it may carry a key.
fn unreachable(error: reqwest::Error) -> HttpChatError {
    HttpChatError::Unreachable(error.without_url())
}

#[async_trait]
impl ChatModel for HttpChat {
    async fn complete(&self, prompt: &ChatPrompt) -> Result<ChatAnswer, ChatError> {
        Ok(self.ask(prompt).await?)
    }
}
