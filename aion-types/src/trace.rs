//! Traces: what happened to a resolved task, as one line of training text.
//!
//! See `docs/math/traces.md`.

use serde::{Deserialize, Serialize};

use crate::{Bits, Format, Json, PersistenceSummary, Prob, Role, Status, TaskId, ToolCall};

/// One line of `train.jsonl`, `val.jsonl` or `replay.jsonl`: a record, or a bare list of messages.
///
/// ```
/// use aion_types::TraceLine;
///
/// let bare: TraceLine = serde_json::from_str(r#"[{"role":"user","content":"hi"}]"#)?;
/// assert_eq!(bare.messages().len(), 1);
/// # Ok::<(), serde_json::Error>(())
/// ```
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(untagged)]
pub enum TraceLine {
    /// A whole record.
    Record(Box<TraceRecord>),
    /// Messages alone, with weight 1.
    Messages(Vec<TraceMessage>),
}

impl TraceLine {
    /// The conversation.
    pub fn messages(&self) -> &[TraceMessage] {
        match self {
            Self::Record(record) => &record.messages,
            Self::Messages(messages) => messages,
        }
    }
}

/// A resolved task as a training example.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct TraceRecord {
    /// Version of this record.
    #[serde(default)]
    pub format: Format,
    /// Digest of the canonical messages, in hexadecimal.
    pub id: String,
    /// The conversation.
    pub messages: Vec<TraceMessage>,
    /// How much it counts in training, at least 0.
    pub weight: f64,
    /// Where it comes from and how it ended.
    pub meta: TraceMeta,
}

/// One message of a training example.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct TraceMessage {
    /// Who speaks.
    pub role: Role,
    /// What is said.
    pub content: String,
    /// Calls that the model asked for.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub tool_calls: Vec<ToolCall>,
    /// Which call this answers.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub tool_call_id: Option<String>,
    /// What the model server reported of its tokens.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub persistence: Option<Json>,
}

/// Where an example comes from and how it ended.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct TraceMeta {
    /// The task.
    pub task_id: TaskId,
    /// How it ended.
    pub status: Status,
    /// Its persistence ratio.
    #[serde(rename = "R_T")]
    pub task_ratio: f64,
    /// Persistence of all its assistant tokens.
    pub persistence: Option<PersistenceSummary>,
    /// What the market said of it.
    pub market: Option<MarketTrace>,
}

/// What the market said of a task.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct MarketTrace {
    /// First price of success.
    pub p_first: Prob,
    /// Last price of success before the outcome was known.
    pub p_last: Prob,
    /// 1 for success, 0 for failure; a part for a mixture.
    pub outcome: Prob,
    /// What the market gained on its first price, in bits.
    pub kl_bits: Bits,
}
