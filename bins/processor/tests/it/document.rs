//! The API document: complete, sound, and true of the answers.

use std::collections::BTreeSet;

use serde_json::Value;

use crate::client::Client;

fn document() -> Value {
    serde_json::from_str(&aion_processor_server::openapi_json()).unwrap()
}

fn references(value: &Value, found: &mut BTreeSet<String>) {
    match value {
        Value::Object(members) => {
            found.extend(members.get("$ref").and_then(Value::as_str).map(str::to_owned));
            members.values().for_each(|value| references(value, found));
        }
        Value::Array(items) => items.iter().for_each(|value| references(value, found)),
        _ => {}
    }
}

#[test]
fn every_operation_is_named_and_described() {
    let document = document();
    let mut names = BTreeSet::new();
    for (path, item) in document["paths"].as_object().unwrap() {
        for (method, operation) in item
            .as_object()
            .unwrap()
            .iter()
            .filter(|(key, _)| ["get", "post", "put", "patch", "delete"].contains(&key.as_str()))
        {
            let name = operation["operationId"].as_str().unwrap();
            assert!(names.insert(name.to_owned()), "{name} twice");
            assert!(
                name.bytes().all(|c| c.is_ascii_lowercase() || c == b'_'),
                "{name}"
            );
            assert!(
                operation["summary"].as_str().is_some_and(|text| !text.is_empty()),
                "{method} {path}"
            );
        }
    }
    let wanted = [
        "create_task",
        "get_task",
        "list_tasks",
        "list_children",
        "claim_tasks",
        "heartbeat_task",
        "append_message",
        "list_messages",
        "complete_task",
        "fail_task",
        "release_task",
        "cancel_task",
        "list_events",
        "stream_events",
    ];
    for name in wanted {
        assert!(names.contains(name), "{name}");
    }
}

#[test]
fn every_reference_leads_somewhere() {
    let document = document();
    let mut found = BTreeSet::new();
    references(&document, &mut found);
    assert!(!found.is_empty());
    for reference in found {
        let pointer = reference.strip_prefix('#').unwrap();
        assert!(document.pointer(pointer).is_some(), "{reference}");
    }
}

/// An answer has exactly the members that its schema names.
#[tokio::test]
async fn answers_have_the_members_of_their_schema() {
    let client = Client::new();
    let (path, _) = client.claimed().await;
    let document = document();
    let cases = [
        ("Task", client.get(&path).await.1),
        ("Event", client.get("/v1/events").await.1["events"][0].clone()),
        ("Evidence", client.get(&format!("{path}/evidence")).await.1),
        ("TaskList", client.get("/v1/tasks").await.1),
    ];
    for (name, answer) in cases {
        let schema = &document["components"]["schemas"][name]["properties"];
        let named: BTreeSet<_> = schema.as_object().unwrap().keys().collect();
        let given: BTreeSet<_> = answer.as_object().unwrap().keys().collect();
        assert_eq!(named, given, "{name}");
    }
}
