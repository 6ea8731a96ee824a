//! The committed API documents equal what the services serve.
//!
//! With `AION_WRITE_OPENAPI` set (`cargo xtask openapi`) the documents are written instead.

use std::path::PathBuf;

use serde_json::Value;
use xtask::command::workspace_root;
use xtask::openapi::WRITE_VARIABLE;

fn machine() -> String {
    let dir = tempfile::tempdir().unwrap();
    let options = aion_machine_server::MachineOptions::new(dir.path());
    aion_machine_server::service(options).unwrap().openapi_json()
}

fn router() -> String {
    aion_router_server::openapi_json().unwrap()
}

/// A service and what writes its document.
type Service = (&'static str, fn() -> String);

/// Every service.
const SERVICES: [Service; 6] = [
    ("processor", aion_processor_server::openapi_json),
    ("machine", machine),
    ("market", aion_market_server::openapi_json),
    ("loop", aion_loop_server::openapi_json),
    ("llm", aion_llm_server::openapi_json),
    ("router", router),
];

fn committed(name: &str) -> PathBuf {
    workspace_root().join("openapi").join(format!("{name}.json"))
}

#[test]
fn openapi_documents_equal_what_is_served() {
    let writing = std::env::var_os(WRITE_VARIABLE).is_some();
    let mut drifted = Vec::new();
    for (name, document) in SERVICES {
        let (path, served) = (committed(name), document());
        if writing {
            std::fs::create_dir_all(path.parent().unwrap()).unwrap();
            std::fs::write(&path, &served).unwrap();
        } else if std::fs::read_to_string(&path).unwrap_or_default() != served {
            drifted.push(name);
        }
    }
    assert!(
        drifted.is_empty(),
        "openapi/{drifted:?}.json differ from what is served: `cargo xtask openapi`"
    );
}

#[test]
fn openapi_operations_have_unique_ids_and_lead_somewhere() {
    for (name, document) in SERVICES {
        let document: Value = serde_json::from_str(&document()).unwrap();
        let mut ids: Vec<_> = operations(&document)
            .map(|operation| operation["operationId"].to_string())
            .collect();
        let count = ids.len();
        assert!(count > 5, "{name} has only the shared operations");
        ids.sort_unstable();
        ids.dedup();
        assert_eq!(ids.len(), count, "{name} uses an operation id twice");
        let mut broken = Vec::new();
        broken_references(&document, &document, &mut broken);
        assert!(broken.is_empty(), "{name}: {broken:?}");
    }
}

fn operations(document: &Value) -> impl Iterator<Item = &Value> {
    let items = document["paths"].as_object().unwrap().values();
    items
        .flat_map(|item| item.as_object().unwrap().values())
        .filter(|value| value.get("responses").is_some())
}

fn broken_references(root: &Value, value: &Value, broken: &mut Vec<String>) {
    match value {
        Value::Object(fields) => {
            let reference = fields.get("$ref").and_then(Value::as_str);
            let pointer = reference.and_then(|reference| reference.strip_prefix('#'));
            if pointer.is_some_and(|pointer| root.pointer(pointer).is_none()) {
                broken.push(reference.unwrap().to_owned());
            }
            fields
                .values()
                .for_each(|field| broken_references(root, field, broken));
        }
        Value::Array(items) => items
            .iter()
            .for_each(|item| broken_references(root, item, broken)),
        _ => {}
    }
}
