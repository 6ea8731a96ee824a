//! `POST /v1/responses`: the newer protocol, with named events. Nothing is stored: `previous_response_id` is refused.

use aion_llm::{ChatMessage, Completion, Engine, FinishReason, GenerateRequest, Prompt};
use axum::extract::State;
use axum::response::{IntoResponse, Response};
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};
use utoipa::ToSchema;

use super::{ApiJson, SamplingFields, message, output_format, request};
use crate::error::{ApiError, ApiResult};
use crate::generate::{Step, new_id, start, unix_seconds};
use crate::options::LlmOptions;
use crate::service::Shared;
use crate::sse::{Encoder, Event, response};

const MAX_ITEMS: usize = 4096;

/// A conversation to continue.
#[derive(Debug, Deserialize, Serialize, ToSchema)]
pub(crate) struct ResponseRequest {
    /// Any name: this service has one model.
    #[schema(nullable = false)]
    model: Option<String>,
    /// A text, or messages.
    #[schema(value_type = Object)]
    input: Value,
    /// What the model is told first.
    #[schema(nullable = false)]
    instructions: Option<String>,
    #[serde(flatten)]
    sampling: SamplingFields,
    /// Most tokens of the reply.
    #[schema(nullable = false)]
    max_output_tokens: Option<usize>,
    /// `format`: `text`, `json_object`, or `json_schema` with a `schema`.
    #[schema(nullable = false, value_type = Option<Object>)]
    text: Option<Value>,
    /// Send the reply as named events.
    #[serde(default)]
    stream: Option<bool>,
    /// Not supported: nothing is stored.
    #[schema(nullable = false)]
    previous_response_id: Option<String>,
}

impl ResponseRequest {
    fn to_request(&self, options: LlmOptions) -> ApiResult<GenerateRequest> {
        if self.previous_response_id.is_some() {
            let detail = "responses are not stored; send the whole conversation as input";
            return Err(ApiError::bad_request(
                "unsupported_value",
                detail,
                "/previous_response_id",
            ));
        }
        let format = self.text.as_ref().map(|text| &text["format"]);
        let format = output_format(format, "/text/format")?;
        let request = request(self.prompt()?, &self.sampling, self.max_output_tokens, options)?;
        Ok(request.with_format(format))
    }

    fn prompt(&self) -> ApiResult<Prompt> {
        let mut messages: Vec<ChatMessage> = self
            .instructions
            .iter()
            .map(|text| ChatMessage::new("system", text.clone()))
            .collect();
        match &self.input {
            Value::String(text) => messages.push(ChatMessage::new("user", text.clone())),
            Value::Array(items) if (1..=MAX_ITEMS).contains(&items.len()) => {
                for (i, item) in items.iter().enumerate() {
                    messages.push(message(item, &format!("/input/{i}"))?);
                }
            }
            _ => {
                let detail = format!("input is a text, or 1 to {MAX_ITEMS} messages");
                return Err(ApiError::bad_request("invalid_body", detail, "/input"));
            }
        }
        Ok(Prompt::chat(messages))
    }
}

/// Continues a conversation (the Responses protocol).
#[utoipa::path(
    post, path = "/v1/responses", operation_id = "responses", tag = "llm",
    request_body = ResponseRequest,
    responses(
        (status = 200, description = "The reply, or its stream", body = Object),
        (status = 400, description = "The request asks for what cannot be done", body = aion_service::Problem),
        (status = 429, description = "Too many requests wait", body = aion_service::Problem),
        (status = 503, description = "The model is not there yet", body = aion_service::Problem),
    ),
)]
pub(crate) async fn responses(
    State(shared): State<Shared>,
    ApiJson(wire): ApiJson<ResponseRequest>,
) -> ApiResult<Response> {
    let engine = shared.model.engine()?.clone();
    let running = start(&shared.model, wire.to_request(shared.options)?)?;
    let reply = Reply::new(engine, &wire);
    if wire.stream == Some(true) {
        return Ok(response(running.begun().await?, reply));
    }
    let (_, completion) = running.finish().await?;
    Ok(axum::Json(reply.finished(&completion)).into_response())
}

struct Reply {
    engine: Engine,
    id: String,
    item: String,
    created: i64,
    instructions: Option<String>,
    sequence: u64,
    text: String,
}

