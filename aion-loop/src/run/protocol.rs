//! The two protocols: how a prompt is built, and how calls are read out of an answer.

use aion_types::{Role, ToolCall};
use serde_json::{Map, Value, json};

use super::{Claim, Protocol, RunOptions};
use crate::budget::estimate_tokens;
use crate::canonical::{canonical_json, clip};
use crate::diff::render_state;
use crate::model::{ChatMessage, ChatReply, ChatRequest, FinishReason, ResponseSchema, ToolSpec};
use crate::tool::{Tool, Toolset};

/// The tool that ends a run; it is no operation of a service.
pub const FINISH: &str = "finish";

const HOW_TO_ANSWER: &str = "Answer with one JSON object {\"action\": NAME, \"arguments\": {...}}: one action at a \
time. Use finish when the goal is reached or cannot be reached.";

const FINISH_LINE: &str = "- finish(status, summary): End the task with SUCCESS or FAILED.";

/// Tokens that a chat template adds to each message, about.
const MESSAGE_TOKENS: u64 = 8;

/// What a prompt is made of.
pub(super) struct Prompt<'r> {
    pub(super) options: &'r RunOptions,
    pub(super) tools: &'r Toolset,
    pub(super) goal: &'r str,
    pub(super) steps: &'r [Vec<ChatMessage>],
    pub(super) state: Option<&'r Value>,
    pub(super) shortlist: &'r [String],
}

