//! Resolved tasks as training text: `train.jsonl`, `val.jsonl`, `replay.jsonl`.
//!
//! Only tasks that completed or failed count. All tasks of one tree go to the same side of the split,
//! so nothing leaks from train to val; duplicates are dropped by the digest of their messages; secrets
//! are redacted before the digest is taken; the same traces give the same bytes.

mod gather;
mod redact;
mod write;

use std::collections::BTreeSet;

use aion_types::{
    Format, MarketTrace, MessageRecord, PersistenceSummary, Status, TaskRecord, TraceMessage, TraceMeta,
    TraceRecord,
};
use serde_json::{Value, json};

pub use gather::{MarketTraces, gather};
pub use redact::{REDACTED, Redactor};
pub use write::{TraceFiles, read_lines};

use crate::canonical::{canonical_json, digest};

/// A resolved task with everything that its trace needs.
#[derive(Debug, Clone, PartialEq)]
pub struct ResolvedTask {
    /// The task, in its last state.
    pub task: TaskRecord,
    /// Its messages, in order.
    pub messages: Vec<MessageRecord>,
    /// `R_T`
    pub task_ratio: f64,
    /// What the market said of it.
    pub market: Option<MarketTrace>,
}

/// How traces become lines.
#[derive(Debug, Clone)]
pub struct ExportOptions {
    val_permille: u64,
    replay_permille: u64,
    failed_weight: f64,
    redactor: Redactor,
}

impl Default for ExportOptions {
    fn default() -> Self {
        Self {
            val_permille: 100,
            replay_permille: 250,
            failed_weight: 0.25,
            redactor: Redactor::default(),
        }
    }
}

impl ExportOptions {
    /// Sets how many of a thousand trees go to val (100).
    #[must_use]
    pub fn with_val_permille(mut self, permille: u64) -> Self {
        self.val_permille = permille;
        self
    }

    /// Sets how many of a thousand training lines are sampled for replay (250).
    #[must_use]
    pub fn with_replay_permille(mut self, permille: u64) -> Self {
        self.replay_permille = permille;
        self
    }

    /// Sets the weight of tasks that failed (0.25; completed ones have 1). Ours: a failure teaches what
    /// the tools answer, and little of what to do.
    #[must_use]
    pub fn with_failed_weight(mut self, weight: f64) -> Self {
        self.failed_weight = weight.max(0.0);
        self
    }

    /// Sets what is taken out.
    #[must_use]
    pub fn with_redactor(mut self, redactor: Redactor) -> Self {
        self.redactor = redactor;
        self
    }
}

/// The lines of the three files.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct Export {
    /// To train on.
    pub train: Vec<TraceRecord>,
    /// To measure on; no tree of it is in train.
    pub val: Vec<TraceRecord>,
    /// A sample of the training lines, to mix into later training against forgetting.
    pub replay: Vec<TraceRecord>,
    /// Tasks that were not resolved, or said nothing.
    pub skipped: usize,
    /// Tasks whose messages were there already.
    pub duplicates: usize,
}

/// Sorts resolved tasks into the three files.
///
/// ```
/// use aion_loop::{ExportOptions, export};
/// assert!(export([], &ExportOptions::default()).train.is_empty());
/// ```
///
/// # Sources
/// `docs/formats.md`, the training corpora.
pub fn export(tasks: impl IntoIterator<Item = ResolvedTask>, options: &ExportOptions) -> Export {
    let mut tasks: Vec<ResolvedTask> = tasks.into_iter().collect();
    tasks.sort_by_key(|resolved| resolved.task.id);
    let mut export = Export::default();
    let mut seen = BTreeSet::new();
    for resolved in tasks {
        let Some(record) = record(&resolved, options) else {
            export.skipped += 1;
            continue;
        };
        if !seen.insert(record.id.clone()) {
            export.duplicates += 1;
        } else if falls_within("split", resolved.task.root_id.as_bytes(), options.val_permille) {
            export.val.push(record);
        } else {
            if falls_within("replay", record.id.as_bytes(), options.replay_permille) {
                export.replay.push(record.clone());
            }
            export.train.push(record);
        }
    }
    export
}

/// Whether the hash of `id` is among the lowest `permille` of a thousand.
fn falls_within(purpose: &str, id: &[u8], permille: u64) -> bool {
    let hex = digest(&[purpose.as_bytes(), id]);
    let head = u64::from_str_radix(&hex[..8], 16).unwrap_or(u64::MAX);
    head * 1_000 < permille << 32
}

