//! `POST /v1/completions`: the older protocol, texts in and texts out.

use aion_llm::{Engine, GenerateRequest, OutputFormat, Prompt, TokenEvent, TokenScore};
use axum::extract::State;
use axum::response::{IntoResponse, Response};
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};
use utoipa::ToSchema;

use super::fields::{OneOrMany, Rest, Rule, SamplingFields, choices, top_logprobs, wants_usage};
use super::format::with_structured;
use super::{ApiJson, Usage, check_model, fingerprint, finish_reason, finite};
use crate::choices::{Choices, Finished};
use crate::error::{ApiError, ApiResult, Names};
use crate::generate::{Step, new_id, unix_seconds};
use crate::options::LlmOptions;
use crate::service::Shared;
use crate::sse::{Encoder, Event, response};

/// What the engine's errors are about here.
const NAMES: Names = Names {
    prompt: "/prompt",
    format: "/structured_outputs",
    max_tokens: "/max_tokens",
};

const RULES: &[(&str, Rule)] = &[(
    "suffix",
    Rule::Only(&["\"\""], "the model does not fill in the middle"),
)];

const DEFAULT_MAX_TOKENS: usize = 16;

/// A text to continue.
#[derive(Debug, Deserialize, Serialize, ToSchema)]
pub(crate) struct CompletionRequest {
    /// The model's name; there is one, so that it may be left out.
    #[schema(nullable = false)]
    model: Option<String>,
    /// A text, a list of texts, a list of token ids, or a list of such lists.
    #[schema(value_type = Object)]
    prompt: Value,
    #[serde(flatten)]
    sampling: SamplingFields,
    /// Most tokens of the completion; 16 by the protocol's default. 0 only with `echo`.
    #[schema(nullable = false)]
    max_tokens: Option<usize>,
    /// Texts that end the completion.
    #[schema(nullable = false)]
    stop: Option<OneOrMany>,
    /// Report the log-probability of each token, with this many alternatives, at most 20.
    #[schema(nullable = false, maximum = 20)]
    logprobs: Option<usize>,
    /// Put the prompt before the completion, with its log-probabilities if they are asked for.
    #[serde(default)]
    echo: Option<bool>,
    /// Not of OpenAI's protocol: one of `json`, `json_object`, `regex`, `grammar` (Lark) and `choice`, as vLLM has it.
    #[schema(nullable = false, value_type = Option<Object>)]
    structured_outputs: Option<Value>,
    /// Send the completion token by token.
    #[serde(default)]
    stream: Option<bool>,
    /// `include_usage`: a last chunk with `usage`.
    #[schema(nullable = false, value_type = Option<Object>)]
    stream_options: Option<Value>,
    /// How many completions of each prompt.
    #[schema(nullable = false, minimum = 1)]
    n: Option<u64>,
    /// As many as `n`: none is made only to be dropped.
    #[schema(nullable = false)]
    best_of: Option<u64>,
    #[serde(flatten)]
    #[schema(ignore)]
    rest: Rest,
}

impl CompletionRequest {
    fn max_tokens(&self) -> usize {
        self.max_tokens.unwrap_or(DEFAULT_MAX_TOKENS)
    }

    fn echoes(&self) -> bool {
        self.echo == Some(true)
    }

    fn check(&self) -> ApiResult<()> {
        self.rest.check(RULES)?;
        if self.best_of.is_some_and(|best| best != self.n.unwrap_or(1)) {
            let detail = "`best_of` is `n` here";
            return Err(ApiError::bad_request("unsupported_parameter", detail, "/best_of"));
        }
        if self.max_tokens() == 0 && !self.echoes() {
            let detail = "no tokens can be asked for only with `echo`";
            return Err(ApiError::bad_request("invalid_value", detail, "/max_tokens"));
        }
        Ok(())
    }

