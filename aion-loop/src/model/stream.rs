//! Puts the chunks of a streamed chat completion together.

use aion_types::ToolCall;
use serde_json::Value;

use super::{ChatReply, FinishReason, ModelError, Usage, wire};

/// Adds up chunks; gives a reply only if something said that the stream was complete.
///
/// Calls are told apart by index; where a server leaves the index out, or repeats 0, by their ids.
///
/// ```
/// use aion_loop::model::StreamAccumulator;
///
/// let mut stream = StreamAccumulator::default();
/// stream.push(r#"{"choices":[{"delta":{"content":"Hel"}}]}"#)?;
/// assert!(stream.clone().finish().is_err());
/// stream.push(r#"{"choices":[{"delta":{"content":"lo"},"finish_reason":"stop"}]}"#)?;
/// assert_eq!(stream.finish()?.text, "Hello");
/// # Ok::<(), aion_loop::ModelError>(())
/// ```
#[derive(Debug, Clone, Default)]
pub struct StreamAccumulator {
    text: String,
    reasoning: String,
    calls: Vec<PartialCall>,
    finish: Option<FinishReason>,
    done: bool,
    usage: Usage,
    model: Option<String>,
    events: u64,
    bytes: usize,
}

#[derive(Debug, Clone, Default)]
struct PartialCall {
    index: Option<u64>,
    id: String,
    name: String,
    arguments: String,
}

/// The most bytes of text and arguments that a stream may add up to.
const MAX_STREAM_BYTES: usize = 16 << 20;

/// The most calls in one reply.
const MAX_CALLS: usize = 256;

impl StreamAccumulator {
    /// Takes the data of one event.
    ///
    /// # Errors
    /// [`ModelError::Status`] for an error in the stream, [`ModelError::NotJson`] for something
    /// else than a chunk, [`ModelError::TooLarge`] beyond 16 MiB.
    pub fn push(&mut self, data: &str) -> Result<(), ModelError> {
        let data = data.trim();
        if data.is_empty() {
            return Ok(());
        }
        if data == "[DONE]" {
            self.done = true;
            return Ok(());
        }
        let chunk: Value =
            serde_json::from_str(data).map_err(|_| wire::not_json("text/event-stream", data.as_bytes()))?;
        if let Some(error) = wire::embedded_error(&chunk) {
            return Err(error);
        }
        self.bytes += data.len();
        if self.bytes > MAX_STREAM_BYTES {
            return Err(ModelError::TooLarge {
                limit: MAX_STREAM_BYTES,
            });
        }
        self.events += 1;
        self.take(&chunk);
        Ok(())
    }

    /// Whether the server said that nothing more comes.
    pub fn is_done(&self) -> bool {
        self.done
    }

    /// The text so far.
    pub fn text(&self) -> &str {
        &self.text
    }

    /// The whole reply.
    ///
    /// # Errors
    /// [`ModelError::StreamCut`] if neither a finish reason nor the end mark came.
    pub fn finish(self) -> Result<ChatReply, ModelError> {
        let finish = match self.finish {
            Some(reason) => reason,
            None if self.done => FinishReason::Other(String::new()),
            None => return Err(ModelError::StreamCut { events: self.events }),
        };
        let calls = self.calls.into_iter().map(|call| ToolCall {
            id: call.id,
            name: call.name,
            arguments: if call.arguments.is_empty() {
                "{}".to_owned()
            } else {
                call.arguments
            },
        });
        Ok(ChatReply {
            text: self.text,
            reasoning: self.reasoning,
            tool_calls: calls.collect(),
            finish,
            usage: self.usage,
            model: self.model,
        })
    }

    fn take(&mut self, chunk: &Value) {
        if let Some(usage) = wire::usage_of(chunk) {
            self.usage = usage;
        }
        if self.model.is_none() {
            self.model = chunk.get("model").and_then(Value::as_str).map(str::to_owned);
        }
        let Some(choice) = chunk.pointer("/choices/0") else {
            return;
        };
        if let Some(reason) = choice.get("finish_reason").and_then(Value::as_str) {
            self.finish = Some(wire::finish_reason(reason));
        }
        // Some servers send a whole message as the last chunk in place of a delta.
        if let Some(delta) = choice.get("delta").or_else(|| choice.get("message")) {
            self.text.push_str(&wire::text_of(delta.get("content")));
            self.reasoning.push_str(&wire::reasoning_of(delta));
            let calls = delta.get("tool_calls").and_then(Value::as_array);
            for call in calls.map(Vec::as_slice).unwrap_or_default() {
                self.take_call(call);
            }
        }
    }

    fn take_call(&mut self, delta: &Value) {
        let index = delta.get("index").and_then(Value::as_u64);
        let id = wire::string_at(delta, "id");
        let Some(slot) = self.slot(index, &id) else {
            return;
        };
        let call = &mut self.calls[slot];
        if call.id.is_empty() {
            call.id = id;
        }
        let function = delta.get("function").unwrap_or(delta);
        if call.name.is_empty() {
            call.name = wire::string_at(function, "name");
        }
        if let Some(part) = wire::arguments_text(function.get("arguments")) {
            call.arguments.push_str(&part);
        }
    }

    /// Which call a delta belongs to; a new one is made where none fits.
    fn slot(&mut self, index: Option<u64>, id: &str) -> Option<usize> {
        let known = self.calls.iter().rposition(|call| match index {
            Some(_) if !id.is_empty() && !call.id.is_empty() => call.index == index && call.id == id,
            Some(_) => call.index == index,
            None => id.is_empty() || call.id == id,
        });
        if known.is_none() && self.calls.len() < MAX_CALLS {
            self.calls.push(PartialCall {
                index,
                ..PartialCall::default()
            });
            return Some(self.calls.len() - 1);
        }
        known
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn calls(deltas: &[&str]) -> Vec<(String, String)> {
        let mut stream = StreamAccumulator::default();
        for delta in deltas {
            let chunk = format!(r#"{{"choices":[{{"delta":{{"tool_calls":[{delta}]}}}}]}}"#);
            stream.push(&chunk).unwrap();
        }
        stream.push("[DONE]").unwrap();
        let reply = stream.finish().unwrap();
        let pairs = reply
            .tool_calls
            .into_iter()
            .map(|call| (call.name, call.arguments));
        pairs.collect()
    }

    fn two() -> Vec<(String, String)> {
        vec![("f".into(), r#"{"a":1}"#.into()), ("g".into(), "{}".into())]
    }

    #[test]
    fn deltas_with_indexes() {
        let got = calls(&[
            r#"{"index":0,"id":"x","function":{"name":"f","arguments":"{\"a\""}}"#,
            r#"{"index":1,"id":"y","function":{"name":"g","arguments":""}}"#,
            r#"{"index":0,"function":{"arguments":":1}"}}"#,
        ]);
        assert_eq!(got, two());
    }

    #[test]
    fn deltas_without_indexes() {
        let got = calls(&[
            r#"{"id":"x","function":{"name":"f","arguments":"{\"a\""}}"#,
            r#"{"function":{"arguments":":1}"}}"#,
            r#"{"id":"y","function":{"name":"g","arguments":"{}"}}"#,
        ]);
        assert_eq!(got, two());
    }

    #[test]
    fn every_call_at_index_zero() {
        let got = calls(&[
            r#"{"index":0,"id":"x","function":{"name":"f","arguments":{"a":1}}}"#,
            r#"{"index":0,"id":"y","function":{"name":"g"}}"#,
        ]);
        assert_eq!(got, two());
    }
}
