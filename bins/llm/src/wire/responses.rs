//! `POST /v1/responses`: the newer protocol, with named events. Nothing is stored: `previous_response_id` is refused.

use aion_llm::{
    Completion, Engine, FinishReason, GenerateRequest, OutputFormat, Prompt, TokenEvent, ToolDelta,
    ToolFormat, ToolParser,
};
use axum::extract::State;
use axum::response::{IntoResponse, Response};
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};
use utoipa::ToSchema;

use super::fields::{Rest, Rule, SamplingFields, choices, top_logprobs, wants_usage};
use super::format::{output_format, with_structured};
use super::messages::response_messages;
use super::tools::{Dialect, Tools};
use super::{ApiJson, check_model, token_logprob};
use crate::choices::{Choices, Finished};
use crate::error::{ApiError, ApiResult, Names, shown};
use crate::generate::{Step, new_id, unix_seconds};
use crate::options::LlmOptions;
use crate::service::Shared;
use crate::sse::{Encoder, Event, response};

/// What the engine's errors are about here.
const NAMES: Names = Names {
    prompt: "/input",
    format: "/text/format",
    max_tokens: "/max_output_tokens",
};

const RULES: &[(&str, Rule)] = &[
    ("metadata", Rule::NoEffect),
    ("max_tool_calls", Rule::NoEffect),
    ("store", Rule::Only(&["false"], "nothing is stored")),
    (
        "previous_response_id",
        Rule::Only(&[], "nothing is stored; send the whole conversation as input"),
    ),
    (
        "conversation",
        Rule::Only(&[], "nothing is stored; send the whole conversation as input"),
    ),
    ("prompt", Rule::Only(&[], "there are no stored prompts")),
    ("background", Rule::Only(&["false"], "nothing is stored")),
    (
        "truncation",
        Rule::Only(&["\"disabled\""], "a conversation is never shortened"),
    ),
    (
        "context_management",
        Rule::Only(&["[]"], "a conversation is never shortened"),
    ),
    (
        "reasoning",
        Rule::Only(&["{}"], "the model does not reason apart"),
    ),
    ("moderation", Rule::Only(&[], "there is none")),
];

/// Log-probabilities are asked for by this name in `include`.
const LOGPROBS: &str = "message.output_text.logprobs";

/// A conversation to continue.
#[derive(Debug, Deserialize, Serialize, ToSchema)]
pub(crate) struct ResponseRequest {
    /// The model's name; there is one, so that it may be left out.
    #[schema(nullable = false)]
    model: Option<String>,
    /// A text, or items: messages, calls of functions and their outputs.
    #[schema(value_type = Object)]
    input: Value,
    /// What the model is told first.
    #[schema(nullable = false)]
    instructions: Option<String>,
    #[serde(flatten)]
    sampling: SamplingFields,
    /// Most tokens of the reply.
    #[schema(nullable = false, minimum = 1)]
    max_output_tokens: Option<usize>,
    /// `format`: `text`, `json_object`, or `json_schema` with a `schema`.
    #[schema(nullable = false, value_type = Option<Object>)]
    text: Option<Value>,
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
    /// `message.output_text.logprobs`: the log-probability and the persistence of each token.
    #[schema(nullable = false)]
    include: Option<Vec<String>>,
    /// Report this many alternatives at each token, at most 20.
    #[schema(nullable = false, maximum = 20)]
    top_logprobs: Option<usize>,
    /// Send the reply as named events.
    #[serde(default)]
    stream: Option<bool>,
    /// `include_obfuscation` has no effect.
    #[schema(nullable = false, value_type = Option<Object>)]
    stream_options: Option<Value>,
    #[serde(flatten)]
    #[schema(ignore)]
    rest: Rest,
}

