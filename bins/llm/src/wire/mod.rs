//! The parts of OpenAI's protocol that several endpoints share. Fields that nobody here reads are accepted and ignored.

pub(crate) mod chat;
pub(crate) mod completions;
pub(crate) mod embeddings;
pub(crate) mod models;
pub(crate) mod responses;
pub(crate) mod score;

use std::hash::{BuildHasher, RandomState};

use aion_llm::{
    ChatMessage, Completion, FinishReason, GenerateRequest, OutputFormat, Prompt, Sampling, Tokenizer,
};
use aion_service::{Problem, parse_json};
use axum::body::Bytes;
use axum::extract::{FromRequest, Request};
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};
use utoipa::ToSchema;

use crate::error::{ApiError, ApiResult};
use crate::options::LlmOptions;

const MAX_TOP_LOGPROBS: usize = 20;

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
        Ok(Self(parse_json(&body)?))
    }
}

/// How tokens are chosen; the names are OpenAI's, `top_k` and `min_p` those of other servers.
#[derive(Debug, Clone, Default, Deserialize, Serialize, ToSchema)]
pub(crate) struct SamplingFields {
    /// 0 is greedy; the default is 1.
    #[schema(nullable = false)]
    temperature: Option<f64>,
    /// Above 0 and at most 1.
    #[schema(nullable = false)]
    top_p: Option<f64>,
    /// At least 1.
    #[schema(nullable = false)]
    top_k: Option<usize>,
    /// From 0 to 1.
    #[schema(nullable = false)]
    min_p: Option<f64>,
    /// The same seed gives the same text.
    #[schema(nullable = false)]
    seed: Option<i64>,
}

impl SamplingFields {
    fn sampling(&self) -> ApiResult<Sampling> {
        let seed = self
            .seed
            .map_or_else(|| RandomState::new().hash_one(0), i64::cast_unsigned);
        let mut sampling = Sampling::greedy()
            .with_seed(seed)
            .with_temperature(self.temperature.unwrap_or(1.0))?;
        if let Some(p) = self.top_p {
            sampling = sampling.with_top_p(p)?;
        }
        if let Some(k) = self.top_k.filter(|k| *k > 0) {
            sampling = sampling.with_top_k(k)?;
        }
        if let Some(p) = self.min_p {
            sampling = sampling.with_min_p(p)?;
        }
        Ok(sampling)
    }
}

/// One text or several.
#[derive(Debug, Clone, Deserialize, Serialize, ToSchema)]
#[serde(untagged)]
pub(crate) enum OneOrMany {
    /// One.
    One(String),
    /// Several.
    Many(Vec<String>),
}

impl OneOrMany {
    fn into_vec(self) -> Vec<String> {
        match self {
            Self::One(text) => vec![text],
            Self::Many(texts) => texts,
        }
    }
}

/// A number of requested results other than one is refused.
fn only_one(n: Option<u64>) -> ApiResult<()> {
    match n {
        None | Some(1) => Ok(()),
        Some(n) => {
            let detail = format!("this service makes one completion for a request, not {n}");
            Err(ApiError::bad_request("unsupported_value", detail, "/n"))
        }
    }
}

fn top_logprobs(k: usize) -> ApiResult<usize> {
    if k > MAX_TOP_LOGPROBS {
        let detail = format!("at most {MAX_TOP_LOGPROBS} alternatives are reported, not {k}");
        return Err(ApiError::bad_request("invalid_value", detail, "/top_logprobs"));
    }
    Ok(k)
}

/// What `response_format` (chat) or `text.format` (responses) asks for.
fn output_format(format: Option<&Value>, pointer: &str) -> ApiResult<OutputFormat> {
    let Some(format) = format.filter(|format| !format.is_null()) else {
        return Ok(OutputFormat::Text);
    };
    match format["type"].as_str() {
        Some("text") => Ok(OutputFormat::Text),
        Some("json_object") => Ok(OutputFormat::JsonObject),
        Some("json_schema") => {
            let schema = [&format["json_schema"]["schema"], &format["schema"]]
                .into_iter()
                .find(|s| !s.is_null());
            let missing = || ApiError::bad_request("invalid_schema", "the schema is missing", pointer);
            schema.cloned().map(OutputFormat::JsonSchema).ok_or_else(missing)
        }
        _ => Err(ApiError::bad_request(
            "invalid_value",
            "known types are text, json_object, json_schema",
            pointer,
        )),
    }
}

/// The text of a message's `content`: a string, nothing, or parts that are all text.
fn content_text(content: &Value, pointer: &str) -> ApiResult<String> {
    match content {
        Value::Null => Ok(String::new()),
        Value::String(text) => Ok(text.clone()),
        Value::Array(parts) => parts.iter().map(|part| part_text(part, pointer)).collect(),
        _ => Err(ApiError::bad_request(
            "invalid_body",
            "content is a text or a list of parts",
            pointer,
        )),
    }
}

fn part_text<'a>(part: &'a Value, pointer: &str) -> ApiResult<&'a str> {
    let kind = part["type"].as_str().unwrap_or("none");
    let text = part["text"]
        .as_str()
        .filter(|_| matches!(kind, "text" | "input_text" | "output_text"));
    text.ok_or_else(|| {
        let detail = format!("this model reads text only, not a part of type `{kind}`");
        ApiError::bad_request("unsupported_content", detail, pointer)
    })
}

/// A message of either protocol.
fn message(wire: &Value, pointer: &str) -> ApiResult<ChatMessage> {
    let Some(role) = wire["role"].as_str() else {
        return Err(ApiError::bad_request(
            "invalid_body",
            "a message has a role",
            pointer,
        ));
    };
    // Newer clients say `developer` where models know `system`.
    let role = if role == "developer" { "system" } else { role };
    let mut message = ChatMessage::new(
        role,
        content_text(&wire["content"], &format!("{pointer}/content"))?,
    );
    let extra = wire.as_object().into_iter().flatten().filter(|(key, value)| {
        !matches!(key.as_str(), "role" | "content" | "type" | "id" | "status") && !value.is_null()
    });
    message.extra = extra.map(|(key, value)| (key.clone(), value.clone())).collect();
    Ok(message)
}

fn request(
    prompt: Prompt,
    sampling: &SamplingFields,
    max_tokens: Option<usize>,
    options: LlmOptions,
) -> ApiResult<GenerateRequest> {
    let max_tokens = max_tokens.unwrap_or(options.default_max_tokens);
    Ok(GenerateRequest::new(prompt)
        .with_sampling(sampling.sampling()?)
        .with_max_tokens(max_tokens))
}

fn finish_reason(completion: &Completion) -> &'static str {
    match completion.finish {
        FinishReason::Length => "length",
        _ => "stop",
    }
}

/// `usage` with `persistence` (null when no token was made).
fn usage(completion: &Completion) -> Value {
    json!({
        "prompt_tokens": completion.prompt_tokens,
        "completion_tokens": completion.tokens.len(),
        "total_tokens": completion.prompt_tokens + completion.tokens.len(),
        "prompt_tokens_details": {"cached_tokens": completion.cached_tokens},
        "persistence": completion.persistence,
    })
}

/// A token with its log-probability as chat clients read it, and with its persistence.
fn token_logprob(tokenizer: &Tokenizer, token: &aion_llm::TokenEvent) -> Value {
    let entry = |id: u32, logprob: f64| json!({"token": tokenizer.spelling(id), "logprob": logprob, "bytes": tokenizer.text_bytes(id)});
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