    /// One request for each prompt, and how often to complete it.
    fn requests(&self, prompts: &[Prompt], options: &LlmOptions) -> ApiResult<(Vec<GenerateRequest>, usize)> {
        let n = choices(self.n, prompts.len(), self.max_tokens(), options)?;
        let format = with_structured(OutputFormat::Text, self.structured_outputs.as_ref())?;
        let top = top_logprobs(self.logprobs.unwrap_or(0), "/logprobs")?;
        let mut requests = Vec::with_capacity(prompts.len());
        for prompt in prompts {
            let request = self.sampling.request(prompt.clone(), self.max_tokens().max(1))?;
            let request = request
                .with_stop(self.stop.clone().map(OneOrMany::into_vec).unwrap_or_default())
                .with_format(format.clone())
                .with_top_logprobs(top)
                .with_client(self.rest.client());
            requests.push(request);
        }
        Ok((requests, n))
    }
}

fn prompts(wire: &Value) -> ApiResult<Vec<Prompt>> {
    let refuse = || {
        let detail = "a prompt is a text or a list of token ids, and there may be a list of them";
        ApiError::bad_request("invalid_body", detail, "/prompt")
    };
    let many = |items: &[Value]| items.first().is_some_and(|first| !first.is_u64());
    match wire {
        Value::Array(items) if many(items) => {
            items.iter().map(|item| prompt(item).ok_or_else(refuse)).collect()
        }
        one => Ok(vec![prompt(one).ok_or_else(refuse)?]),
    }
}

fn prompt(wire: &Value) -> Option<Prompt> {
    match wire {
        Value::String(text) => Some(Prompt::Text(text.clone())),
        Value::Array(ids) => {
            let id = |id: &Value| id.as_u64().and_then(|id| u32::try_from(id).ok());
            ids.iter().map(id).collect::<Option<_>>().map(Prompt::Tokens)
        }
        _ => None,
    }
}

/// Continues texts.
#[utoipa::path(
    post, path = "/v1/completions", operation_id = "completions", tag = "llm",
    request_body = CompletionRequest,
    responses(
        (status = 200, description = "The completion, or its stream", body = Object),
        (status = 400, description = "The request asks for what cannot be done", body = aion_service::Problem, content_type = "application/problem+json"),
        (status = 404, description = "Another model", body = aion_service::Problem, content_type = "application/problem+json"),
        (status = 429, description = "Too many requests wait", body = aion_service::Problem, content_type = "application/problem+json"),
        (status = 503, description = "The model is not there yet", body = aion_service::Problem, content_type = "application/problem+json"),
    ),
)]
pub(crate) async fn completions(
    State(shared): State<Shared>,
    ApiJson(wire): ApiJson<CompletionRequest>,
) -> ApiResult<Response> {
    let engine = shared.model.engine()?.clone();
    check_model(wire.model.as_deref(), &engine)?;
    wire.check()?;
    let with_usage = wants_usage(wire.stream_options.as_ref())?;
    let prompts = prompts(&wire.prompt)?;
    let (requests, n) = wire
        .requests(&prompts, &shared.options)
        .map_err(|error| error.named(&NAMES))?;
    let echoes = echoes(&shared, &wire, &prompts)
        .await
        .map_err(|error| error.named(&NAMES))?;
    let mut reply = Reply {
        id: new_id("cmpl"),
        created: unix_seconds(),
        logprobs: wire.logprobs.is_some(),
        with_usage: with_usage && wire.stream == Some(true),
        n,
        usage: Usage::default(),
        choices: n * prompts.len(),
        offsets: vec![0; n * prompts.len()],
        echoes,
        engine,
    };
    let wanted = if wire.max_tokens() == 0 {
        Vec::new()
    } else {
        requests
    };
    let running = Choices::start(&shared.model, wanted, n).await;
    let running = running.map_err(|error| error.named(&NAMES))?;
    if wire.stream == Some(true) {
        return Ok(response(
            running.begun().await.map_err(|error| error.named(&NAMES))?,
            reply,
        ));
    }
    let finished = running.finish().await.map_err(|error| error.named(&NAMES))?;
    Ok(axum::Json(reply.whole(&finished)).into_response())
}

/// A prompt as it is shown before its completions.
struct Echo {
    text: String,
    tokens: Vec<u32>,
    /// Of all tokens but the first, if log-probabilities are wanted.
    scores: Vec<TokenScore>,
}

