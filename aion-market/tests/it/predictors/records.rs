//! Records that tests write by hand.

use aion_types::{Format, Json, MessageRecord, Role, TaskId, TaskRecord, Timestamp, ToolCall};

pub(super) fn task_id(n: u16) -> TaskId {
    let mut bytes = [0; 10];
    bytes[8..].copy_from_slice(&n.to_be_bytes());
    TaskId::from_parts(Timestamp::from_ms(i64::from(n)), bytes)
}

/// The task `n`, made at `n` and changed last at `n + 1`.
pub(super) fn task(n: u16, title: &str) -> TaskRecord {
    let id = task_id(n).to_string();
    let record = serde_json::json!({
        "id": id, "root_id": id, "depth": 0, "kind": "chat", "queue": "q", "title": title, "spec": "",
        "status": "READY", "priority": 0, "lease_epoch": 0, "attempt": 1, "max_attempts": 3,
        "crash_count": 0, "open_children": 0, "waiting_on": 0, "version": 1,
        "created_at": i64::from(n), "updated_at": i64::from(n) + 1,
    });
    serde_json::from_value(record).unwrap()
}

pub(super) fn message(seq: u64, role: Role, content: &str) -> MessageRecord {
    MessageRecord {
        format: Format::default(),
        task_id: task_id(1),
        seq,
        role,
        content: content.to_owned(),
        tool_calls: Vec::new(),
        tool_call_id: None,
        persistence: None,
        created_at: Timestamp::from_ms(seq as i64 * 1_000),
    }
}

pub(super) fn call(seq: u64, tool: &str, arguments: &str) -> MessageRecord {
    let id = format!("call {seq}");
    let (name, arguments) = (tool.to_owned(), arguments.to_owned());
    MessageRecord {
        tool_calls: vec![ToolCall { id, name, arguments }],
        ..message(seq, Role::Assistant, "")
    }
}

pub(super) fn reported(seq: u64, harm: f64, min: f64) -> MessageRecord {
    MessageRecord {
        persistence: Some(Json::object([
            ("n", Json::Int(10)),
            ("R_harm", Json::Float(harm)),
            ("R_min", Json::Float(min)),
        ])),
        ..message(seq, Role::Assistant, "hm")
    }
}
