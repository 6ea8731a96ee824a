//! `POST /v1/chat/completions`.

use aion_llm::{Completion, Engine, GenerateRequest, OutputFormat, Prompt, TokenEvent};
use axum::extract::State;
use axum::response::{IntoResponse, Response};
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};
use utoipa::ToSchema;

use super::{
    ApiJson, OneOrMany, SamplingFields, finish_reason, message, only_one, output_format, request,
    token_logprob, top_logprobs, usage,
};
use crate::error::{ApiError, ApiResult};
use crate::generate::{Step, new_id, start, unix_seconds};
use crate::options::LlmOptions;
use crate::service::Shared;
use crate::sse::{Encoder, Event, response};

const MAX_MESSAGES: usize = 4096;

/// A conversation to continue.
#[derive(Debug, Deserialize, Serialize, ToSchema)]
pub(crate) struct ChatRequest {
    /// Any name: this service has one model.
    #[schema(nullable = false)]
    model: Option<String>,
    /// The messages, oldest first: objects with `role` and `content` (a text, or parts of type `text`).
    messages: Vec<Value>,
    #[serde(flatten)]
    sampling: SamplingFields,
    /// Most tokens of the reply.
    #[schema(nullable = false)]
    max_tokens: Option<usize>,
    /// The newer name of `max_tokens`, which wins.
    #[schema(nullable = false)]
    max_completion_tokens: Option<usize>,
    /// Texts that end the reply.
    #[schema(nullable = false)]
    stop: Option<OneOrMany>,
    /// `text`, `json_object`, or `json_schema` with a schema that the reply is made to match.
    #[schema(nullable = false, value_type = Option<Object>)]
    response_format: Option<Value>,
    /// Functions that the model may call; shown to it if its template shows tools.
    #[schema(nullable = false, value_type = Option<Vec<Object>>)]
    tools: Option<Value>,
    /// `none`, `auto`, `required`, or one function; the last two make the reply a call.
    #[schema(nullable = false, value_type = Option<Object>)]
    tool_choice: Option<Value>,
    /// Report the log-probability of each token.
    #[serde(default)]
    logprobs: Option<bool>,
    /// Report this many alternatives at each token, at most 20.
    #[schema(nullable = false)]
    top_logprobs: Option<usize>,
    /// Send the reply token by token.
    #[serde(default)]
    stream: Option<bool>,
    /// `include_usage`: a last chunk with `usage`.
    #[schema(nullable = false, value_type = Option<Object>)]
    stream_options: Option<Value>,
    /// Only 1.
    #[schema(nullable = false)]
    n: Option<u64>,
}

impl ChatRequest {
    fn prompt(&self) -> ApiResult<Prompt> {
        if self.messages.is_empty() || self.messages.len() > MAX_MESSAGES {
            let detail = format!("a conversation has 1 to {MAX_MESSAGES} messages");
            return Err(ApiError::bad_request("invalid_value", detail, "/messages"));
        }
        let messages = self
            .messages
            .iter()
            .enumerate()
            .map(|(i, wire)| message(wire, &format!("/messages/{i}")));
        let tools = self
            .tools
            .clone()
            .filter(|tools| tools.as_array().is_some_and(|tools| !tools.is_empty()));
        Ok(Prompt::Chat {
            messages: messages.collect::<ApiResult<_>>()?,
            tools,
        })
    }

    fn wants_logprobs(&self) -> bool {
        self.logprobs == Some(true)
    }

    fn to_request(&self, format: OutputFormat, options: LlmOptions) -> ApiResult<GenerateRequest> {
        only_one(self.n)?;
        let max_tokens = self.max_completion_tokens.or(self.max_tokens);
        let stop = self.stop.clone().map(OneOrMany::into_vec).unwrap_or_default();
        let top = if self.wants_logprobs() {
            top_logprobs(self.top_logprobs.unwrap_or(0))?
        } else {
            0
        };
        let request = request(self.prompt()?, &self.sampling, max_tokens, options)?;
        Ok(request.with_stop(stop).with_format(format).with_top_logprobs(top))
    }

    /// The schema of a forced tool call, when `tool_choice` asks for one.
    fn forced_call(&self) -> ApiResult<Option<Value>> {
        let chosen = match &self.tool_choice {
            Some(Value::String(choice)) if choice == "required" => None,
            Some(Value::Object(choice)) => choice.get("function").and_then(|f| f["name"].as_str()),
            _ => return Ok(None),
        };
        let tools = self
            .tools
            .as_ref()
            .and_then(Value::as_array)
            .map_or(&[][..], Vec::as_slice);
        let functions = tools.iter().map(|tool| &tool["function"]);
        let calls: Vec<Value> = functions
            .filter(|f| chosen.is_none_or(|name| f["name"] == name))
            .map(call_schema)
            .collect();
        if calls.is_empty() {
            return Err(ApiError::bad_request(
                "invalid_value",
                "no such tool is offered",
                "/tool_choice",
            ));
        }
        Ok(Some(json!({ "anyOf": calls })))
    }
}

