//! Conversations as the two protocols write them.

use aion_llm::ChatMessage;
use serde_json::{Map, Value, json};

use crate::error::{ApiError, ApiResult, shown};

const MAX_MESSAGES: usize = 4096;
const ROLES: [&str; 6] = ["system", "developer", "user", "assistant", "tool", "function"];

fn invalid(detail: impl Into<String>, pointer: &str) -> ApiError {
    ApiError::bad_request("invalid_body", detail, pointer)
}

/// The messages of a chat request.
pub(crate) fn chat_messages(wire: &[Value]) -> ApiResult<Vec<ChatMessage>> {
    if wire.is_empty() || wire.len() > MAX_MESSAGES {
        let detail = format!("a conversation has 1 to {MAX_MESSAGES} messages");
        return Err(ApiError::bad_request("invalid_value", detail, "/messages"));
    }
    let messages = wire.iter().enumerate();
    messages
        .map(|(i, wire)| message(wire, &format!("/messages/{i}")))
        .collect()
}

/// The messages of a responses request: a text, or items.
pub(crate) fn response_messages(instructions: Option<&str>, input: &Value) -> ApiResult<Vec<ChatMessage>> {
    let system = instructions.map(|text| ChatMessage::new("system", text));
    let mut messages: Vec<ChatMessage> = system.into_iter().collect();
    match input {
        Value::String(text) => messages.push(ChatMessage::new("user", text.clone())),
        Value::Array(items) if (1..=MAX_MESSAGES).contains(&items.len()) => {
            for (i, item) in items.iter().enumerate() {
                add_item(&mut messages, item, &format!("/input/{i}"))?;
            }
        }
        _ => {
            let detail = format!("input is a text, or 1 to {MAX_MESSAGES} items");
            return Err(invalid(detail, "/input"));
        }
    }
    Ok(messages)
}

fn add_item(messages: &mut Vec<ChatMessage>, item: &Value, pointer: &str) -> ApiResult<()> {
    match item["type"].as_str().unwrap_or("message") {
        "message" => messages.push(message(item, pointer)?),
        "function_call" => {
            let field = |name: &str| {
                let missing = || invalid(format!("a call has a `{name}`"), &format!("{pointer}/{name}"));
                item[name].as_str().ok_or_else(missing)
            };
            let call = json!({"id": field("call_id")?, "type": "function",
                "function": {"name": field("name")?, "arguments": arguments(field("arguments")?)}});
            add_call(messages, call);
        }
        "function_call_output" => {
            let pointer = format!("{pointer}/output");
            let mut result = ChatMessage::new("tool", content_text(&item["output"], &pointer)?);
            result
                .extra
                .insert("tool_call_id".into(), item["call_id"].clone());
            messages.push(result);
        }
        other => {
            let detail = format!(
                "this model reads messages, calls and their outputs, no item of type `{}`",
                shown(other)
            );
            return Err(ApiError::bad_request("unsupported_content", detail, pointer));
        }
    }
    Ok(())
}

/// Calls of one turn belong to one message of the assistant.
fn add_call(messages: &mut Vec<ChatMessage>, call: Value) {
    if let Some(last) = messages.last_mut().filter(|last| last.role == "assistant") {
        let calls = last.extra.entry("tool_calls").or_insert_with(|| json!([]));
        if let Some(calls) = calls.as_array_mut() {
            calls.push(call);
        }
        return;
    }
    let mut message = ChatMessage::new("assistant", "");
    message.extra.insert("tool_calls".into(), json!([call]));
    messages.push(message);
}

/// The arguments of a call as templates want them: the object, not its text.
fn arguments(text: &str) -> Value {
    serde_json::from_str(text)
        .ok()
        .filter(Value::is_object)
        .unwrap_or_else(|| text.into())
}

/// A message of either protocol.
fn message(wire: &Value, pointer: &str) -> ApiResult<ChatMessage> {
    let Some(role) = wire["role"].as_str() else {
        return Err(invalid("a message has a role", &format!("{pointer}/role")));
    };
    if !ROLES.contains(&role) {
        let detail = format!("known roles are {}", ROLES.join(", "));
        return Err(ApiError::bad_request(
            "invalid_value",
            detail,
            &format!("{pointer}/role"),
        ));
    }
    // Newer clients say `developer` where models know `system`, older ones `function` where they know `tool`.
    let role = match role {
        "developer" => "system",
        "function" => "tool",
        role => role,
    };
    let content = content_text(&wire["content"], &format!("{pointer}/content"))?;
    let mut message = ChatMessage::new(role, content);
    message.extra = extra(wire);
    if let Some(calls) = message.extra.get_mut("tool_calls") {
        let wrong = || invalid("a list of calls of functions", &format!("{pointer}/tool_calls"));
        for call in calls.as_array_mut().ok_or_else(wrong)? {
            let function = call
                .get_mut("function")
                .and_then(Value::as_object_mut)
                .ok_or_else(wrong)?;
            let text = function
                .get("arguments")
                .and_then(Value::as_str)
                .ok_or_else(wrong)?;
            let parsed = arguments(text);
            function.insert("arguments".into(), parsed);
        }
    }
    let empty = wire["content"].is_null() && !message.extra.contains_key("tool_calls");
    if empty && role != "assistant" {
        return Err(invalid("a message has a content", &format!("{pointer}/content")));
    }
    Ok(message)
}

/// The members that some templates read.
fn extra(wire: &Value) -> Map<String, Value> {
    let known = |key: &str| matches!(key, "role" | "content" | "type" | "id" | "status");
    let members = wire.as_object().into_iter().flatten();
    let kept = members.filter(|(key, value)| !known(key) && !value.is_null());
    kept.map(|(key, value)| (key.clone(), value.clone())).collect()
}

/// The text of a message's `content`: a string, nothing, or parts that are all text.
fn content_text(content: &Value, pointer: &str) -> ApiResult<String> {
    match content {
        Value::Null => Ok(String::new()),
        Value::String(text) => Ok(text.clone()),
        Value::Array(parts) => {
            let texts = parts.iter().enumerate();
            texts
                .map(|(i, part)| part_text(part, &format!("{pointer}/{i}")))
                .collect()
        }
        _ => Err(invalid("content is a text or a list of parts", pointer)),
    }
}

fn part_text<'a>(part: &'a Value, pointer: &str) -> ApiResult<&'a str> {
    let kind = part["type"].as_str().unwrap_or("none");
    let text = match kind {
        "text" | "input_text" | "output_text" => part["text"].as_str(),
        "refusal" => part["refusal"].as_str(),
        _ => None,
    };
    text.ok_or_else(|| {
        let detail = format!("this model reads text only, not a part of type `{}`", shown(kind));
        ApiError::bad_request("unsupported_content", detail, pointer)
    })
}