fn record(resolved: &ResolvedTask, options: &ExportOptions) -> Option<TraceRecord> {
    let weight = match resolved.task.status {
        Status::Completed => 1.0,
        Status::Failed => options.failed_weight,
        _ => return None,
    };
    let messages: Vec<TraceMessage> = resolved
        .messages
        .iter()
        .map(|message| trace_message(message, &options.redactor))
        .collect();
    if messages.is_empty() {
        return None;
    }
    Some(TraceRecord {
        format: Format::default(),
        id: messages_digest(&messages),
        weight,
        meta: TraceMeta {
            task_id: resolved.task.id,
            status: resolved.task.status,
            task_ratio: resolved.task_ratio,
            persistence: combined(&messages),
            market: resolved.market,
        },
        messages,
    })
}

fn trace_message(message: &MessageRecord, redactor: &Redactor) -> TraceMessage {
    let mut calls = message.tool_calls.clone();
    for call in &mut calls {
        call.arguments = redactor.redact(&call.arguments);
    }
    TraceMessage {
        role: message.role,
        content: redactor.redact(&message.content),
        tool_calls: calls,
        tool_call_id: message.tool_call_id.clone(),
        persistence: message.persistence.clone(),
    }
}

/// The digest by which duplicates are known: what was said, not how surprised the model was by it.
fn messages_digest(messages: &[TraceMessage]) -> String {
    let plain: Vec<Value> = messages
        .iter()
        .map(|message| {
            json!({"role": message.role, "content": message.content, "tool_calls": message.tool_calls,
                "tool_call_id": message.tool_call_id})
        })
        .collect();
    digest(&[canonical_json(&Value::Array(plain)).as_bytes()])
}

fn combined(messages: &[TraceMessage]) -> Option<PersistenceSummary> {
    let parts = messages.iter().filter_map(|message| {
        let value = serde_json::to_value(message.persistence.as_ref()?).ok()?;
        serde_json::from_value::<PersistenceSummary>(value)
            .ok()
            .filter(|summary| summary.n > 0)
    });
    parts.reduce(concatenated)
}

/// The summary of two sequences one after the other.
fn concatenated(a: PersistenceSummary, b: PersistenceSummary) -> PersistenceSummary {
    let n = (a.n + b.n) as f64;
    let (wa, wb) = (a.n as f64 / n, b.n as f64 / n);
    let mean = wa * a.r_mean + wb * b.r_mean;
    let spread = |part: &PersistenceSummary| part.r_var + (part.r_mean - mean).powi(2);
    let first_is_least = a.r_min <= b.r_min;
    let whole = PersistenceSummary {
        r_mean: mean,
        r_min: a.r_min.min(b.r_min),
        r_var: wa * spread(&a) + wb * spread(&b),
        r_min_token_idx: if first_is_least {
            a.r_min_token_idx
        } else {
            a.n + b.r_min_token_idx
        },
        r_harm: 1.0 / (wa / a.r_harm + wb / b.r_harm),
        r_geo: (wa * a.r_geo.ln() + wb * b.r_geo.ln()).exp(),
        frac_below_1: wa * a.frac_below_1 + wb * b.frac_below_1,
        reference: a.reference,
        n: a.n + b.n,
        p: None,
        calibration: None,
    };
    match a
        .calibration
        .filter(|calibration| b.calibration == Some(*calibration))
    {
        Some(calibration) => whole.calibrated(calibration),
        None => whole,
    }
}

#[cfg(test)]
mod tests {
    use aion_types::Reference;

    use super::*;

    /// The summary of a concatenation is the summary of the whole.
    #[test]
    fn summaries_concatenate() {
        let ratios = [4.3, 0.5, 1.3, 2.2, 0.9];
        let of = |part: &[f64]| PersistenceSummary::of(part, Reference::Uniform).unwrap().unwrap();
        let (joined, whole) = (concatenated(of(&ratios[..1]), of(&ratios[1..])), of(&ratios));
        assert_eq!(
            (joined.n, joined.r_min_token_idx),
            (whole.n, whole.r_min_token_idx)
        );
        for (a, b) in [
            (joined.r_mean, whole.r_mean),
            (joined.r_var, whole.r_var),
            (joined.r_harm, whole.r_harm),
            (joined.r_geo, whole.r_geo),
            (joined.frac_below_1, whole.frac_below_1),
        ] {
            assert!((a - b).abs() < 1e-12, "{a} {b}");
        }
    }
}