impl ResponseRequest {
    fn check(&self) -> ApiResult<()> {
        self.rest.check(RULES)?;
        wants_usage(self.stream_options.as_ref())?;
        let unknown = self.include.iter().flatten().find(|name| *name != LOGPROBS);
        if let Some(name) = unknown {
            let detail = format!("only `{LOGPROBS}` can be included, not `{}`", shown(name));
            return Err(ApiError::bad_request("unsupported_parameter", detail, "/include"));
        }
        let verbosity = self.text.as_ref().map_or(&Value::Null, |text| &text["verbosity"]);
        if !verbosity.is_null() && verbosity != "medium" {
            let detail = "the model has one verbosity";
            return Err(ApiError::bad_request(
                "unsupported_parameter",
                detail,
                "/text/verbosity",
            ));
        }
        Ok(())
    }

    fn wants_logprobs(&self) -> bool {
        self.include.iter().flatten().any(|name| name == LOGPROBS)
    }

    fn format(&self, tools: Option<&Tools>, form: ToolFormat) -> ApiResult<OutputFormat> {
        let format = self.text.as_ref().map(|text| &text["format"]);
        let text = with_structured(
            output_format(format, NAMES.format)?,
            self.structured_outputs.as_ref(),
        )?;
        match tools {
            Some(tools) => Ok(tools.set.output_format(form, &text)?),
            None => Ok(text),
        }
    }

    fn request(
        &self,
        tools: Option<&Tools>,
        form: ToolFormat,
        options: &LlmOptions,
    ) -> ApiResult<GenerateRequest> {
        let max_tokens = self.max_output_tokens.unwrap_or(options.default_max_tokens);
        choices(None, 1, max_tokens, options)?;
        let prompt = Prompt::Chat {
            messages: response_messages(self.instructions.as_deref(), &self.input)?,
            tools: tools.map(|tools| tools.shown.clone()),
        };
        let request = self
            .sampling
            .request(prompt, max_tokens)?
            .with_format(self.format(tools, form)?);
        let top = top_logprobs(self.top_logprobs.unwrap_or(0), "/top_logprobs")?;
        Ok(request.with_top_logprobs(top).with_client(self.rest.client()))
    }

    fn names(&self, tools: Option<&Tools>) -> Names {
        let format = match (tools, &self.structured_outputs) {
            (Some(_), _) => "/tools",
            (None, Some(_)) => "/structured_outputs",
            (None, None) => NAMES.format,
        };
        Names { format, ..NAMES }
    }

    /// What every answer repeats of the request.
    fn repeated(&self) -> Value {
        let member =
            |value: Option<&Value>, other: Value| value.filter(|v| !v.is_null()).cloned().unwrap_or(other);
        let tools = self
            .tools
            .as_ref()
            .and_then(Value::as_array)
            .into_iter()
            .flatten();
        let tools: Vec<Value> = tools.map(repeated_tool).collect();
        let text = json!({"format": member(self.text.as_ref().map(|text| &text["format"]), json!({"type": "text"}))});
        let mut repeated = json!({
            "instructions": self.instructions, "max_output_tokens": self.max_output_tokens,
            "metadata": member(self.rest.get("metadata"), json!({})), "tools": tools, "text": text,
            "parallel_tool_calls": self.parallel_tool_calls.unwrap_or(true),
            "tool_choice": member(self.tool_choice.as_ref(), "auto".into()),
            "temperature": self.sampling.temperature.unwrap_or(1.0), "top_p": self.sampling.top_p.unwrap_or(1.0),
            "top_logprobs": self.top_logprobs.unwrap_or(0), "store": false, "background": false,
            "truncation": "disabled", "previous_response_id": null, "service_tier": "default",
            "reasoning": {"effort": null, "summary": null},
        });
        for name in ["user", "safety_identifier", "prompt_cache_key"] {
            if let Some(value) = self.rest.get(name).filter(|value| value.is_string()) {
                repeated[name] = value.clone();
            }
        }
        repeated
    }
}

/// A function with all its members, as answers have it.
fn repeated_tool(tool: &Value) -> Value {
    let strict = tool["strict"] == true;
    json!({"type": "function", "name": tool["name"], "description": tool["description"],
        "parameters": tool["parameters"], "strict": strict})
}

