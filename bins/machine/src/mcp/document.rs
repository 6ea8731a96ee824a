//! From the API document to the list of tools.

use std::collections::BTreeMap;
use std::sync::Arc;

use rmcp::model::{JsonObject, Tool, ToolAnnotations};
use serde_json::{Map, Value, json};

const SCHEMAS: &str = "#/components/schemas/";
/// References are followed to this depth; the document has no deeper ones.
const MAX_DEPTH: usize = 64;

/// A tool and the route that carries it out.
#[derive(Debug, Clone)]
pub(crate) struct Routed {
    pub(crate) tool: Tool,
    pub(crate) path: String,
}

/// Operations of a workspace that are tools too, and what they are called as such.
const MORE: [(&str, &str); 7] = [
    ("workspace_stat", "stat"),
    ("workspace_mkdir", "make_directory"),
    ("workspace_remove", "remove"),
    ("workspace_move", "move"),
    ("workspace_patch", "apply_patch"),
    ("workspace_snapshot", "snapshot"),
    ("workspace_diff", "diff"),
];

/// What a caller may be told about the effects of a tool.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Effect {
    /// Nothing changes.
    Reads,
    /// Something is added or remembered, and again is as once.
    Adds,
    /// Something may be lost.
    Changes,
    /// Anything may happen, in the sandbox.
    Executes,
}

/// Tools whose effect is known; others are taken to change things.
const EFFECTS: [(&str, Effect); 14] = [
    ("read_file", Effect::Reads),
    ("list_files", Effect::Reads),
    ("glob", Effect::Reads),
    ("grep", Effect::Reads),
    ("stat", Effect::Reads),
    ("diff", Effect::Reads),
    ("snapshot", Effect::Adds),
    ("make_directory", Effect::Adds),
    ("apply_patch", Effect::Changes),
    ("move", Effect::Changes),
    ("write_file", Effect::Changes),
    ("edit_file", Effect::Changes),
    ("remove", Effect::Changes),
    ("exec", Effect::Executes),
];

/// Every tool of a document, by name.
pub(crate) fn tools(document: &Value) -> BTreeMap<String, Routed> {
    let paths = document["paths"].as_object().into_iter().flatten();
    paths
        .filter_map(|(path, methods)| tool(document, path, methods.get("post")?))
        .map(|routed| (routed.tool.name.to_string(), routed))
        .collect()
}

fn tool(document: &Value, path: &str, operation: &Value) -> Option<Routed> {
    let tagged = operation["tags"].as_array()?.iter().any(|tag| tag == "tool");
    let id = operation["operationId"].as_str()?;
    let more = MORE.iter().find(|(operation, _)| *operation == id);
    if !(tagged || more.is_some()) || path.contains('{') {
        return None;
    }
    let name = more.map_or(id, |(_, name)| *name).to_owned();
    let words = ["summary", "description"].map(|field| operation[field].as_str().unwrap_or_default());
    let description = words.join("\n").trim().to_owned();
    let input = schema(document, &operation["requestBody"]["content"])?;
    let mut tool = Tool::new(name.clone(), description, Arc::new(input)).with_annotations(annotations(&name));
    if let Some(output) = schema(document, &operation["responses"]["200"]["content"]) {
        tool = tool.with_raw_output_schema(Arc::new(output));
    }
    let path = path.to_owned();
    Some(Routed { tool, path })
}

/// Nothing that a tool does reaches beyond the machine.
fn annotations(name: &str) -> ToolAnnotations {
    let known = EFFECTS.iter().find(|(tool, _)| *tool == name);
    let effect = known.map_or(Effect::Changes, |(_, effect)| *effect);
    let again_is_as_once = matches!(effect, Effect::Reads | Effect::Adds) || name == "write_file";
    ToolAnnotations::new()
        .read_only(effect == Effect::Reads)
        .destructive(matches!(effect, Effect::Changes | Effect::Executes))
        .idempotent(again_is_as_once)
        .open_world(false)
}

/// The schema of a JSON body, complete in itself: what it refers to is under `$defs`.
fn schema(document: &Value, content: &Value) -> Option<JsonObject> {
    let body = &content["application/json"]["schema"];
    let mut names = Vec::new();
    let root = match body["$ref"].as_str() {
        Some(reference) => named(document, reference.strip_prefix(SCHEMAS)?)?,
        None => body,
    };
    let mut root = local(root, &mut names, 0);
    let mut defs = Map::new();
    while let Some(name) = names.pop() {
        if !defs.contains_key(&name) {
            let found = local(named(document, &name)?, &mut names, 0);
            defs.insert(name, found);
        }
    }
    let object = root.as_object_mut()?;
    if object.get("type") != Some(&json!("object")) {
        return None;
    }
    if !defs.is_empty() {
        object.insert("$defs".to_owned(), defs.into());
    }
    Some(object.clone())
}

fn named<'d>(document: &'d Value, name: &str) -> Option<&'d Value> {
    document["components"]["schemas"].get(name)
}

/// A copy whose references point into its own `$defs`; their names are collected.
fn local(schema: &Value, names: &mut Vec<String>, depth: usize) -> Value {
    if depth > MAX_DEPTH {
        return Value::Bool(true);
    }
    match schema {
        Value::Object(members) => {
            let member = |(key, value): (&String, &Value)| {
                // OpenAPI's word for it is not one of JSON Schema.
                if key == "example" {
                    return ("examples".to_owned(), json!([value]));
                }
                let reference = value.as_str().filter(|_| key == "$ref");
                if let Some(name) = reference.and_then(|text| text.strip_prefix(SCHEMAS)) {
                    names.push(name.to_owned());
                    return (key.clone(), json!(format!("#/$defs/{name}")));
                }
                (key.clone(), local(value, names, depth + 1))
            };
            Value::Object(members.iter().map(member).collect())
        }
        Value::Array(items) => items.iter().map(|item| local(item, names, depth + 1)).collect(),
        other => other.clone(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn references_come_along_and_what_is_no_tool_does_not() {
        let operation = |tag: &str, schema: &str| {
            json!({"post": {"tags": [tag], "operationId": "op", "summary": "Does it.",
                "requestBody": {"content": {"application/json": {"schema": {"$ref": schema}}}},
                "responses": {"200": {"content": {"application/json": {"schema": {"type": "array"}}}}}}})
        };
        let document = json!({
            "paths": {
                "/v1/op": operation("tool", "#/components/schemas/In"),
                "/v1/other": operation("operator", "#/components/schemas/In"),
                "/v1/runs/{id}": operation("tool", "#/components/schemas/In"),
                "/v1/lost": operation("tool", "#/components/schemas/Nowhere"),
            },
            "components": {"schemas": {
                "In": {"type": "object", "properties": {"mode": {"$ref": "#/components/schemas/Mode"}}, "example": {}},
                "Mode": {"oneOf": [{"type": "string"}, {"$ref": "#/components/schemas/Mode"}]},
            }},
        });
        let tools = tools(&document);
        assert_eq!(tools.keys().collect::<Vec<_>>(), ["op"]);
        let tool = &tools["op"].tool;
        let input = tool.schema_as_json_value();
        assert_eq!(input["properties"]["mode"]["$ref"], "#/$defs/Mode");
        assert_eq!(input["$defs"]["Mode"]["oneOf"][1]["$ref"], "#/$defs/Mode");
        assert_eq!(input["examples"], json!([{}]));
        assert!(tool.output_schema.is_none(), "an array is no structured content");
        let hints = tool.annotations.clone().unwrap();
        assert_eq!(
            (hints.read_only_hint, hints.destructive_hint),
            (Some(false), Some(true))
        );
    }
}
