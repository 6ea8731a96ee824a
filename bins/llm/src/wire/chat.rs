//! `POST /v1/chat/completions`.

use aion_llm::{
    Completion, Engine, GenerateRequest, OutputFormat, Prompt, TokenEvent, ToolDelta, ToolFormat, ToolParser,
};
use axum::extract::State;
use axum::response::{IntoResponse, Response};
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};
use utoipa::ToSchema;

use super::fields::{OneOrMany, Rest, Rule, SamplingFields, choices, top_logprobs, wants_usage};
use super::format::{output_format, with_structured};
use super::messages::chat_messages;
use super::tools::{Dialect, Tools};
use super::{ApiJson, Usage, check_model, fingerprint, finish_reason, token_logprob};
use crate::choices::{Choices, Finished};
use crate::error::{ApiError, ApiResult, Names};
use crate::generate::{Step, new_id, unix_seconds};
use crate::options::LlmOptions;
use crate::service::Shared;
use crate::sse::{Encoder, Event, response};

/// What the engine's errors are about here.
const NAMES: Names = Names {
    prompt: "/messages",
    format: "/response_format",
    max_tokens: "/max_completion_tokens",
};

const RULES: &[(&str, Rule)] = &[
    ("metadata", Rule::NoEffect),
    ("prediction", Rule::NoEffect),
    ("store", Rule::Only(&["false"], "nothing is stored")),
    ("modalities", Rule::Only(&["[\"text\"]"], "the model writes text")),
    ("verbosity", Rule::Only(&["\"medium\""], "the model has one")),
    (
        "reasoning_effort",
        Rule::Only(&["\"none\""], "the model does not reason apart"),
    ),
    ("audio", Rule::Only(&[], "the model writes text")),
    ("web_search_options", Rule::Only(&[], "the model does not search")),
    ("functions", Rule::Only(&["[]"], "use `tools`")),
    ("function_call", Rule::Only(&[], "use `tool_choice`")),
    ("moderation", Rule::Only(&[], "there is none")),
];

/// A conversation to continue.
#[derive(Debug, Deserialize, Serialize, ToSchema)]
pub(crate) struct ChatRequest {
    /// The model's name; there is one, so that it may be left out.
    #[schema(nullable = false)]
    model: Option<String>,
    /// The messages, oldest first: objects with `role` and `content` (a text, or parts of type `text`).
    #[schema(value_type = Vec<Object>)]
    messages: Vec<Value>,
    #[serde(flatten)]
    sampling: SamplingFields,
    /// Most tokens of the reply.
    #[schema(nullable = false, minimum = 1)]
    max_tokens: Option<usize>,
    /// The newer name of `max_tokens`, which wins.
    #[schema(nullable = false, minimum = 1)]
    max_completion_tokens: Option<usize>,
    /// Texts that end the reply.
    #[schema(nullable = false)]
    stop: Option<OneOrMany>,
    /// `text`, `json_object`, or `json_schema` with a schema that the reply is made to match.
    #[schema(nullable = false, value_type = Option<Object>)]
    response_format: Option<Value>,
    /// Not of OpenAI's protocol: one of `json`, `json_object`, `regex`, `grammar` (Lark) and `choice`, as vLLM has it.
    #[schema(nullable = false, value_type = Option<Object>)]
    structured_outputs: Option<Value>,
    /// Functions that the model may call. A call that the model begins is made to match the function's parameters.
    #[schema(nullable = false, value_type = Option<Vec<Object>>)]
    tools: Option<Value>,
    /// `none`, `auto`, `required`, one function, or `allowed_tools`.
    #[schema(nullable = false, value_type = Option<Object>)]
    tool_choice: Option<Value>,
    /// Whether one reply may have several calls; true by default.
    #[schema(nullable = false)]
    parallel_tool_calls: Option<bool>,
    /// Report the log-probability and the persistence of each token.
    #[serde(default)]
    logprobs: Option<bool>,
    /// Report this many alternatives at each token, at most 20; needs `logprobs`.
    #[schema(nullable = false, maximum = 20)]
    top_logprobs: Option<usize>,
    /// Send the reply token by token.
    #[serde(default)]
    stream: Option<bool>,
    /// `include_usage`: a last chunk with `usage`.
    #[schema(nullable = false, value_type = Option<Object>)]
    stream_options: Option<Value>,
    /// How many replies.
    #[schema(nullable = false, minimum = 1)]
    n: Option<u64>,
    #[serde(flatten)]
    #[schema(ignore)]
    rest: Rest,
}