/// Continues a conversation (the Responses protocol).
#[utoipa::path(
    post, path = "/v1/responses", operation_id = "responses", tag = "llm",
    request_body = ResponseRequest,
    responses(
        (status = 200, description = "The reply, or its stream", body = Object),
        (status = 400, description = "The request asks for what cannot be done", body = aion_service::Problem, content_type = "application/problem+json"),
        (status = 404, description = "Another model", body = aion_service::Problem, content_type = "application/problem+json"),
        (status = 429, description = "Too many requests wait", body = aion_service::Problem, content_type = "application/problem+json"),
        (status = 503, description = "The model is not there yet", body = aion_service::Problem, content_type = "application/problem+json"),
    ),
)]
pub(crate) async fn responses(
    State(shared): State<Shared>,
    ApiJson(wire): ApiJson<ResponseRequest>,
) -> ApiResult<Response> {
    let engine = shared.model.engine()?.clone();
    check_model(wire.model.as_deref(), &engine)?;
    wire.check()?;
    let choice = wire.tool_choice.as_ref();
    let tools = Dialect::Responses.read(wire.tools.as_ref(), choice, wire.parallel_tool_calls)?;
    let (names, form) = (wire.names(tools.as_ref()), engine.tool_format());
    let request = wire.request(tools.as_ref(), form, &shared.options);
    let request = request.map_err(|error| error.named(&names))?;
    let running = Choices::start(&shared.model, vec![request], 1).await;
    let running = running.map_err(|error| error.named(&names))?;
    let reply = Reply::new(engine, &wire, tools.map(|tools| tools.set.parser(form)));
    if wire.stream == Some(true) {
        return Ok(response(
            running.begun().await.map_err(|error| error.named(&names))?,
            reply,
        ));
    }
    let finished = running.finish().await.map_err(|error| error.named(&names))?;
    let whole = finished.into_iter().next().map(|finished| reply.whole(&finished));
    Ok(axum::Json(whole).into_response())
}

/// A response that grows, item by item.
struct Reply {
    engine: Engine,
    id: String,
    created: i64,
    repeated: Value,
    logprobs: bool,
    parser: Option<ToolParser>,
    /// The whole items.
    output: Vec<Value>,
    /// The item that grows.
    open: Option<Item>,
    sequence: u64,
    /// Log-probabilities of tokens whose text is not shown yet.
    pending: Vec<Value>,
}

/// An item that grows.
enum Item {
    Message {
        id: String,
        text: String,
        logprobs: Vec<Value>,
    },
    Call {
        id: String,
        call: String,
        name: String,
        arguments: String,
    },
}

impl Item {
    fn message() -> Self {
        Self::Message {
            id: new_id("msg"),
            text: String::new(),
            logprobs: Vec::new(),
        }
    }

    fn document(&self, status: &str) -> Value {
        match self {
            Self::Message { id, text, logprobs } => {
                let begun = status != "in_progress" || !text.is_empty();
                let parts: Vec<Value> = begun.then(|| part(text, logprobs)).into_iter().collect();
                json!({"type": "message", "id": id, "status": status, "role": "assistant", "content": parts})
            }
            Self::Call {
                id,
                call,
                name,
                arguments,
            } => json!({"type": "function_call", "id": id, "call_id": call,
                "name": name, "arguments": arguments, "status": status}),
        }
    }

    fn id(&self) -> &str {
        match self {
            Self::Message { id, .. } | Self::Call { id, .. } => id,
        }
    }
}

fn part(text: &str, logprobs: &[Value]) -> Value {
    json!({"type": "output_text", "text": text, "annotations": [], "logprobs": logprobs})
}

fn status(completion: &Completion) -> &'static str {
    match completion.finish {
        FinishReason::Length => "incomplete",
        _ => "completed",
    }
}

impl Reply {
    fn new(engine: Engine, wire: &ResponseRequest, parser: Option<ToolParser>) -> Self {
        Self {
            engine,
            id: new_id("resp"),
            created: unix_seconds(),
            repeated: wire.repeated(),
            logprobs: wire.wants_logprobs(),
            parser,
            output: Vec::new(),
            open: None,
            sequence: 0,
            pending: Vec::new(),
        }
    }

