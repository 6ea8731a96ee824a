//! The OpenAI chat-completions wire, read leniently: everything may be missing, odd or extra.
//!
//! Strict types fail on real servers: empty finish reasons, content as a list of parts, arguments as an
//! object, calls without an id, errors inside a 200.

use aion_types::{Role, ToolCall};
use serde_json::{Map, Value, json};

use super::{ChatMessage, ChatReply, ChatRequest, FinishReason, ModelError, Usage};
use crate::canonical::{canonical_json, clip};

/// How much of a strange answer an error repeats.
const SNIPPET_BYTES: usize = 200;

/// The request as JSON; members in an order that keeps the longest common prefix between steps.
pub fn request_body(request: &ChatRequest, model: &str, stream: super::Streaming) -> Value {
    let mut body = Map::new();
    body.insert("model".into(), model.into());
    body.insert("max_tokens".into(), request.max_tokens.into());
    if let Some(temperature) = request.temperature {
        body.insert("temperature".into(), temperature.into());
    }
    if let Some(seed) = request.seed {
        body.insert("seed".into(), seed.into());
    }
    if !request.tools.is_empty() {
        let tools = request
            .tools
            .iter()
            .map(|tool| json!({"type": "function", "function": tool}));
        body.insert("tools".into(), tools.collect());
    }
    if let Some(form) = &request.response_schema {
        let schema = json!({"name": form.name, "strict": true, "schema": form.schema});
        body.insert(
            "response_format".into(),
            json!({"type": "json_schema", "json_schema": schema}),
        );
    }
    let messages = request.messages.iter().map(message_body);
    body.insert("messages".into(), messages.collect());
    if stream == super::Streaming::On {
        body.insert("stream".into(), true.into());
        body.insert("stream_options".into(), json!({"include_usage": true}));
    }
    Value::Object(body)
}

fn message_body(message: &ChatMessage) -> Value {
    let mut body = Map::new();
    body.insert("role".into(), message.role.as_str().into());
    let calls_alone =
        message.role == Role::Assistant && message.content.is_empty() && !message.tool_calls.is_empty();
    let content = if calls_alone {
        Value::Null
    } else {
        message.content.as_str().into()
    };
    body.insert("content".into(), content);
    if let Some(id) = &message.tool_call_id {
        body.insert("tool_call_id".into(), id.as_str().into());
    }
    if !message.tool_calls.is_empty() {
        let calls = message.tool_calls.iter().map(|call| {
            json!({"id": call.id, "type": "function",
                   "function": {"name": call.name, "arguments": call.arguments}})
        });
        body.insert("tool_calls".into(), calls.collect());
    }
    Value::Object(body)
}

/// Reads a whole chat completion.
///
/// # Errors
/// [`ModelError::Status`] for an error inside the answer, [`ModelError::Shape`] without choices.
pub fn parse_completion(answer: &Value) -> Result<ChatReply, ModelError> {
    if let Some(error) = embedded_error(answer) {
        return Err(error);
    }
    let choice = answer.pointer("/choices/0").ok_or_else(|| ModelError::Shape {
        reason: "no choices",
        snippet: clip(&answer.to_string(), SNIPPET_BYTES),
    })?;
    let message = choice.get("message").unwrap_or(choice);
    let finish = match choice.get("finish_reason").and_then(Value::as_str) {
        Some(reason) => finish_reason(reason),
        // The body came whole, so the reply is complete even where the server does not say why.
        None => FinishReason::Other(String::new()),
    };
    Ok(ChatReply {
        text: text_of(message.get("content").or_else(|| choice.get("text"))),
        reasoning: reasoning_of(message),
        tool_calls: calls_of(message),
        finish,
        usage: usage_of(answer).unwrap_or_default(),
        model: answer.get("model").and_then(Value::as_str).map(str::to_owned),
    })
}

/// An error that a server put into an answer with status 200.
pub(super) fn embedded_error(answer: &Value) -> Option<ModelError> {
    let error = answer.get("error").filter(|error| !error.is_null())?;
    let status = error
        .get("code")
        .or_else(|| error.get("status"))
        .and_then(Value::as_u64);
    Some(ModelError::Status {
        status: status.and_then(|code| u16::try_from(code).ok()).unwrap_or(200),
        message: error_message(answer),
        retry_after_s: None,
    })
}

/// What an error document says, in the many forms that servers have for it.
pub(super) fn error_message(answer: &Value) -> String {
    let pointers = ["/error/message", "/error", "/message", "/detail", "/title"];
    let found = pointers
        .iter()
        .find_map(|pointer| answer.pointer(pointer).and_then(Value::as_str));
    clip(
        &found.map_or_else(|| answer.to_string(), str::to_owned),
        SNIPPET_BYTES,
    )
}

/// The error for a body that is no JSON.
pub(super) fn not_json(content_type: &str, body: &[u8]) -> ModelError {
    let text = String::from_utf8_lossy(&body[..body.len().min(4 * SNIPPET_BYTES)]).into_owned();
    let words: Vec<&str> = text.split_whitespace().collect();
    ModelError::NotJson {
        content_type: if content_type.is_empty() {
            "no content type".to_owned()
        } else {
            clip(content_type, 80)
        },
        snippet: clip(&words.join(" "), SNIPPET_BYTES),
    }
}