impl ChatRequest {
    fn wants_logprobs(&self) -> bool {
        self.logprobs == Some(true)
    }

    fn top_logprobs(&self) -> ApiResult<usize> {
        match self.top_logprobs.unwrap_or(0) {
            0 => Ok(0),
            k if self.wants_logprobs() => top_logprobs(k, "/top_logprobs"),
            _ => {
                let detail = "`top_logprobs` needs `logprobs`";
                Err(ApiError::bad_request("invalid_value", detail, "/top_logprobs"))
            }
        }
    }

    fn format(&self, tools: Option<&Tools>, form: ToolFormat) -> ApiResult<OutputFormat> {
        let text = output_format(self.response_format.as_ref(), "/response_format")?;
        let text = with_structured(text, self.structured_outputs.as_ref())?;
        match tools {
            Some(tools) => Ok(tools.set.output_format(form, &text)?),
            None => Ok(text),
        }
    }

    /// What to complete, and how often.
    fn request(
        &self,
        tools: Option<&Tools>,
        form: ToolFormat,
        options: &LlmOptions,
    ) -> ApiResult<(GenerateRequest, usize)> {
        let max_tokens = self.max_completion_tokens.or(self.max_tokens);
        let max_tokens = max_tokens.unwrap_or(options.default_max_tokens);
        let n = choices(self.n, 1, max_tokens, options)?;
        let prompt = Prompt::Chat {
            messages: chat_messages(&self.messages)?,
            tools: tools.map(|tools| tools.shown.clone()),
        };
        let request = self
            .sampling
            .request(prompt, max_tokens)?
            .with_stop(self.stop.clone().map(OneOrMany::into_vec).unwrap_or_default())
            .with_format(self.format(tools, form)?)
            .with_top_logprobs(self.top_logprobs()?)
            .with_client(self.rest.client());
        Ok((request, n))
    }

    fn names(&self, tools: Option<&Tools>) -> Names {
        let format = match (tools, &self.structured_outputs) {
            (Some(_), _) => "/tools",
            (None, Some(_)) => "/structured_outputs",
            (None, None) => NAMES.format,
        };
        let max_tokens = match self.max_completion_tokens {
            Some(_) => NAMES.max_tokens,
            None => "/max_tokens",
        };
        Names {
            format,
            max_tokens,
            ..NAMES
        }
    }
}

/// Continues a conversation.
///
/// `usage.persistence` says how surprising the reply was to the model. With `stream` the reply comes as
/// server-sent events, ended by `data: [DONE]`.
#[utoipa::path(
    post, path = "/v1/chat/completions", operation_id = "chat_completions", tag = "llm",
    request_body = ChatRequest,
    responses(
        (status = 200, description = "The reply, or its stream", body = Object),
        (status = 400, description = "The request asks for what cannot be done", body = aion_service::Problem, content_type = "application/problem+json"),
        (status = 404, description = "Another model", body = aion_service::Problem, content_type = "application/problem+json"),
        (status = 429, description = "Too many requests wait", body = aion_service::Problem, content_type = "application/problem+json"),
        (status = 503, description = "The model is not there yet", body = aion_service::Problem, content_type = "application/problem+json"),
    ),
)]
pub(crate) async fn chat_completions(
    State(shared): State<Shared>,
    ApiJson(chat): ApiJson<ChatRequest>,
) -> ApiResult<Response> {
    let engine = shared.model.engine()?.clone();
    check_model(chat.model.as_deref(), &engine)?;
    chat.rest.check(RULES)?;
    let with_usage = wants_usage(chat.stream_options.as_ref())?;
    let tools = Dialect::Chat.read(
        chat.tools.as_ref(),
        chat.tool_choice.as_ref(),
        chat.parallel_tool_calls,
    )?;
    let names = chat.names(tools.as_ref());
    let form = engine.tool_format();
    let request = chat.request(tools.as_ref(), form, &shared.options);
    let (request, n) = request.map_err(|error| error.named(&names))?;
    let running = Choices::start(&shared.model, vec![request], n).await;
    let running = running.map_err(|error| error.named(&names))?;
    let reply = Reply {
        id: new_id("chatcmpl"),
        created: unix_seconds(),
        logprobs: chat.wants_logprobs(),
        parser: tools.map(|tools| tools.set.parser(form)),
        engine,
    };
    if chat.stream == Some(true) {
        let running = running.begun().await.map_err(|error| error.named(&names))?;
        return Ok(response(running, ChatEncoder::new(reply, with_usage)));
    }
    let finished = running.finish().await.map_err(|error| error.named(&names))?;
    Ok(axum::Json(reply.whole(&finished)).into_response())
}