impl Prompt<'_> {
    /// The request but for its limit on tokens, and about how many tokens it has.
    pub(super) fn build(&self) -> (ChatRequest, u64) {
        let (tools, response_schema) = match self.options.protocol {
            Protocol::Native => (self.native_tools(), None),
            Protocol::JsonSchema => (Vec::new(), Some(action_form(&self.named_tools()))),
        };
        let tool_tokens = estimate_tokens(tools.iter().map(spec_bytes).sum());
        let messages = self.messages(tool_tokens);
        let tokens = tool_tokens + messages.iter().map(message_tokens).sum::<u64>();
        let request = ChatRequest {
            messages,
            tools,
            response_schema,
            max_tokens: self.options.max_output_tokens,
            temperature: self.options.temperature,
            seed: self.options.seed,
        };
        (request, tokens)
    }

    /// Rules and goal, then as many of the newest steps as fit beside `fixed` tokens, then the tail.
    fn messages(&self, fixed: u64) -> Vec<ChatMessage> {
        let head = [
            ChatMessage::new(Role::System, self.system()),
            ChatMessage::new(Role::User, format!("Goal: {}", self.goal)),
        ];
        let tail = self.tail();
        let around = head.iter().map(message_tokens).sum::<u64>() + estimate_tokens(tail.len());
        let kept = self.fitting(fixed + around);
        let newest = self.steps[self.steps.len() - kept..].iter().flatten();
        let tail = Some(tail).filter(|tail| !tail.is_empty());
        let mut messages = Vec::new();
        head.into_iter()
            .chain(newest.map(|message| self.rendered(message)))
            .chain(tail.map(|tail| ChatMessage::new(Role::User, tail)))
            .for_each(|message| push(&mut messages, message));
        messages
    }

    /// The tools that the prompt names: all, or the core and the shortlist.
    fn named_tools(&self) -> Vec<&Tool> {
        if self.options.shortlist.is_none() {
            return self.tools.iter().collect();
        }
        let mut named = self.core_tools();
        named.extend(self.short_tools());
        named
    }

    /// The core in its stable order; all tools where there is no shortlist.
    fn core_tools(&self) -> Vec<&Tool> {
        let all = self.options.shortlist.is_none();
        let is_core = |tool: &&Tool| all || self.options.core.contains(&tool.name);
        self.tools.iter().filter(is_core).collect()
    }

    /// What the ranker chose beyond the core, best first.
    fn short_tools(&self) -> Vec<&Tool> {
        let Some(k) = self.options.shortlist else {
            return Vec::new();
        };
        let beyond = self
            .shortlist
            .iter()
            .filter(|name| !self.options.core.contains(name));
        beyond.filter_map(|name| self.tools.get(name)).take(k).collect()
    }

    /// All tools in one order for the whole run, so that a server's prefix cache holds; too many are
    /// cut down to the named ones.
    fn native_tools(&self) -> Vec<ToolSpec> {
        let tools: Vec<&Tool> = if self.tools.len() <= self.options.max_native_tools {
            self.tools.iter().collect()
        } else {
            let named = self.named_tools();
            named.into_iter().take(self.options.max_native_tools).collect()
        };
        let finish = ToolSpec {
            name: FINISH.to_owned(),
            description: "Ends the task. Call it alone, when the goal is reached or cannot be reached."
                .to_owned(),
            parameters: finish_schema(),
        };
        tools.into_iter().map(Tool::spec).chain([finish]).collect()
    }

    fn system(&self) -> String {
        let mut parts = Vec::new();
        if !self.options.system.is_empty() {
            parts.push(self.options.system.clone());
        }
        if self.options.protocol == Protocol::JsonSchema {
            parts.push(HOW_TO_ANSWER.to_owned());
            let core = self.core_tools();
            let lines = core
                .iter()
                .map(|tool| self.line(tool))
                .chain([FINISH_LINE.to_owned()]);
            parts.push(format!("Actions:\n{}", lines.collect::<Vec<_>>().join("\n")));
        } else if parts.is_empty() {
            parts.push(
                "Reach the goal by calling tools. Call finish when it is reached or cannot be.".to_owned(),
            );
        }
        parts.join("\n")
    }

    /// The end of the prompt: what changes with every step.
    fn tail(&self) -> String {
        let mut parts = Vec::new();
        if let Some(state) = self.state.filter(|_| self.options.state_bytes > 0) {
            parts.push(format!(
                "State: {}",
                render_state(state, self.options.state_bytes)
            ));
        }
        let short = self.short_tools();
        if !short.is_empty() {
            let lines: Vec<String> = match self.options.protocol {
                Protocol::JsonSchema => short.iter().map(|tool| self.line(tool)).collect(),
                Protocol::Native => short.iter().map(|tool| format!("- {}", tool.name)).collect(),
            };
            parts.push(format!("Useful now:\n{}", lines.join("\n")));
        }
        parts.join("\n")
    }

    fn line(&self, tool: &Tool) -> String {
        let first = tool.description.lines().next().unwrap_or_default();
        format!(
            "- {}: {}",
            tool.signature(),
            clip(first, self.options.description_bytes)
        )
    }

    /// How many of the newest steps fit the context beside `fixed` tokens and the answer.
    fn fitting(&self, fixed: u64) -> usize {
        let room = self
            .options
            .context_tokens
            .saturating_sub(fixed + u64::from(self.options.max_output_tokens));
        let mut used = 0;
        let newest = self.steps.iter().rev().take(self.options.history_steps);
        newest
            .take_while(|step| {
                used += step.iter().map(message_tokens).sum::<u64>();
                used <= room
            })
            .count()
    }

    /// A message of the history in the words of the protocol.
    fn rendered(&self, message: &ChatMessage) -> ChatMessage {
        match (self.options.protocol, message.role) {
            (Protocol::JsonSchema, Role::Assistant) if !message.tool_calls.is_empty() => {
                let lines: Vec<String> = message.tool_calls.iter().map(action_text).collect();
                ChatMessage::new(Role::Assistant, lines.join("\n"))
            }
            (Protocol::JsonSchema, Role::Tool) => {
                ChatMessage::new(Role::User, format!("Result: {}", message.content))
            }
            _ => message.clone(),
        }
    }
}

/// Adds a message; two of the user in a row become one, since many templates insist on turns.
fn push(messages: &mut Vec<ChatMessage>, message: ChatMessage) {
    match messages.last_mut() {
        Some(last) if last.role == Role::User && message.role == Role::User => {
            last.content.push('\n');
            last.content.push_str(&message.content);
        }
        _ => messages.push(message),
    }
}