/// An object with the function's name and arguments that its parameters admit.
fn call_schema(function: &Value) -> Value {
    let parameters = Some(&function["parameters"]).filter(|p| p.is_object()).cloned();
    json!({
        "type": "object",
        "properties": {
            "name": {"const": function["name"]},
            "arguments": parameters.unwrap_or_else(|| json!({"type": "object"})),
        },
        "required": ["name", "arguments"],
        "additionalProperties": false,
    })
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
        (status = 400, description = "The request asks for what cannot be done", body = aion_service::Problem),
        (status = 429, description = "Too many requests wait", body = aion_service::Problem),
        (status = 503, description = "The model is not there yet", body = aion_service::Problem),
    ),
)]
pub(crate) async fn chat_completions(
    State(shared): State<Shared>,
    ApiJson(chat): ApiJson<ChatRequest>,
) -> ApiResult<Response> {
    let engine = shared.model.engine()?.clone();
    let call = chat.forced_call()?;
    let format = match &call {
        Some(schema) => OutputFormat::JsonSchema(schema.clone()),
        None => output_format(chat.response_format.as_ref(), "/response_format")?,
    };
    let running = start(&shared.model, chat.to_request(format, shared.options)?)?;
    let reply = Reply::new(engine, chat.wants_logprobs(), call.is_some());
    if chat.stream == Some(true) {
        let usage = chat
            .stream_options
            .as_ref()
            .is_some_and(|options| options["include_usage"] == true);
        return Ok(response(
            running.begun().await?,
            ChatEncoder {
                reply,
                usage,
                call: String::new(),
            },
        ));
    }
    let (tokens, completion) = running.finish().await?;
    Ok(axum::Json(reply.whole(&tokens, &completion)).into_response())
}

/// What all parts of one reply have in common.
struct Reply {
    engine: Engine,
    id: String,
    created: i64,
    logprobs: bool,
    call: bool,
}

impl Reply {
    fn new(engine: Engine, logprobs: bool, call: bool) -> Self {
        Self {
            engine,
            id: new_id("chatcmpl"),
            created: unix_seconds(),
            logprobs,
            call,
        }
    }

    fn envelope(&self, object: &str, choices: &Value) -> Value {
        json!({
            "id": self.id, "object": object, "created": self.created,
            "model": self.engine.info().name, "choices": choices,
        })
    }

    fn logprobs(&self, tokens: &[TokenEvent]) -> Value {
        if !self.logprobs {
            return Value::Null;
        }
        let content: Vec<_> = tokens
            .iter()
            .map(|token| token_logprob(self.engine.tokenizer(), token))
            .collect();
        json!({ "content": content })
    }

    fn whole(&self, tokens: &[TokenEvent], completion: &Completion) -> Value {
        let call = if self.call {
            tool_call(&completion.text)
        } else {
            None
        };
        let finish = if call.is_some() {
            "tool_calls"
        } else {
            finish_reason(completion)
        };
        let message = match call {
            Some(call) => {
                json!({"role": "assistant", "content": null, "refusal": null, "tool_calls": [call]})
            }
            None => json!({"role": "assistant", "content": completion.text, "refusal": null}),
        };
        let choice = json!({
            "index": 0, "message": message, "logprobs": self.logprobs(tokens), "finish_reason": finish,
        });
        let mut whole = self.envelope("chat.completion", &json!([choice]));
        whole["usage"] = usage(completion);
        whole
    }

    fn chunk(&self, delta: &Value, logprobs: &Value, finish: &Value) -> Event {
        let choice = json!({"index": 0, "delta": delta, "logprobs": logprobs, "finish_reason": finish});
        Event::data(&self.envelope("chat.completion.chunk", &json!([choice])))
    }
}

/// The text `{"name": ..., "arguments": ...}` as a tool call; none when the limit of tokens cut it off.
fn tool_call(text: &str) -> Option<Value> {
    let call: Value = serde_json::from_str(text).ok()?;
    let function = json!({"name": call["name"], "arguments": call["arguments"].to_string()});
    Some(json!({"id": new_id("call"), "type": "function", "function": function}))
}

/// Chunks of a streamed reply. A tool call is sent whole at the end.
struct ChatEncoder {
    reply: Reply,
    usage: bool,
    call: String,
}

impl ChatEncoder {
    fn text(&mut self, text: &str, logprobs: &Value) -> Vec<Event> {
        if self.reply.call {
            self.call.push_str(text);
            return Vec::new();
        }
        if text.is_empty() && logprobs.is_null() {
            return Vec::new();
        }
        vec![
            self.reply
                .chunk(&json!({ "content": text }), logprobs, &Value::Null),
        ]
    }

    fn done(&self, completion: &Completion) -> Vec<Event> {
        let mut events = Vec::new();
        let call = if self.reply.call {
            tool_call(&self.call)
        } else {
            None
        };
        let finish = if call.is_some() {
            "tool_calls"
        } else {
            finish_reason(completion)
        };
        if let Some(mut call) = call {
            call["index"] = 0.into();
            events.push(
                self.reply
                    .chunk(&json!({ "tool_calls": [call] }), &Value::Null, &Value::Null),
            );
        } else if self.reply.call {
            events.push(
                self.reply
                    .chunk(&json!({ "content": self.call }), &Value::Null, &Value::Null),
            );
        }
        events.push(self.reply.chunk(&json!({}), &Value::Null, &finish.into()));
        if self.usage {
            let mut last = self.reply.envelope("chat.completion.chunk", &json!([]));
            last["usage"] = usage(completion);
            events.push(Event::data(&last));
        }
        events.push(Event::done());
        events
    }
}

impl Encoder for ChatEncoder {
    fn begin(&mut self) -> Vec<Event> {
        vec![self.reply.chunk(
            &json!({"role": "assistant", "content": ""}),
            &Value::Null,
            &Value::Null,
        )]
    }

    fn step(&mut self, step: Step) -> Vec<Event> {
        match step {
            Step::Begun => Vec::new(),
            Step::Token(token) => {
                let logprobs = self.reply.logprobs(std::slice::from_ref(&token));
                self.text(&token.text, &logprobs)
            }
            Step::Tail(text) => self.text(&text, &Value::Null),
            Step::Done(completion) => self.done(&completion),
            Step::Failed(error) => vec![Event::data(&error.document()), Event::done()],
        }
    }
}