/// What all parts of one reply have in common.
struct Reply {
    engine: Engine,
    id: String,
    created: i64,
    logprobs: bool,
    parser: Option<ToolParser>,
}

impl Reply {
    fn envelope(&self, object: &str, choices: &Value) -> Value {
        json!({
            "id": self.id, "object": object, "created": self.created, "model": self.engine.info().name,
            "system_fingerprint": fingerprint(&self.engine), "service_tier": "default", "choices": choices,
        })
    }

    fn logprobs(&self, tokens: &[TokenEvent]) -> Value {
        if !self.logprobs {
            return Value::Null;
        }
        let tokenizer = self.engine.tokenizer();
        let content: Vec<_> = tokens
            .iter()
            .map(|token| token_logprob(tokenizer, token))
            .collect();
        json!({"content": content, "refusal": null})
    }

    fn whole(&self, finished: &[Finished]) -> Value {
        let mut usage = Usage::default();
        let mut choices = Vec::with_capacity(finished.len());
        for (index, Finished { tokens, completion }) in finished.iter().enumerate() {
            tokens.iter().for_each(|token| usage.token(index, token));
            usage.end(completion, index == 0);
            choices.push(self.choice(index, tokens, completion));
        }
        let mut whole = self.envelope("chat.completion", &choices.into());
        whole["usage"] = usage.document(&self.engine, finished.len());
        whole
    }

    fn choice(&self, index: usize, tokens: &[TokenEvent], completion: &Completion) -> Value {
        let (text, calls) = self.parts(&completion.text);
        let finish = finish(completion, !calls.is_empty());
        let content = if text.is_empty() && !calls.is_empty() {
            Value::Null
        } else {
            text.into()
        };
        let mut message = json!({"role": "assistant", "content": content, "refusal": null});
        if !calls.is_empty() {
            message["tool_calls"] = calls.into();
        }
        json!({
            "index": index, "message": message, "logprobs": self.logprobs(tokens), "finish_reason": finish,
            "persistence": completion.persistence,
        })
    }

    /// The text and the calls of a whole reply.
    fn parts(&self, text: &str) -> (String, Vec<Value>) {
        let Some(parser) = &self.parser else {
            return (text.to_owned(), Vec::new());
        };
        let mut parser = parser.clone();
        let deltas = parser.push(text);
        let (mut text, mut calls) = (String::new(), Vec::new());
        for delta in deltas.into_iter().chain(parser.finish()) {
            match delta {
                ToolDelta::Text(more) => text += &more,
                ToolDelta::Call { name, .. } => calls.push((name, String::new())),
                ToolDelta::Arguments(more) => calls
                    .last_mut()
                    .into_iter()
                    .for_each(|(_, text)| text.push_str(&more)),
                ToolDelta::End => {}
            }
        }
        let call = |(name, arguments): (String, String)| {
            json!({"id": new_id("call"), "type": "function",
            "function": {"name": name, "arguments": arguments}})
        };
        (text, calls.into_iter().map(call).collect())
    }
}

/// A reply with calls ends with them, unless it was cut off.
fn finish(completion: &Completion, called: bool) -> &'static str {
    match finish_reason(completion) {
        "stop" if called => "tool_calls",
        reason => reason,
    }
}

/// Chunks of streamed replies.
struct ChatEncoder {
    reply: Reply,
    with_usage: bool,
    usage: Usage,
    /// One for each choice.
    parsers: Vec<Option<ToolParser>>,
}