    fn object(&self, status: &str) -> Value {
        let mut object = self.repeated.clone();
        object["id"] = self.id.clone().into();
        object["object"] = "response".into();
        object["created_at"] = self.created.into();
        object["status"] = status.into();
        object["model"] = self.engine.info().name.clone().into();
        object["output"] = self.output.clone().into();
        object["error"] = Value::Null;
        object["incomplete_details"] = Value::Null;
        object
    }

    fn finished(&self, completion: &Completion) -> Value {
        let status = status(completion);
        let mut object = self.object(status);
        if status == "incomplete" {
            object["incomplete_details"] = json!({"reason": "max_output_tokens"});
        } else {
            object["completed_at"] = unix_seconds().into();
        }
        object["usage"] = json!({
            "input_tokens": completion.prompt_tokens,
            "input_tokens_details": {"cached_tokens": completion.cached_tokens, "cache_write_tokens": 0},
            "output_tokens": completion.tokens.len(),
            "output_tokens_details": {"reasoning_tokens": 0},
            "total_tokens": completion.prompt_tokens + completion.tokens.len(),
            "persistence": completion.persistence,
        });
        object
    }

    /// The response of a completion that has ended: what its events would have built.
    fn whole(mut self, finished: &Finished) -> Value {
        for token in &finished.tokens {
            self.token(token);
        }
        let shown: usize = finished.tokens.iter().map(|token| token.text.len()).sum();
        let tail = finished
            .completion
            .text
            .get(shown..)
            .unwrap_or_default()
            .to_owned();
        self.text(&tail);
        self.close_all(&finished.completion);
        self.finished(&finished.completion)
    }

    fn token(&mut self, token: &TokenEvent) -> Vec<Event> {
        let logprobs = self
            .logprobs
            .then(|| token_logprob(self.engine.tokenizer(), token));
        self.pending.extend(logprobs);
        self.text(&token.text)
    }

    fn event(&mut self, name: &'static str, mut value: Value) -> Event {
        value["type"] = name.into();
        value["sequence_number"] = self.sequence.into();
        self.sequence += 1;
        Event::named(name, &value)
    }

    /// An event about the item that grows; `content_index` where it is about its text.
    fn item_event(&mut self, name: &'static str, mut value: Value) -> Event {
        value["output_index"] = self.output.len().into();
        if let Some(item) = &self.open {
            value["item_id"] = item.id().into();
            if matches!(item, Item::Message { .. }) {
                value["content_index"] = 0.into();
            }
        }
        self.event(name, value)
    }

    fn begin_item(&mut self, item: Item) -> Vec<Event> {
        let mut events = self.close("completed");
        let document = item.document("in_progress");
        let is_message = matches!(item, Item::Message { .. });
        let index = self.output.len();
        events.push(self.event(
            "response.output_item.added",
            json!({"output_index": index, "item": document}),
        ));
        self.open = Some(item);
        if is_message {
            events.push(self.item_event("response.content_part.added", json!({"part": part("", &[])})));
        }
        events
    }

    /// Ends the item that grows.
    fn close(&mut self, status: &str) -> Vec<Event> {
        let mut events = Vec::new();
        match &mut self.open {
            Some(Item::Message { logprobs, .. }) => logprobs.append(&mut self.pending),
            Some(Item::Call { .. }) => self.pending.clear(),
            None => {}
        }
        match &self.open {
            None => return events,
            Some(Item::Message { text, logprobs, .. }) => {
                let (part, text, logprobs) = (part(text, logprobs), text.clone(), logprobs.clone());
                let done = json!({"text": text, "logprobs": logprobs});
                events.push(self.item_event("response.output_text.done", done));
                events.push(self.item_event("response.content_part.done", json!({ "part": part })));
            }
            Some(Item::Call { name, arguments, .. }) => {
                let done = json!({"name": name, "arguments": arguments});
                events.push(self.item_event("response.function_call_arguments.done", done));
            }
        }
        if let Some(item) = self.open.take() {
            let document = item.document(status);
            let done = json!({"output_index": self.output.len(), "item": document});
            events.push(self.event("response.output_item.done", done));
            self.output.push(document);
        }
        events
    }

