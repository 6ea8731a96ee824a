//! The API document: complete and sound.

use std::collections::BTreeSet;

use serde_json::Value;

fn document() -> Value {
    serde_json::from_str(&aion_router_server::openapi_json().unwrap()).unwrap()
}

#[test]
fn every_operation_is_named_and_described() {
    let document = document();
    let mut names = BTreeSet::new();
    for item in document["paths"].as_object().unwrap().values() {
        for operation in item.as_object().unwrap().values().filter(|o| o.is_object()) {
            let name = operation["operationId"].as_str().unwrap();
            assert!(names.insert(name.to_owned()), "{name} twice");
            assert!(
                operation["summary"].as_str().is_some_and(|text| !text.is_empty()),
                "{name}"
            );
        }
    }
    let wanted = [
        "put_items",
        "list_items",
        "get_item",
        "remove_item",
        "approve_item",
        "list_item_changes",
        "import_items",
        "rank_items",
        "explain_decision",
        "record_outcome",
        "evaluate_policy",
        "embed_texts",
        "router_stats",
    ];
    for name in wanted {
        assert!(names.contains(name), "{name}");
    }
}

#[test]
fn every_reference_leads_somewhere() {
    fn check(root: &Value, value: &Value) {
        if let Some(reference) = value["$ref"].as_str() {
            assert!(root.pointer(&reference[1..]).is_some(), "{reference}");
        }
        match value {
            Value::Object(members) => members.values().for_each(|value| check(root, value)),
            Value::Array(items) => items.iter().for_each(|value| check(root, value)),
            _ => {}
        }
    }
    let document = document();
    check(&document, &document);
}