impl ChatEncoder {
    fn new(reply: Reply, with_usage: bool) -> Self {
        Self {
            reply,
            with_usage,
            usage: Usage::default(),
            parsers: Vec::new(),
        }
    }

    fn chunk(&self, index: usize, delta: &Value, logprobs: &Value, finish: &Value) -> Event {
        let choice = json!({"index": index, "delta": delta, "logprobs": logprobs, "finish_reason": finish});
        let mut chunk = self.reply.envelope("chat.completion.chunk", &json!([choice]));
        if self.with_usage {
            chunk["usage"] = Value::Null;
        }
        Event::data(&chunk)
    }

    /// The chunks of some text; the first has the log-probabilities.
    fn text(&mut self, index: usize, text: &str, mut logprobs: Value) -> Vec<Event> {
        let deltas = match &mut self.parsers[index] {
            Some(parser) => deltas(parser, text),
            None if text.is_empty() => Vec::new(),
            None => vec![json!({ "content": text })],
        };
        let deltas = if deltas.is_empty() && !logprobs.is_null() {
            vec![json!({ "content": "" })]
        } else {
            deltas
        };
        let chunks = deltas
            .iter()
            .map(|delta| self.chunk(index, delta, &logprobs.take(), &Value::Null));
        chunks.collect()
    }

    fn done(&mut self, index: usize, completion: &Completion) -> Vec<Event> {
        self.usage.end(completion, index == 0);
        let (left, called) = match &mut self.parsers[index] {
            Some(parser) => (parser.finish(), parser.calls() > 0),
            None => (Vec::new(), false),
        };
        let deltas: Vec<Value> = left.into_iter().filter_map(|left| delta(left, 0)).collect();
        let mut events: Vec<Event> = deltas
            .iter()
            .map(|delta| self.chunk(index, delta, &Value::Null, &Value::Null))
            .collect();
        let finish = finish(completion, called).into();
        events.push(self.chunk(index, &json!({}), &Value::Null, &finish));
        events
    }
}

/// More text of a reply with calls.
fn deltas(parser: &mut ToolParser, text: &str) -> Vec<Value> {
    let mut calls = parser.calls();
    let mut deltas = Vec::new();
    for part in parser.push(text) {
        calls += usize::from(matches!(part, ToolDelta::Call { .. }));
        deltas.extend(delta(part, calls));
    }
    deltas
}

/// A part of a reply as `delta`, after so many calls have begun.
fn delta(delta: ToolDelta, calls: usize) -> Option<Value> {
    match delta {
        ToolDelta::Text(text) => Some(json!({ "content": text })),
        ToolDelta::Call { index, name } => Some(json!({"tool_calls": [{"index": index, "id": new_id("call"),
            "type": "function", "function": {"name": name, "arguments": ""}}]})),
        ToolDelta::Arguments(text) => {
            Some(json!({"tool_calls": [{"index": calls.saturating_sub(1), "function": {"arguments": text}}]}))
        }
        ToolDelta::End => None,
    }
}

impl Encoder for ChatEncoder {
    fn begin(&mut self, choices: usize) -> Vec<Event> {
        self.parsers = vec![self.reply.parser.clone(); choices];
        let role = json!({"role": "assistant", "content": "", "refusal": null});
        (0..choices)
            .map(|index| self.chunk(index, &role, &Value::Null, &Value::Null))
            .collect()
    }

    fn step(&mut self, choice: usize, step: Step) -> Vec<Event> {
        match step {
            Step::Begun => Vec::new(),
            Step::Token(token) => {
                self.usage.token(choice, &token);
                let logprobs = self.reply.logprobs(std::slice::from_ref(&token));
                self.text(choice, &token.text, logprobs)
            }
            Step::Tail(text) => self.text(choice, &text, Value::Null),
            Step::Done(completion) => self.done(choice, &completion),
            Step::Failed(error) => vec![Event::data(&error.document()), Event::done()],
        }
    }

    fn end(&mut self) -> Vec<Event> {
        let mut events = Vec::new();
        if self.with_usage {
            let mut last = self.reply.envelope("chat.completion.chunk", &json!([]));
            last["usage"] = self.usage.document(&self.reply.engine, self.parsers.len());
            events.push(Event::data(&last));
        }
        events.push(Event::done());
        events
    }
}
