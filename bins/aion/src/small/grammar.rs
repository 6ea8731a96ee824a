//! The answer's grammar, narrowed to what is to be decided.

use serde_json::{Map, Value, json};

/// The longest text that a small model is let write, in characters.
const MAX_CONTENT: u64 = 240;
/// The longest of the other texts.
const MAX_TEXT: u64 = 80;

/// What an answer may name; an empty list leaves its argument as it is.
#[derive(Debug, Clone, Default)]
pub(super) struct Open {
    /// Files.
    pub(super) paths: Vec<String>,
    /// Words that can be replaced.
    pub(super) words: Vec<String>,
}

/// One action of the loop's schema.
#[derive(Debug, Clone)]
pub(super) struct Choice {
    /// The tool.
    pub(super) tool: String,
    arguments: Value,
    definitions: Option<Value>,
}

/// The first action of an answer's schema other than `except`, or `except` if there is no other.
pub(super) fn first_choice(schema: &Value, except: &str) -> Option<Choice> {
    let choices = schema.get("anyOf")?.as_array()?;
    let read = |choice: &Value| {
        let properties = choice.get("properties")?;
        Some(Choice {
            tool: properties.get("action")?.get("const")?.as_str()?.to_owned(),
            arguments: properties.get("arguments")?.clone(),
            definitions: schema.get("$defs").cloned(),
        })
    };
    let mut found = choices.iter().filter_map(read);
    let first = found.next()?;
    if first.tool != except {
        return Some(first);
    }
    Some(found.next().unwrap_or(first))
}

impl Choice {
    /// The schema of an answer that makes this choice, with required arguments alone, and those only
    /// from what `open` lists.
    pub(super) fn narrowed(&self, open: &Open) -> Value {
        let mut schema = json!({
            "type": "object",
            "properties": {"action": {"const": self.tool}, "arguments": self.narrowed_arguments(open)},
            "required": ["action", "arguments"],
            "additionalProperties": false,
        });
        if let Some(definitions) = &self.definitions {
            schema["$defs"] = definitions.clone();
        }
        schema
    }

    fn narrowed_arguments(&self, open: &Open) -> Value {
        let properties = self.arguments.get("properties").and_then(Value::as_object);
        let required = self.arguments.get("required").and_then(Value::as_array);
        let (Some(properties), Some(required)) = (properties, required) else {
            return self.arguments.clone();
        };
        let mut names: Vec<&str> = required.iter().filter_map(Value::as_str).collect();
        names.sort_by_key(|name| *name != "path");
        let kept: Map<String, Value> = names
            .iter()
            .filter_map(|name| Some(((*name).to_owned(), narrow(name, properties.get(*name)?, open))))
            .collect();
        json!({"type": "object", "properties": kept, "required": names, "additionalProperties": false})
    }
}

fn narrow(name: &str, schema: &Value, open: &Open) -> Value {
    let is_text = schema.get("type").and_then(Value::as_str) == Some("string");
    match name {
        "path" if !open.paths.is_empty() => json!({"enum": open.paths}),
        "old" if !open.words.is_empty() => json!({"enum": open.words}),
        "content" if is_text => json!({"type": "string", "maxLength": MAX_CONTENT}),
        _ if is_text => json!({"type": "string", "maxLength": MAX_TEXT}),
        _ => schema.clone(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn loop_schema() -> Value {
        let choice = |name: &str, arguments: Value| json!({"type": "object", "properties": {"action": {"const": name}, "arguments": arguments}});
        json!({"anyOf": [
            choice("finish", json!({})),
            choice("edit_file", json!({"type": "object", "required": ["new", "old", "path"], "properties": {
                "new": {"type": "string"}, "old": {"type": "string"}, "path": {"type": "string"},
                "all": {"type": "boolean"}}})),
        ]})
    }

    #[test]
    fn what_is_narrowed_is_a_part_of_what_was_allowed() {
        let choice = first_choice(&loop_schema(), "finish").unwrap();
        assert_eq!(choice.tool, "edit_file");
        let open = Open {
            paths: vec!["a.txt".to_owned()],
            words: Vec::new(),
        };
        let schema = choice.narrowed(&open);
        let arguments = &schema["properties"]["arguments"];
        assert_eq!(arguments["properties"]["path"], json!({"enum": ["a.txt"]}));
        assert_eq!(arguments["properties"]["old"]["maxLength"], MAX_TEXT);
        assert!(arguments["properties"].get("all").is_none());
        assert_eq!(arguments["required"][0], "path");
    }

    #[test]
    fn finish_is_taken_when_there_is_nothing_else() {
        let schema = json!({"anyOf": [{"properties": {"action": {"const": "finish"}, "arguments": {}}}]});
        assert_eq!(first_choice(&schema, "finish").unwrap().tool, "finish");
        assert!(first_choice(&json!({}), "finish").is_none());
    }
}