    /// More text of the model.
    fn text(&mut self, text: &str) -> Vec<Event> {
        let deltas = match &mut self.parser {
            Some(parser) => parser.push(text),
            None if text.is_empty() => Vec::new(),
            None => vec![ToolDelta::Text(text.to_owned())],
        };
        let mut events = Vec::new();
        for delta in deltas {
            events.extend(self.delta(delta));
        }
        events
    }

    fn delta(&mut self, delta: ToolDelta) -> Vec<Event> {
        match delta {
            ToolDelta::Text(more) => self.text_delta(&more),
            ToolDelta::Call { name, .. } => {
                let (id, call, arguments) = (new_id("fc"), new_id("call"), String::new());
                self.begin_item(Item::Call {
                    id,
                    call,
                    name,
                    arguments,
                })
            }
            ToolDelta::Arguments(more) => {
                if let Some(Item::Call { arguments, .. }) = &mut self.open {
                    arguments.push_str(&more);
                }
                let delta = json!({ "delta": more });
                vec![self.item_event("response.function_call_arguments.delta", delta)]
            }
            ToolDelta::End => self.close("completed"),
        }
    }

    fn text_delta(&mut self, more: &str) -> Vec<Event> {
        let mut events = Vec::new();
        if !matches!(self.open, Some(Item::Message { .. })) {
            events.extend(self.begin_item(Item::message()));
        }
        let shown = std::mem::take(&mut self.pending);
        if let Some(Item::Message { text, logprobs, .. }) = &mut self.open {
            text.push_str(more);
            logprobs.extend_from_slice(&shown);
        }
        let delta = json!({"delta": more, "logprobs": shown});
        events.push(self.item_event("response.output_text.delta", delta));
        events
    }

    /// Ends what is open; a response has at least one item.
    fn close_all(&mut self, completion: &Completion) -> Vec<Event> {
        let left = self.parser.as_mut().map(ToolParser::finish).unwrap_or_default();
        let mut events = Vec::new();
        for delta in left {
            events.extend(self.delta(delta));
        }
        if self.output.is_empty() && self.open.is_none() {
            events.extend(self.begin_item(Item::message()));
        }
        events.extend(self.close(status(completion)));
        events
    }

    fn done(&mut self, completion: &Completion) -> Vec<Event> {
        let mut events = self.close_all(completion);
        let name = match status(completion) {
            "incomplete" => "response.incomplete",
            _ => "response.completed",
        };
        let whole = self.finished(completion);
        events.push(self.event(name, json!({ "response": whole })));
        events
    }

    fn failed(&mut self, error: &ApiError) -> Vec<Event> {
        let mut object = self.object("failed");
        let code = if error.0.status().is_server_error() {
            "server_error"
        } else {
            "invalid_prompt"
        };
        object["error"] = json!({"code": code, "message": error.0.detail()});
        vec![self.event("response.failed", json!({ "response": object }))]
    }
}

impl Encoder for Reply {
    fn begin(&mut self, _choices: usize) -> Vec<Event> {
        let object = self.object("in_progress");
        vec![
            self.event("response.created", json!({ "response": object })),
            self.event("response.in_progress", json!({ "response": object })),
        ]
    }

    fn step(&mut self, _choice: usize, step: Step) -> Vec<Event> {
        match step {
            Step::Begun => Vec::new(),
            Step::Token(token) => self.token(&token),
            Step::Tail(text) => self.text(&text),
            Step::Done(completion) => self.done(&completion),
            Step::Failed(error) => self.failed(&error),
        }
    }

    fn end(&mut self) -> Vec<Event> {
        Vec::new()
    }
}