fn message_tokens(message: &ChatMessage) -> u64 {
    MESSAGE_TOKENS + estimate_tokens(message.bytes())
}

fn spec_bytes(tool: &ToolSpec) -> usize {
    tool.name.len() + tool.description.len() + tool.parameters.to_string().len()
}

fn action_text(call: &ToolCall) -> String {
    let name = Value::from(call.name.as_str());
    format!("{{\"action\":{name},\"arguments\":{}}}", call.arguments)
}

fn finish_schema() -> Value {
    json!({"type": "object", "required": ["status", "summary"], "additionalProperties": false, "properties": {
        "status": {"enum": ["SUCCESS", "FAILED"]},
        "summary": {"type": "string", "maxLength": 200},
    }})
}

fn action_form(tools: &[&Tool]) -> ResponseSchema {
    ResponseSchema {
        name: "action".to_owned(),
        schema: action_schema(tools),
    }
}

/// One schema for every answer: any of the tools with its arguments, or `finish`.
///
/// `action` sorts before `arguments`, so that a server that generates members in either order names
/// the tool first.
fn action_schema(tools: &[&Tool]) -> Value {
    let mut definitions = Map::new();
    let mut choices: Vec<Value> = Vec::new();
    for tool in tools {
        let mut schema = tool.schema.clone();
        let own = schema.as_object_mut().and_then(|object| object.remove("$defs"));
        let prefix = format!("{}.", tool.name);
        for (name, mut definition) in own
            .as_ref()
            .and_then(Value::as_object)
            .cloned()
            .unwrap_or_default()
        {
            move_references(&mut definition, &prefix);
            definitions.insert(format!("{prefix}{name}"), definition);
        }
        move_references(&mut schema, &prefix);
        choices.push(choice(&tool.name, &schema));
    }
    choices.push(choice(FINISH, &finish_schema()));
    let mut schema = json!({"anyOf": choices});
    if !definitions.is_empty() {
        schema["$defs"] = Value::Object(definitions);
    }
    schema
}

fn choice(name: &str, arguments: &Value) -> Value {
    json!({"type": "object", "required": ["action", "arguments"], "additionalProperties": false,
        "properties": {"action": {"const": name}, "arguments": arguments}})
}

/// Points references at definitions that got a prefix.
fn move_references(schema: &mut Value, prefix: &str) {
    match schema {
        Value::Object(object) => {
            for (key, value) in object {
                match value {
                    Value::String(pointer) if key == "$ref" => {
                        if let Some(name) = pointer.strip_prefix("#/$defs/") {
                            *pointer = format!("#/$defs/{prefix}{name}");
                        }
                    }
                    value => move_references(value, prefix),
                }
            }
        }
        Value::Array(items) => items.iter_mut().for_each(|item| move_references(item, prefix)),
        _ => {}
    }
}

/// What an answer comes to.
#[derive(Debug, PartialEq)]
pub(super) enum Decision {
    /// Calls, each checked.
    Calls(Vec<(String, Map<String, Value>)>),
    /// The end.
    Finish { claim: Claim, summary: String },
    /// Nothing that can be done, and why; with the calls that it was about.
    Invalid { reason: String, calls: Vec<ToolCall> },
}

fn invalid(reason: impl Into<String>) -> Decision {
    Decision::Invalid {
        reason: reason.into(),
        calls: Vec::new(),
    }
}

/// Reads an answer. Nothing comes of one that is not known to be complete.
pub(super) fn decide(reply: &ChatReply, options: &RunOptions, tools: &Toolset) -> Decision {
    match reply.finish {
        FinishReason::Missing => return invalid("the answer broke off"),
        FinishReason::ContentFilter => return invalid("the answer was filtered"),
        _ => {}
    }
    let calls = if reply.tool_calls.is_empty() && options.protocol == Protocol::JsonSchema {
        match action_in(&reply.text) {
            Some(call) => vec![call],
            None => return invalid("the answer is not {\"action\": NAME, \"arguments\": {...}}"),
        }
    } else {
        reply.tool_calls.clone()
    };
    if calls.is_empty() {
        return last_word(reply);
    }
    check_calls(&calls, options, tools)
}