async fn echoes(shared: &Shared, wire: &CompletionRequest, prompts: &[Prompt]) -> ApiResult<Vec<Echo>> {
    if !wire.echoes() {
        return Ok(Vec::new());
    }
    let prompts = prompts.to_vec();
    let read = move |engine: &Engine| prompts.iter().map(|prompt| read(engine, prompt)).collect();
    let mut echoes: Vec<Echo> = shared.model.call(read).await?;
    if let Some(top) = wire.logprobs {
        for echo in &mut echoes {
            let tokens = echo.tokens.clone();
            // Whoever goes away drops the ticket, and that ends it.
            let start = move |engine: &Engine| engine.start_score(&tokens, top);
            echo.scores = shared.model.ask(start).await?;
        }
    }
    Ok(echoes)
}

/// A prompt as its tokens read.
fn read(engine: &Engine, prompt: &Prompt) -> ApiResult<Echo> {
    let tokens = engine.prompt_tokens(prompt)?;
    let text = match prompt {
        Prompt::Text(text) => text.clone(),
        _ => engine.tokenizer().decode(&tokens),
    };
    Ok(Echo {
        text,
        tokens,
        scores: Vec::new(),
    })
}

struct Reply {
    engine: Engine,
    id: String,
    created: i64,
    logprobs: bool,
    with_usage: bool,
    /// Completions of each prompt.
    n: usize,
    choices: usize,
    usage: Usage,
    /// Characters that each choice has shown.
    offsets: Vec<usize>,
    /// One for each prompt, or none at all.
    echoes: Vec<Echo>,
}

impl Reply {
    fn envelope(&self, choices: &Value) -> Value {
        json!({
            "id": self.id, "object": "text_completion", "created": self.created, "choices": choices,
            "model": self.engine.info().name, "system_fingerprint": fingerprint(&self.engine),
        })
    }

    fn echo(&self, index: usize) -> Option<&Echo> {
        self.echoes.get(index / self.n.max(1))
    }

    fn whole(&mut self, finished: &[Finished]) -> Value {
        let choices: Vec<Value> = (0..self.choices)
            .map(|index| {
                let echoed = self.echoed(index);
                let Some(Finished { tokens, completion }) = finished.get(index) else {
                    return Self::choice(index, &echoed.0, &echoed.1, &"length".into());
                };
                tokens.iter().for_each(|token| self.usage.token(index, token));
                self.usage.end(completion, index.is_multiple_of(self.n));
                let logprobs = joined(echoed.1, self.token_logprobs(index, tokens));
                let text = format!("{}{}", echoed.0, completion.text);
                let mut choice = Self::choice(index, &text, &logprobs, &finish_reason(completion).into());
                choice["persistence"] = json!(completion.persistence);
                choice
            })
            .collect();
        let mut whole = self.envelope(&choices.into());
        whole["usage"] = self.document(finished.is_empty());
        whole
    }

    /// `usage`; a request for no tokens has the prompts' alone.
    fn document(&self, only_echoed: bool) -> Value {
        let mut usage = self.usage.clone();
        if only_echoed {
            usage.prompt_tokens = self.echoes.iter().map(|echo| echo.tokens.len()).sum();
        }
        usage.document(&self.engine, self.choices)
    }

    fn choice(index: usize, text: &str, logprobs: &Value, finish: &Value) -> Value {
        json!({"index": index, "text": text, "logprobs": logprobs, "finish_reason": finish})
    }

    fn chunk(&self, choice: &Value) -> Event {
        Event::data(&self.envelope(&json!([choice])))
    }

    /// The prompt before a completion, with its log-probabilities: the first token has none.
    fn echoed(&mut self, index: usize) -> (String, Value) {
        let Some(echo) = self.echo(index) else {
            return (String::new(), Value::Null);
        };
        let text = echo.text.clone();
        if !self.logprobs {
            return (text, Value::Null);
        }
        let first = echo.tokens.first().map(|id| (*id, None));
        let rest = echo.scores.iter().map(|score| {
            (
                score.token,
                Some((score.surprise_nats, &score.top, score.persistence)),
            )
        });
        let entries: Vec<_> = first.into_iter().chain(rest).collect();
        let (logprobs, end) = self.logprob_lists(&entries, 0);
        self.offsets[index] = end;
        (text, logprobs)
    }

