//! Records: they survive a round trip, keep what they do not know, and refuse newer formats.

use std::collections::HashSet;

use aion_types::{
    EventKind, EventRecord, Format, HandlerId, Json, MessageRecord, Role, Status, TaskId, TaskRecord,
    Timestamp, ToolCall, TraceLine,
};
use proptest::prelude::*;

fn task() -> TaskRecord {
    let id = TaskId::from_parts(Timestamp::from_ms(1_700_000_000_000), [7; 10]);
    TaskRecord {
        format: Format::default(),
        id,
        root_id: id,
        parent_id: None,
        depth: 0,
        kind: "agent.run".to_owned(),
        queue: "default".to_owned(),
        title: "Summarise".to_owned(),
        spec: "Summarise notes.txt".to_owned(),
        payload: Json::object([("dir", Json::from("notes"))]),
        status: Status::Ready,
        priority: 0,
        handler_id: Some(HandlerId::new("worker-1").unwrap()),
        lease_epoch: 1,
        lease_until: Some(Timestamp::from_ms(1)),
        attempt: 1,
        max_attempts: 3,
        crash_count: 0,
        run_after: None,
        deadline: None,
        cancel_requested: false,
        open_children: 0,
        waiting_on: 0,
        result: None,
        error: None,
        version: 1,
        created_at: Timestamp::from_ms(0),
        updated_at: Timestamp::from_ms(0),
        finished_at: None,
    }
}

#[test]
fn records_survive_a_round_trip() {
    let task = task();
    let message = MessageRecord {
        format: Format::default(),
        task_id: task.id,
        seq: 1,
        role: Role::Assistant,
        content: "done".to_owned(),
        tool_calls: vec![ToolCall {
            id: "1".into(),
            name: "exec".into(),
            arguments: "{ \"a\": 1}".into(),
        }],
        tool_call_id: None,
        persistence: Some(
            serde_json::from_str(r#"{"R_mean":2.5,"of_another_server":[1,"x",null]}"#).unwrap(),
        ),
        created_at: Timestamp::from_ms(5),
    };
    let event = EventRecord {
        format: Format::default(),
        seq: 1,
        task_id: task.id,
        root_id: task.id,
        kind: EventKind::Completed,
        body: Json::Null,
        at: Timestamp::from_ms(6),
    };
    let text = serde_json::to_string(&(&task, &message, &event)).unwrap();
    assert_eq!(
        serde_json::from_str::<(TaskRecord, MessageRecord, EventRecord)>(&text).unwrap(),
        (task, message, event)
    );
}

#[test]
fn a_newer_format_is_refused_in_words() {
    let mut json = serde_json::to_value(task()).unwrap();
    json["format"] = 2.into();
    let error = serde_json::from_value::<TaskRecord>(json)
        .unwrap_err()
        .to_string();
    assert!(
        error.contains("record format 2 is newer than the newest one known here, 1"),
        "{error}"
    );
}

#[test]
fn names_on_the_wire_are_those_of_serde() {
    for status in Status::ALL {
        assert_eq!(serde_json::to_value(status).unwrap(), status.as_str());
    }
    for kind in [
        EventKind::Created,
        EventKind::LeaseExpired,
        EventKind::CancelRequested,
    ] {
        assert_eq!(serde_json::to_value(kind).unwrap(), kind.as_str());
    }
    for role in [Role::System, Role::User, Role::Assistant, Role::Tool] {
        assert_eq!(serde_json::to_value(role).unwrap(), role.as_str());
    }
}

#[test]
fn bad_ids_are_refused() {
    for bad in [
        "",
        "x",
        "018bcfe5-6800-4707-8707-070707070707",
        "018bcfe5-6800-7707-0707-070707070707",
        "é18bcfe5-6800-7707-8707-07070707070",
    ] {
        assert!(bad.parse::<TaskId>().is_err(), "{bad}");
    }
    for bad in ["", "a b", "a\0b", &"x".repeat(129)] {
        assert!(HandlerId::new(bad).is_err(), "{bad}");
    }
}

#[test]
fn ids_are_unique_and_sort_by_time() {
    let ids: HashSet<TaskId> = (0..10_000)
        .map(|_| TaskId::generate(Timestamp::from_ms(1)))
        .collect();
    assert_eq!(ids.len(), 10_000);
    assert!(TaskId::generate(Timestamp::from_ms(1)) < TaskId::generate(Timestamp::from_ms(2)));
}

#[test]
fn a_trace_line_may_be_a_bare_list_of_messages() {
    let line: TraceLine = serde_json::from_str(r#"[{"role":"user","content":"hi"}]"#).unwrap();
    assert_eq!(line.messages()[0].role, Role::User);
    assert!(serde_json::from_str::<TraceLine>(r#"{"messages":[]}"#).is_err());
}

proptest! {
    /// An id reads back from its text and its bytes.
    #[test]
    fn ids_round_trip(ms in 0_i64..1 << 47, random in any::<[u8; 10]>()) {
        let id = TaskId::from_parts(Timestamp::from_ms(ms), random);
        prop_assert_eq!(id.to_string().parse::<TaskId>().unwrap(), id);
        prop_assert_eq!(TaskId::from_bytes(*id.as_bytes()).unwrap(), id);
        prop_assert_eq!(id.timestamp(), Timestamp::from_ms(ms));
    }

    /// Any text at all is an id or an error, never a panic.
    #[test]
    fn parsing_never_panics(text in ".{0,40}") {
        let _ = text.parse::<TaskId>();
        let _ = HandlerId::new(text);
    }
}