pub(super) fn finish_reason(reason: &str) -> FinishReason {
    match reason {
        "stop" | "eos" | "eos_token" | "end_turn" | "stop_sequence" | "completed" => FinishReason::Stop,
        "tool_calls" | "tool_call" | "function_call" | "tool_use" => FinishReason::ToolCalls,
        "length" | "max_tokens" | "model_length" | "max_output_tokens" => FinishReason::Length,
        "content_filter" | "safety" | "refusal" => FinishReason::ContentFilter,
        other => FinishReason::Other(other.to_owned()),
    }
}

/// Text that is a string, absent, or a list of parts.
pub(super) fn text_of(content: Option<&Value>) -> String {
    match content {
        Some(Value::String(text)) => text.clone(),
        Some(Value::Array(parts)) => parts.iter().filter_map(part_text).collect(),
        _ => String::new(),
    }
}

fn part_text(part: &Value) -> Option<&str> {
    part.as_str()
        .or_else(|| part.get("text").and_then(Value::as_str))
        .filter(|_| part.get("type").and_then(Value::as_str) != Some("thinking"))
}

pub(super) fn reasoning_of(message: &Value) -> String {
    let keys = ["reasoning_content", "reasoning", "thinking"];
    text_of(keys.iter().find_map(|key| message.get(key)))
}

fn calls_of(message: &Value) -> Vec<ToolCall> {
    let listed = message.get("tool_calls").and_then(Value::as_array);
    let legacy = message.get("function_call").filter(|call| call.is_object());
    let calls = listed.map(Vec::as_slice).unwrap_or_default();
    calls.iter().chain(legacy).map(call_of).collect()
}

fn call_of(call: &Value) -> ToolCall {
    let function = call.get("function").unwrap_or(call);
    ToolCall {
        id: string_at(call, "id"),
        name: string_at(function, "name"),
        arguments: arguments_text(function.get("arguments")).unwrap_or_else(|| "{}".to_owned()),
    }
}

/// Arguments as JSON text, whether they came as text or as an object.
pub(super) fn arguments_text(arguments: Option<&Value>) -> Option<String> {
    match arguments? {
        Value::String(text) => Some(text.clone()),
        Value::Null => None,
        object => Some(canonical_json(object)),
    }
}

pub(super) fn string_at(value: &Value, key: &str) -> String {
    match value.get(key) {
        Some(Value::String(text)) => text.clone(),
        Some(Value::Number(number)) => number.to_string(),
        _ => String::new(),
    }
}

/// Usage in an answer or a chunk of a stream; some servers put it beside, some into, `x_groq`.
pub(super) fn usage_of(answer: &Value) -> Option<Usage> {
    let usage = answer
        .get("usage")
        .or_else(|| answer.pointer("/x_groq/usage"))
        .filter(|usage| usage.is_object())?;
    let count = |pointer: &str| usage.pointer(pointer).and_then(whole);
    let persistence = usage.get("persistence").filter(|value| !value.is_null());
    Some(Usage {
        prompt_tokens: count("/prompt_tokens").or_else(|| count("/input_tokens")),
        completion_tokens: count("/completion_tokens").or_else(|| count("/output_tokens")),
        cached_tokens: count("/prompt_tokens_details/cached_tokens"),
        persistence: persistence.and_then(|value| serde_json::from_value(value.clone()).ok()),
    })
}

fn whole(value: &Value) -> Option<u64> {
    value
        .as_u64()
        .or_else(|| value.as_f64().filter(|x| *x >= 0.0).map(|x| x as u64))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn odd_servers_are_understood() {
        let answer = json!({"choices": [{"finish_reason": "", "message": {
            "content": [{"type": "text", "text": "a"}, {"type": "thinking", "text": "no"}, "b"],
            "tool_calls": [{"function": {"name": "f", "arguments": {"b": 1, "a": 2}}}, {"id": 7, "name": "g"}],
        }}], "usage": {"prompt_tokens": 3.0, "completion_tokens": 4, "persistence": {"R_mean": 2.5, "new": [1]}}});
        let reply = parse_completion(&answer).unwrap();
        assert_eq!(reply.text, "ab");
        assert_eq!(reply.finish, FinishReason::Other(String::new()));
        assert_eq!(reply.tool_calls[0].arguments, r#"{"a":2,"b":1}"#);
        assert_eq!(
            (reply.tool_calls[1].id.as_str(), reply.tool_calls[1].name.as_str()),
            ("7", "g")
        );
        assert_eq!(reply.usage.total(), Some(7));
        let kept = serde_json::to_value(&reply.usage.persistence).unwrap();
        assert_eq!(kept, json!({"R_mean": 2.5, "new": [1]}));
    }

    #[test]
    fn an_error_inside_a_200_is_an_error() {
        for answer in [
            json!({"error": {"message": "slow down", "code": 429}}),
            json!({"error": "slow down"}),
        ] {
            let error = parse_completion(&answer).unwrap_err();
            assert!(error.to_string().contains("slow down"), "{error}");
        }
        assert!(matches!(
            parse_completion(&json!({"ok": 1})),
            Err(ModelError::Shape { .. })
        ));
    }
}
