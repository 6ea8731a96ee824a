//! OpenAI's protocol. A parameter that would change the answer is read or refused, never skipped.

pub(crate) mod chat;
pub(crate) mod completions;
pub(crate) mod embeddings;
mod fields;
mod format;
mod messages;
pub(crate) mod models;
pub(crate) mod responses;
pub(crate) mod score;
mod tools;

use aion_llm::{Completion, Engine, FinishReason, TokenEvent, Tokenizer};
use aion_service::{Problem, parse_json};
use aion_types::PersistenceSummary;
use axum::body::Bytes;
use axum::extract::{FromRequest, Request};
use serde::de::DeserializeOwned;
use serde_json::{Value, json};

use crate::error::{ApiError, ApiResult, shown};

/// The log-probability that stands for none: JSON has no infinity.
const LEAST_LOGPROB: f64 = -9999.0;

/// A body with more members, or more bytes, is not searched for the one that is wrong.
const MAX_MEMBERS: usize = 64;
const MAX_EXAMINED_BYTES: usize = 256 << 10;

/// A JSON body whose rejection has OpenAI's shape too.
pub(crate) struct ApiJson<T>(pub(crate) T);

impl<T: DeserializeOwned, S: Send + Sync> FromRequest<S> for ApiJson<T> {
    type Rejection = ApiError;

    async fn from_request(request: Request, state: &S) -> ApiResult<Self> {
        let body = Bytes::from_request(request, state).await;
        let body = body.map_err(|rejection| match rejection.status().as_u16() {
            413 => {
                Problem::payload_too_large("body_too_large", "the body is over the limit of this operation")
            }
            _ => Problem::bad_request("unreadable_body", rejection.body_text()),
        })?;
        Ok(Self(
            parse_json(&body).map_err(|problem| culprit::<T>(problem, &body))?,
        ))
    }
}

/// Names the member that is wrong, where reading did not: members of a shared part lose their path.
fn culprit<T: DeserializeOwned>(problem: Problem, body: &[u8]) -> Problem {
    if problem.pointer().is_some_and(|pointer| !pointer.is_empty()) {
        return problem;
    }
    let Ok(Value::Object(members)) = serde_json::from_slice(body) else {
        return problem;
    };
    if members.len() > MAX_MEMBERS || body.len() > MAX_EXAMINED_BYTES {
        return problem;
    }
    let error_without = |key: Option<&str>| {
        let mut members = members.clone();
        key.map(|key| members.remove(key));
        serde_json::from_value::<T>(members.into())
            .err()
            .map(|error| error.to_string())
    };
    let error = error_without(None);
    let cures = |key: &&String| match error_without(Some(key)) {
        None => true,
        other => other != error && !other.is_some_and(|other| other.starts_with("missing field")),
    };
    match members.keys().find(cures) {
        Some(key) => problem.at(format!("/{key}")),
        None => problem,
    }
}

/// Refuses the name of another model.
fn check_model(asked: Option<&str>, engine: &Engine) -> ApiResult<()> {
    let name = &engine.info().name;
    match asked.filter(|asked| asked != name) {
        Some(asked) => Err(unknown_model(asked, name)),
        None => Ok(()),
    }
}

fn unknown_model(asked: &str, known: &str) -> ApiError {
    let detail = format!("there is no model `{}` here, only `{known}`", shown(asked));
    ApiError(Problem::not_found("model_not_found", detail).at("/model"))
}

fn finish_reason(completion: &Completion) -> &'static str {
    match completion.finish {
        FinishReason::Length => "length",
        _ => "stop",
    }
}

/// What the completions of one prompt cost, and how surprising all their tokens were.
#[derive(Debug, Clone, Default)]
struct Usage {
    prompt_tokens: usize,
    cached_tokens: usize,
    completion_tokens: usize,
    persistence: Option<PersistenceSummary>,
    /// R of the tokens of each choice.
    ratios: Vec<Vec<f64>>,
}

impl Usage {
    /// A token of the choice of this number.
    fn token(&mut self, choice: usize, token: &TokenEvent) {
        if self.ratios.len() <= choice {
            self.ratios.resize(choice + 1, Vec::new());
        }
        self.ratios[choice].push(token.persistence);
    }

    /// The end of a choice; `new_prompt` where it is the first of its prompt.
    fn end(&mut self, completion: &Completion, new_prompt: bool) {
        if new_prompt {
            self.prompt_tokens += completion.prompt_tokens;
            self.cached_tokens += completion.cached_tokens;
        }
        self.completion_tokens += completion.tokens.len();
        self.persistence = completion.persistence;
    }

    /// The one completion's summary, or that of all tokens of several.
    fn persistence(&self, engine: &Engine, choices: usize) -> Option<PersistenceSummary> {
        if choices == 1 {
            return self.persistence;
        }
        engine.summary(&self.ratios.concat()).ok().flatten()
    }

    /// `usage` of the older protocols, with `persistence` (null when no token was made).
    fn document(&self, engine: &Engine, choices: usize) -> Value {
        json!({
            "prompt_tokens": self.prompt_tokens,
            "completion_tokens": self.completion_tokens,
            "total_tokens": self.prompt_tokens + self.completion_tokens,
            "prompt_tokens_details": {"cached_tokens": self.cached_tokens},
            "persistence": self.persistence(engine, choices),
        })
    }
}

fn finite(logprob: f64) -> f64 {
    logprob.max(LEAST_LOGPROB)
}

/// A token with its log-probability, and with its persistence.
fn token_logprob(tokenizer: &Tokenizer, token: &TokenEvent) -> Value {
    let entry = |id: u32, logprob: f64| json!({"token": tokenizer.spelling(id), "logprob": finite(logprob), "bytes": tokenizer.text_bytes(id)});
    let mut value = entry(token.token, -token.surprise_nats);
    value["top_logprobs"] = token
        .top
        .iter()
        .map(|(id, logprob)| entry(*id, *logprob))
        .collect();
    value["persistence"] = token.persistence.into();
    value["entropy_nats"] = token.entropy_nats.into();
    value
}

/// Says which weights and which program made an answer.
fn fingerprint(engine: &Engine) -> String {
    let (version, config) = (env!("CARGO_PKG_VERSION"), &engine.info().config);
    format!("aion-{version}-{}", config.n_parameters())
}
