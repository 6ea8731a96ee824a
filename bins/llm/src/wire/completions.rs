//! `POST /v1/completions`: the older protocol, a text in and a text out.

use aion_llm::{Completion, Engine, GenerateRequest, Prompt, TokenEvent};
use axum::extract::State;
use axum::response::{IntoResponse, Response};
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};
use utoipa::ToSchema;

use super::{ApiJson, OneOrMany, SamplingFields, finish_reason, only_one, request, top_logprobs, usage};
use crate::error::{ApiError, ApiResult};
use crate::generate::{Step, new_id, start, unix_seconds};
use crate::options::LlmOptions;
use crate::service::Shared;
use crate::sse::{Encoder, Event, response};

/// A text to continue.
#[derive(Debug, Deserialize, Serialize, ToSchema)]
pub(crate) struct CompletionRequest {
    /// Any name: this service has one model.
    #[schema(nullable = false)]
    model: Option<String>,
    /// A text, or token ids.
    #[schema(value_type = Object)]
    prompt: Value,
    #[serde(flatten)]
    sampling: SamplingFields,
    /// Most tokens of the completion; 16 by the protocol's default.
    #[schema(nullable = false)]
    max_tokens: Option<usize>,
    /// Texts that end the completion.
    #[schema(nullable = false)]
    stop: Option<OneOrMany>,
    /// Report the log-probability of each token, with this many alternatives, at most 20.
    #[schema(nullable = false)]
    logprobs: Option<usize>,
    /// Send the completion token by token.
    #[serde(default)]
    stream: Option<bool>,
    /// `include_usage`: a last chunk with `usage`.
    #[schema(nullable = false, value_type = Option<Object>)]
    stream_options: Option<Value>,
    /// Only 1.
    #[schema(nullable = false)]
    n: Option<u64>,
    /// Not supported.
    #[serde(default)]
    echo: Option<bool>,
}

const DEFAULT_MAX_TOKENS: usize = 16;

impl CompletionRequest {
    fn to_request(&self, options: LlmOptions) -> ApiResult<GenerateRequest> {
        only_one(self.n)?;
        if self.echo == Some(true) {
            return Err(ApiError::bad_request(
                "unsupported_value",
                "use POST /v1/score instead of echo",
                "/echo",
            ));
        }
        let stop = self.stop.clone().map(OneOrMany::into_vec).unwrap_or_default();
        let max_tokens = Some(self.max_tokens.unwrap_or(DEFAULT_MAX_TOKENS));
        let request = request(prompt(&self.prompt)?, &self.sampling, max_tokens, options)?;
        Ok(request
            .with_stop(stop)
            .with_top_logprobs(top_logprobs(self.logprobs.unwrap_or(0))?))
    }
}

fn prompt(wire: &Value) -> ApiResult<Prompt> {
    let refuse = || {
        ApiError::bad_request(
            "invalid_body",
            "a prompt is one text, or a list of token ids",
            "/prompt",
        )
    };
    match wire {
        Value::String(text) => Ok(Prompt::Text(text.clone())),
        Value::Array(items) => match items.as_slice() {
            [Value::String(text)] => Ok(Prompt::Text(text.clone())),
            ids => {
                let id = |id: &Value| id.as_u64().and_then(|id| u32::try_from(id).ok());
                ids.iter()
                    .map(id)
                    .collect::<Option<_>>()
                    .map(Prompt::Tokens)
                    .ok_or_else(refuse)
            }
        },
        _ => Err(refuse()),
    }
}

/// Continues a text.
#[utoipa::path(
    post, path = "/v1/completions", operation_id = "completions", tag = "llm",
    request_body = CompletionRequest,
    responses(
        (status = 200, description = "The completion, or its stream", body = Object),
        (status = 400, description = "The request asks for what cannot be done", body = aion_service::Problem),
        (status = 429, description = "Too many requests wait", body = aion_service::Problem),
        (status = 503, description = "The model is not there yet", body = aion_service::Problem),
    ),
)]
pub(crate) async fn completions(
    State(shared): State<Shared>,
    ApiJson(wire): ApiJson<CompletionRequest>,
) -> ApiResult<Response> {
    let engine = shared.model.engine()?.clone();
    let running = start(&shared.model, wire.to_request(shared.options)?)?;
    let reply = Reply {
        engine,
        id: new_id("cmpl"),
        created: unix_seconds(),
        logprobs: wire.logprobs.is_some(),
        usage: wire
            .stream_options
            .as_ref()
            .is_some_and(|options| options["include_usage"] == true),
    };
    if wire.stream == Some(true) {
        return Ok(response(running.begun().await?, reply));
    }
    let (tokens, completion) = running.finish().await?;
    let mut whole = reply.chunk(&completion.text, &tokens, &finish_reason(&completion).into());
    whole["usage"] = usage(&completion);
    Ok(axum::Json(whole).into_response())
}

struct Reply {
    engine: Engine,
    id: String,
    created: i64,
    logprobs: bool,
    usage: bool,
}

impl Reply {
    fn envelope(&self, choices: &Value) -> Value {
        json!({
            "id": self.id, "object": "text_completion", "created": self.created,
            "model": self.engine.info().name, "choices": choices,
        })
    }

    fn chunk(&self, text: &str, tokens: &[TokenEvent], finish: &Value) -> Value {
        let choice =
            json!({"index": 0, "text": text, "logprobs": self.logprobs(tokens), "finish_reason": finish});
        self.envelope(&json!([choice]))
    }

    fn logprobs(&self, tokens: &[TokenEvent]) -> Value {
        if !self.logprobs {
            return Value::Null;
        }
        let tokenizer = self.engine.tokenizer();
        let top = |token: &TokenEvent| -> Value {
            let entries = token
                .top
                .iter()
                .map(|(id, logprob)| (tokenizer.spelling(*id), (*logprob).into()));
            Value::Object(entries.collect())
        };
        json!({
            "tokens": tokens.iter().map(|token| tokenizer.spelling(token.token)).collect::<Vec<_>>(),
            "token_logprobs": tokens.iter().map(|token| -token.surprise_nats).collect::<Vec<_>>(),
            "top_logprobs": tokens.iter().map(top).collect::<Vec<_>>(),
            "persistence": tokens.iter().map(|token| token.persistence).collect::<Vec<_>>(),
        })
    }

    fn done(&self, completion: &Completion) -> Vec<Event> {
        let last = self.chunk("", &[], &finish_reason(completion).into());
        let mut events = vec![Event::data(&last)];
        if self.usage {
            let mut chunk = self.envelope(&json!([]));
            chunk["usage"] = usage(completion);
            events.push(Event::data(&chunk));
        }
        events.push(Event::done());
        events
    }
}

impl Encoder for Reply {
    fn begin(&mut self) -> Vec<Event> {
        Vec::new()
    }

    fn step(&mut self, step: Step) -> Vec<Event> {
        match step {
            Step::Begun => Vec::new(),
            Step::Token(token) if token.text.is_empty() && !self.logprobs => Vec::new(),
            Step::Token(token) => {
                vec![Event::data(&self.chunk(
                    &token.text,
                    std::slice::from_ref(&token),
                    &Value::Null,
                ))]
            }
            Step::Tail(text) => vec![Event::data(&self.chunk(&text, &[], &Value::Null))],
            Step::Done(completion) => self.done(&completion),
            Step::Failed(error) => vec![Event::data(&error.document()), Event::done()],
        }
    }
}
