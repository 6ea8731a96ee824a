//! What a JSON Schema says of parameters, in words.

use std::fmt::Write as _;

use serde_json::Value;

/// How deep schemas are followed, references included.
const MAX_DEPTH: usize = 4;
/// Characters of one description that count.
const MAX_DESCRIPTION_CHARS: usize = 400;
/// The most parameters that are put in words.
const MAX_WORDED: usize = 256;
/// The most values of one parameter that are put in words.
const MAX_VALUES: usize = 32;

/// Names, descriptions and possible values of the properties of a schema, one a line, those inside them included: the
/// required ones first, each kind by name.
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
    for (name, property) in required_first(schema) {
        if lines.len() >= MAX_WORDED {
            return;
        }
        let property = resolve(root, property);
        let values = values(property).or_else(|| values(resolve(root, &property["items"])));
        lines.push(
            line(name, property["description"].as_str().unwrap_or_default()) + &values.unwrap_or_default(),
        );
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

/// The properties of a schema in an order of their own: that of JSON members depends on who read them.
fn required_first(schema: &Value) -> Vec<(&String, &Value)> {
    let is_required = |name: &str| {
        let mut required = schema["required"].as_array().into_iter().flatten();
        required.any(|other| other == name)
    };
    let properties = schema["properties"].as_object();
    let mut properties: Vec<_> = properties.into_iter().flatten().collect();
    properties.sort_by_cached_key(|(name, _)| (!is_required(name), (*name).clone()));
    properties
}

/// The values that a property can have, if they are texts.
fn values(property: &Value) -> Option<String> {
    let values = property["enum"].as_array()?.iter().filter_map(Value::as_str);
    let values: Vec<&str> = values.take(MAX_VALUES).collect();
    (!values.is_empty()).then(|| {
        let all = values.join(", ");
        let short: String = all.chars().take(MAX_DESCRIPTION_CHARS).collect();
        format!(" ({})", short.replace('\n', " "))
    })
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
        assert_eq!(words(&root, &schema), "limit\npets\nname: What it is called");
    }

    #[test]
    fn what_is_required_comes_first_and_values_are_worded() {
        let schema = json!({
            "required": ["size"],
            "properties": {
                "milk": {"description": "Which milk", "enum": ["oat", "coconut", 3, null]},
                "extras": {"items": {"enum": ["ice"]}},
                "size": {"enum": ["small", "large"]},
                "hot": {"enum": [true, false]},
            }
        });
        assert_eq!(
            words(&schema, &schema),
            "size (small, large)\nextras (ice)\nhot\nmilk: Which milk (oat, coconut)"
        );
        let many: Vec<String> = (0..100).map(|n| format!("value-{n:03}")).collect();
        let schema = json!({"properties": {"one": {"enum": many}}});
        assert!(words(&schema, &schema).ends_with("value-031)"));
    }

    #[test]
    fn a_schema_that_contains_itself_ends() {
        let root = json!({"a": {"properties": {"again": {"$ref": "#/a"}}}, "b": {"$ref": "#/b"}});
        assert_eq!(words(&root, &json!({"$ref": "#/a"})).lines().count(), MAX_DEPTH);
        assert_eq!(words(&root, &json!({"$ref": "#/b"})), "");
    }
}