/// An answer in words: the end, unless it was cut off or says nothing.
fn last_word(reply: &ChatReply) -> Decision {
    match (reply.text.trim(), &reply.finish) {
        (_, FinishReason::Length) => invalid("the answer was cut off: be shorter"),
        ("", _) => invalid("the answer is empty: call a tool, or finish"),
        (text, _) => Decision::Finish {
            claim: Claim::Success,
            summary: text.to_owned(),
        },
    }
}

fn check_calls(calls: &[ToolCall], options: &RunOptions, tools: &Toolset) -> Decision {
    let refuse = |reason: String, calls: &[ToolCall]| Decision::Invalid {
        reason,
        calls: calls.to_vec(),
    };
    if calls.len() > options.max_calls {
        return refuse(format!("at most {} calls at a time", options.max_calls), &[]);
    }
    if let [only] = calls
        && only.name == FINISH
    {
        return match finish_of(&only.arguments) {
            Ok((claim, summary)) => Decision::Finish { claim, summary },
            Err(reason) => refuse(reason, calls),
        };
    }
    let mut checked = Vec::new();
    for call in calls {
        if call.name == FINISH {
            return refuse("finish must be called alone".to_owned(), calls);
        }
        match checked_arguments(call, tools) {
            Ok(arguments) => checked.push((call.name.clone(), arguments)),
            Err(reason) => return refuse(format!("{}: {reason}", clip(&call.name, 64)), calls),
        }
    }
    Decision::Calls(checked)
}

fn checked_arguments(call: &ToolCall, tools: &Toolset) -> Result<Map<String, Value>, String> {
    let text = call.arguments.trim();
    let value = if text.is_empty() {
        Ok(json!({}))
    } else {
        serde_json::from_str(text)
    };
    let value: Value = value.map_err(|error| format!("the arguments are not JSON ({error})"))?;
    tools.validate(&call.name, &value)?;
    match value {
        Value::Object(arguments) => Ok(arguments),
        _ => Err("the arguments are not an object".to_owned()),
    }
}

fn finish_of(arguments: &str) -> Result<(Claim, String), String> {
    let value: Value =
        serde_json::from_str(arguments).map_err(|error| format!("finish: not JSON ({error})"))?;
    let summary = value
        .get("summary")
        .and_then(Value::as_str)
        .unwrap_or_default()
        .to_owned();
    match value
        .get("status")
        .and_then(Value::as_str)
        .map(str::to_ascii_uppercase)
        .as_deref()
    {
        Some("SUCCESS") => Ok((Claim::Success, summary)),
        Some("FAILED" | "FAILURE") => Ok((Claim::Failed, summary)),
        _ => Err("finish: status is SUCCESS or FAILED".to_owned()),
    }
}

/// The first JSON object in the text that names an action, in any of the usual spellings.
fn action_in(text: &str) -> Option<ToolCall> {
    let starts = text.match_indices('{').map(|(i, _)| i).take(16);
    for start in starts {
        let mut values = serde_json::Deserializer::from_str(&text[start..]).into_iter::<Value>();
        let Some(Ok(value)) = values.next() else {
            continue;
        };
        let pick = |keys: &[&str]| keys.iter().find_map(|key| value.get(key)).cloned();
        if let Some(Value::String(name)) = pick(&["action", "name", "tool"]) {
            let arguments = pick(&["arguments", "args", "parameters", "input"]).unwrap_or_else(|| json!({}));
            return Some(ToolCall {
                id: String::new(),
                name,
                arguments: match arguments {
                    Value::String(text) => text,
                    value => canonical_json(&value),
                },
            });
        }
    }
    None
}
