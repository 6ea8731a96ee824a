//! What a JSON Schema says of parameters, in words.

use std::fmt::Write as _;

use serde_json::Value;

/// How deep schemas are followed, references included.
const MAX_DEPTH: usize = 4;
/// Characters of one description that count.
const MAX_DESCRIPTION_CHARS: usize = 400;
/// The most parameters that are put in words.
const MAX_WORDED: usize = 256;

/// Names and descriptions of the properties of a schema, one a line, those inside them included.
pub(super) fn words(root: &Value, schema: &Value) -> String {
    let mut lines = Vec::new();
    collect(root, schema, 0, &mut lines);
    lines.join("\n")
}

/// A schema as it is shown; nothing for none.
pub(super) fn written(schema: &Value) -> String {
    if schema.is_null() {
        String::new()
    } else {
        schema.to_string()
    }
}

/// A parameter in words.
pub(super) fn line(name: &str, description: &str) -> String {
    let mut line = name.to_owned();
    if !description.is_empty() {
        let short: String = description.chars().take(MAX_DESCRIPTION_CHARS).collect();
        let _ = write!(line, ": {}", short.replace('\n', " "));
    }
    line
}

fn collect(root: &Value, schema: &Value, depth: usize, lines: &mut Vec<String>) {
    let schema = resolve(root, schema);
    if depth >= MAX_DEPTH {
        return;
    }
    for (name, property) in schema["properties"].as_object().into_iter().flatten() {
        if lines.len() >= MAX_WORDED {
            return;
        }
        let property = resolve(root, property);
        lines.push(line(name, property["description"].as_str().unwrap_or_default()));
        collect(root, property, depth + 1, lines);
    }
    for inner in ["items", "additionalProperties"] {
        collect(root, &schema[inner], depth + 1, lines);
    }
    for choice in ["allOf", "anyOf", "oneOf"] {
        for inner in schema[choice].as_array().into_iter().flatten() {
            collect(root, inner, depth + 1, lines);
        }
    }
}

/// What a value stands for: itself, or what its `$ref` leads to inside the document.
pub(super) fn resolve<'a>(root: &'a Value, mut value: &'a Value) -> &'a Value {
    for _ in 0..MAX_DEPTH {
        let Some(pointer) = value["$ref"].as_str().and_then(|text| text.strip_prefix('#')) else {
            break;
        };
        match root.pointer(pointer) {
            Some(target) => value = target,
            None => break,
        }
    }
    value
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn properties_are_worded_through_references_and_arrays() {
        let root = json!({"defs": {"pet": {"properties": {"name": {"description": "What it\nis called"}}}}});
        let schema = json!({"properties": {"pets": {"items": {"$ref": "#/defs/pet"}}, "limit": {}}});
        let worded = words(&root, &schema);
        // Whether members keep their order is a feature of the JSON library that the whole build decides.
        let mut lines: Vec<&str> = worded.lines().collect();
        lines.sort_unstable();
        assert_eq!(lines, ["limit", "name: What it is called", "pets"]);
    }

    #[test]
    fn a_schema_that_contains_itself_ends() {
        let root = json!({"a": {"properties": {"again": {"$ref": "#/a"}}}, "b": {"$ref": "#/b"}});
        assert_eq!(words(&root, &json!({"$ref": "#/a"})).lines().count(), MAX_DEPTH);
        assert_eq!(words(&root, &json!({"$ref": "#/b"})), "");
    }
}