    fn token_logprobs(&mut self, index: usize, tokens: &[TokenEvent]) -> Value {
        if !self.logprobs {
            return Value::Null;
        }
        let entry = |token: &'_ TokenEvent| (token.token, token.surprise_nats, token.persistence);
        let entries: Vec<_> = tokens
            .iter()
            .map(|token| {
                let (id, surprise, persistence) = entry(token);
                (id, Some((surprise, &token.top, persistence)))
            })
            .collect();
        let (logprobs, end) = self.logprob_lists(&entries, self.offsets[index]);
        self.offsets[index] = end;
        logprobs
    }

    /// Lists of the tokens from `offset` on, and the offset after them, in characters.
    fn logprob_lists(&self, entries: &[Entry<'_>], mut offset: usize) -> (Value, usize) {
        let tokenizer = self.engine.tokenizer();
        let mut lists: [Vec<Value>; 5] = Default::default();
        for (id, known) in entries {
            let spelling = tokenizer.spelling(*id);
            let top = known.map(|(_, top, _)| {
                let entries = top
                    .iter()
                    .map(|(id, logprob)| (tokenizer.spelling(*id), finite(*logprob).into()));
                Value::Object(entries.collect())
            });
            let length = spelling.chars().count();
            let values: [Value; 5] = [
                spelling.into(),
                known.map(|(surprise, ..)| finite(-surprise)).into(),
                top.into(),
                offset.into(),
                known.map(|(_, _, persistence)| persistence).into(),
            ];
            lists
                .iter_mut()
                .zip(values)
                .for_each(|(list, value)| list.push(value));
            offset += length;
        }
        let [tokens, logprobs, top, offsets, persistence] = lists;
        let lists = json!({"tokens": tokens, "token_logprobs": logprobs, "top_logprobs": top, "text_offset": offsets,
            "persistence": persistence});
        (lists, offset)
    }
}

/// A token with its surprise, alternatives and persistence; the first of a text has none.
type Entry<'a> = (u32, Option<(f64, &'a Vec<(u32, f64)>, f64)>);

/// The lists of both, one after the other.
fn joined(first: Value, second: Value) -> Value {
    let (Value::Object(mut first), Value::Object(second)) = (first.clone(), second.clone()) else {
        return if first.is_null() { second } else { first };
    };
    for (key, more) in second {
        if let (Some(Value::Array(list)), Value::Array(more)) = (first.get_mut(&key), more) {
            list.extend(more);
        }
    }
    Value::Object(first)
}

impl Encoder for Reply {
    fn begin(&mut self, _choices: usize) -> Vec<Event> {
        let mut events = Vec::new();
        for index in 0..self.choices {
            let (text, logprobs) = self.echoed(index);
            if !text.is_empty() {
                events.push(self.chunk(&Self::choice(index, &text, &logprobs, &Value::Null)));
            }
        }
        events
    }

    fn step(&mut self, index: usize, step: Step) -> Vec<Event> {
        match step {
            Step::Begun => Vec::new(),
            Step::Token(token) => {
                self.usage.token(index, &token);
                if token.text.is_empty() && !self.logprobs {
                    return Vec::new();
                }
                let logprobs = self.token_logprobs(index, std::slice::from_ref(&token));
                vec![self.chunk(&Self::choice(index, &token.text, &logprobs, &Value::Null))]
            }
            Step::Tail(text) => vec![self.chunk(&Self::choice(index, &text, &Value::Null, &Value::Null))],
            Step::Done(completion) => {
                self.usage.end(&completion, index.is_multiple_of(self.n));
                let finish = finish_reason(&completion).into();
                vec![self.chunk(&Self::choice(index, "", &Value::Null, &finish))]
            }
            Step::Failed(error) => vec![Event::data(&error.document()), Event::done()],
        }
    }

    fn end(&mut self) -> Vec<Event> {
        let mut events = Vec::new();
        let only_echoed = self.usage.prompt_tokens == 0;
        if only_echoed {
            let ends = (0..self.choices)
                .map(|index| self.chunk(&Self::choice(index, "", &Value::Null, &"length".into())));
            events.extend(ends);
        }
        if self.with_usage {
            let mut chunk = self.envelope(&json!([]));
            chunk["usage"] = self.document(only_echoed);
            events.push(Event::data(&chunk));
        }
        events.push(Event::done());
        events
    }
}