impl Reply {
    fn new(engine: Engine, wire: &ResponseRequest) -> Self {
        Self {
            engine,
            id: new_id("resp"),
            item: new_id("msg"),
            created: unix_seconds(),
            instructions: wire.instructions.clone(),
            sequence: 0,
            text: String::new(),
        }
    }

    fn object(&self, status: &str, output: &Value) -> Value {
        json!({
            "id": self.id, "object": "response", "created_at": self.created, "status": status, "error": null,
            "incomplete_details": null, "instructions": self.instructions, "model": self.engine.info().name,
            "output": output, "parallel_tool_calls": false, "tool_choice": "none", "tools": [], "metadata": {},
            "text": {"format": {"type": "text"}}, "temperature": null, "top_p": null, "usage": null,
        })
    }

    fn part(text: &str) -> Value {
        json!({"type": "output_text", "text": text, "annotations": [], "logprobs": []})
    }

    fn message(&self, status: &str, parts: &Value) -> Value {
        json!({"type": "message", "id": self.item, "status": status, "role": "assistant", "content": parts})
    }

    fn finished(&self, completion: &Completion) -> Value {
        let cut = completion.finish == FinishReason::Length;
        let status = if cut { "incomplete" } else { "completed" };
        let message = self.message(status, &json!([Self::part(&completion.text)]));
        let mut object = self.object(status, &json!([message]));
        if cut {
            object["incomplete_details"] = json!({"reason": "max_output_tokens"});
        }
        object["usage"] = json!({
            "input_tokens": completion.prompt_tokens,
            "input_tokens_details": {"cached_tokens": completion.cached_tokens},
            "output_tokens": completion.tokens.len(),
            "output_tokens_details": {"reasoning_tokens": 0},
            "total_tokens": completion.prompt_tokens + completion.tokens.len(),
            "persistence": completion.persistence,
        });
        object
    }

    fn event(&mut self, name: &'static str, mut value: Value) -> Event {
        value["type"] = name.into();
        value["sequence_number"] = self.sequence.into();
        self.sequence += 1;
        Event::named(name, &value)
    }

    /// An event about the one text part.
    fn part_event(&mut self, name: &'static str, mut value: Value) -> Event {
        value["item_id"] = self.item.clone().into();
        value["output_index"] = 0.into();
        value["content_index"] = 0.into();
        self.event(name, value)
    }

    fn delta(&mut self, text: &str) -> Vec<Event> {
        if text.is_empty() {
            return Vec::new();
        }
        self.text.push_str(text);
        vec![self.part_event(
            "response.output_text.delta",
            json!({"delta": text, "logprobs": []}),
        )]
    }

    fn end(&mut self, completion: &Completion) -> Vec<Event> {
        let whole = self.finished(completion);
        let (text, part) = (self.text.clone(), Self::part(&self.text));
        let name = if whole["status"] == "incomplete" {
            "response.incomplete"
        } else {
            "response.completed"
        };
        let item = json!({"output_index": 0, "item": whole["output"][0]});
        vec![
            self.part_event("response.output_text.done", json!({"text": text, "logprobs": []})),
            self.part_event("response.content_part.done", json!({ "part": part })),
            self.event("response.output_item.done", item),
            self.event(name, json!({ "response": whole })),
        ]
    }
}

impl Encoder for Reply {
    fn begin(&mut self) -> Vec<Event> {
        let object = self.object("in_progress", &json!([]));
        let item = self.message("in_progress", &json!([]));
        vec![
            self.event("response.created", json!({ "response": object })),
            self.event("response.in_progress", json!({ "response": object })),
            self.event(
                "response.output_item.added",
                json!({"output_index": 0, "item": item}),
            ),
            self.part_event("response.content_part.added", json!({"part": Self::part("")})),
        ]
    }

    fn step(&mut self, step: Step) -> Vec<Event> {
        match step {
            Step::Begun => Vec::new(),
            Step::Token(token) => self.delta(&token.text),
            Step::Tail(text) => self.delta(&text),
            Step::Done(completion) => self.end(&completion),
            Step::Failed(error) => {
                let mut object = self.object("failed", &json!([]));
                object["error"] = json!({"code": error.0.code(), "message": error.0.detail()});
                vec![self.event("response.failed", json!({ "response": object }))]
            }
        }
    }
}
