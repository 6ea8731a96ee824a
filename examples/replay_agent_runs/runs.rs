//! Recorded runs: read from files, or made up.

use std::path::PathBuf;

use aion_types::{Role, ToolCall};
use serde_json::Value;

use crate::Failure;

/// One message of a run.
pub(crate) struct Said {
    pub(crate) role: Role,
    pub(crate) content: String,
    pub(crate) tool_calls: Vec<ToolCall>,
    pub(crate) tool_call_id: Option<String>,
}

/// One run of one task.
pub(crate) struct Run {
    pub(crate) task: u64,
    pub(crate) trial: u64,
    pub(crate) success: bool,
    pub(crate) messages: Vec<Said>,
}

impl Said {
    fn new(role: Role, content: impl Into<String>) -> Self {
        Self {
            role,
            content: content.into(),
            tool_calls: Vec::new(),
            tool_call_id: None,
        }
    }
}

/// Reads files of one run a line.
pub(crate) fn read(files: &[PathBuf]) -> Result<Vec<Run>, Failure> {
    let mut runs = Vec::new();
    for file in files {
        for (n, line) in (1..).zip(std::fs::read_to_string(file)?.lines()) {
            let value: Value = serde_json::from_str(line)?;
            let run = run_of(&value);
            runs.push(run.ok_or_else(|| format!("{}:{n} is no run", file.display()))?);
        }
    }
    Ok(runs)
}

fn run_of(value: &Value) -> Option<Run> {
    Some(Run {
        task: value["task_id"].as_u64()?,
        trial: value["trial"].as_u64()?,
        success: value["reward"].as_f64()? >= 0.5,
        messages: value["messages"]
            .as_array()?
            .iter()
            .map(said_of)
            .collect::<Option<_>>()?,
    })
}

fn said_of(value: &Value) -> Option<Said> {
    let calls = value["tool_calls"].as_array().map_or(&[][..], Vec::as_slice);
    Some(Said {
        role: serde_json::from_value(value["role"].clone()).ok()?,
        content: value["content"].as_str().unwrap_or_default().to_owned(),
        tool_calls: calls.iter().map(call_of).collect::<Option<_>>()?,
        tool_call_id: value["tool_call_id"].as_str().map(str::to_owned),
    })
}

fn call_of(value: &Value) -> Option<ToolCall> {
    Some(ToolCall {
        id: value["id"].as_str()?.to_owned(),
        name: value["function"]["name"].as_str()?.to_owned(),
        arguments: value["function"]["arguments"].as_str()?.to_owned(),
    })
}

/// 30 tasks of three sorts, three trials each: easy, open, hard; errors are likelier where it goes wrong.
pub(crate) fn synthetic() -> Vec<Run> {
    let mut state = 11_u64;
    let mut draw = move || {
        state = state
            .wrapping_mul(6_364_136_223_846_793_005)
            .wrapping_add(1_442_695_040_888_963_407);
        (state >> 40) as f64 / (1_u64 << 24) as f64
    };
    let mut runs = Vec::new();
    for trial in 0..3 {
        for task in 0..30 {
            let success = draw() < [0.9, 0.5, 0.1][task as usize % 3];
            let steps = 3 + (draw() * 5.0) as u32;
            let mut messages = vec![Said::new(Role::User, "Put the files in order, please.")];
            for step in 0..steps {
                let id = format!("call {step}");
                let mut call = Said::new(Role::Assistant, "");
                call.tool_calls = vec![ToolCall {
                    id: id.clone(),
                    name: "list".to_owned(),
                    arguments: format!("{{\"folder\":{}}}", (draw() * 6.0) as u32),
                }];
                let fails = draw() < if success { 0.1 } else { 0.5 };
                let answer = if fails {
                    "Error: no such folder"
                } else {
                    "a.txt b.txt"
                };
                let mut answer = Said::new(Role::Tool, answer);
                answer.tool_call_id = Some(id);
                messages.extend([call, answer]);
            }
            let gives_up = draw() < if success { 0.1 } else { 0.6 };
            let last = if gives_up {
                "Sorry, I cannot do this."
            } else {
                "Done."
            };
            messages.push(Said::new(Role::Assistant, last));
            runs.push(Run {
                task,
                trial,
                success,
                messages,
            });
        }
    }
    runs
}
