//! Tools: what the model may call, how its arguments are checked, and where they go in a request.

use std::collections::BTreeMap;
use std::fmt;
use std::sync::{Arc, OnceLock};

use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

use crate::canonical::{canonical_json, clip, digest};
use crate::model::ToolSpec;
use crate::{Error, Result};

/// Where one argument of a tool goes in the HTTP request.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum Place {
    /// Into the path, in place of `{name}`.
    Path(String),
    /// Into the query.
    Query(String),
    /// Into a header.
    Header(String),
    /// As a member of the body object.
    BodyMember(String),
    /// As the whole body.
    Body,
}

/// What may be done when nobody knows whether a call had its effect.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum Replay {
    /// Send it again: HTTP says that repeating it changes nothing more (GET, PUT, DELETE).
    Idempotent,
    /// Send it again with the same `Idempotency-Key`: the service answers from its record.
    ByKey,
    /// Never send it again.
    Never,
}

impl Replay {
    /// Whether the same call may be sent again.
    pub const fn is_safe(self) -> bool {
        matches!(self, Self::Idempotent | Self::ByKey)
    }
}

/// One operation of a service as a tool.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Tool {
    /// The operation id: unique over all services.
    pub name: String,
    /// What it does, for the model.
    pub description: String,
    /// JSON schema of the one argument object; everything that it refers to is under its `$defs`.
    pub schema: Value,
    /// The HTTP method.
    pub method: String,
    /// The path with its `{parameters}`.
    pub path: String,
    /// The service that offers it.
    pub service: String,
    /// Whether an unanswered call may be sent again.
    pub replay: Replay,
    /// Where each argument goes.
    pub places: BTreeMap<String, Place>,
}

impl Tool {
    /// The tool as the model sees it.
    pub fn spec(&self) -> ToolSpec {
        ToolSpec {
            name: self.name.clone(),
            description: self.description.clone(),
            parameters: self.schema.clone(),
        }
    }

    /// `name(required, optional?)`: the shortest way to tell a small model how to call it.
    pub fn signature(&self) -> String {
        let required = self.schema.get("required").and_then(Value::as_array);
        let is_required = |name: &str| required.is_some_and(|list| list.iter().any(|item| item == name));
        let properties = self.schema.get("properties").and_then(Value::as_object);
        let mut names: Vec<&str> = properties
            .into_iter()
            .flatten()
            .map(|(name, _)| name.as_str())
            .collect();
        names.sort_by_key(|name| (!is_required(name), *name));
        let shown: Vec<String> = names
            .into_iter()
            .map(|name| {
                if is_required(name) {
                    name.to_owned()
                } else {
                    format!("{name}?")
                }
            })
            .collect();
        format!("{}({})", self.name, shown.join(", "))
    }

    /// The HTTP request for a call: method, path and query, headers, body.
    ///
    /// # Errors
    /// A sentence for the model when an argument cannot be placed.
    pub fn request(&self, arguments: &Map<String, Value>) -> Result<ToolRequest, String> {
        let mut request = ToolRequest {
            method: self.method.clone(),
            path_and_query: self.path.clone(),
            headers: Vec::new(),
            body: None,
        };
        let mut query = Vec::new();
        let mut members = Map::new();
        for (name, value) in arguments {
            match self.places.get(name) {
                Some(Place::Path(slot)) => request.fill_path(slot, value)?,
                Some(Place::Query(key)) => push_query(&mut query, key, value),
                Some(Place::Header(key)) => request.headers.push((key.clone(), plain(value))),
                Some(Place::BodyMember(key)) => drop(members.insert(key.clone(), value.clone())),
                Some(Place::Body) => request.body = Some(value.clone()),
                None if self.takes_body() => drop(members.insert(name.clone(), value.clone())),
                None => return Err(format!("{} takes no argument {name}", self.name)),
            }
        }
        if !query.is_empty() {
            request.path_and_query = format!("{}?{}", request.path_and_query, query.join("&"));
        }
        if request.body.is_none() && (self.takes_body() || !members.is_empty()) {
            request.body = Some(Value::Object(members));
        }
        Ok(request)
    }

    fn takes_body(&self) -> bool {
        let in_body = |place: &Place| matches!(place, Place::BodyMember(_));
        self.places.values().any(in_body) || matches!(self.method.as_str(), "POST" | "PUT" | "PATCH")
    }
}

/// What a call is over HTTP.
#[derive(Debug, Clone, PartialEq)]
pub struct ToolRequest {
    /// The method.
    pub method: String,
    /// Path and query, percent-encoded.
    pub path_and_query: String,
    /// Headers that arguments went into.
    pub headers: Vec<(String, String)>,
    /// The JSON body.
    pub body: Option<Value>,
}

impl ToolRequest {
    fn fill_path(&mut self, slot: &str, value: &Value) -> Result<(), String> {
        let text = plain(value);
        // A segment of dots would be resolved away by clients and name another resource.
        if text.is_empty() || text.chars().all(|c| c == '.') {
            return Err(format!("{slot} cannot be {text:?} in a path"));
        }
        let filled = self
            .path_and_query
            .replace(&format!("{{{slot}}}"), &percent(&text));
        self.path_and_query = filled;
        Ok(())
    }
}

fn push_query(query: &mut Vec<String>, key: &str, value: &Value) {
    let values = value
        .as_array()
        .map_or(std::slice::from_ref(value), Vec::as_slice);
    for value in values.iter().filter(|value| !value.is_null()) {
        query.push(format!("{}={}", percent(key), percent(&plain(value))));
    }
}

fn plain(value: &Value) -> String {
    value
        .as_str()
        .map_or_else(|| canonical_json(value), str::to_owned)
}

/// Percent-encodes everything but the unreserved characters (RFC 3986, section 2.3).
pub(crate) fn percent(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    for byte in text.bytes() {
        if byte.is_ascii_alphanumeric() || b"-._~".contains(&byte) {
            out.push(byte as char);
        } else {
            out.push_str(&format!("%{byte:02X}"));
        }
    }
    out
}

/// The tools of a run, by name, with their schemas compiled when first needed.
#[derive(Clone, Default)]
pub struct Toolset {
    entries: Arc<BTreeMap<String, Entry>>,
}

struct Entry {
    tool: Tool,
    validator: OnceLock<Result<jsonschema::Validator, String>>,
}

impl fmt::Debug for Toolset {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_list().entries(self.entries.keys()).finish()
    }
}

impl Toolset {
    /// A set of these tools.
    ///
    /// # Errors
    /// [`Error::DuplicateTool`] if two have one name.
    pub fn new(tools: impl IntoIterator<Item = Tool>) -> Result<Self> {
        let mut entries = BTreeMap::new();
        for tool in tools {
            let name = tool.name.clone();
            let validator = OnceLock::new();
            if entries.insert(name.clone(), Entry { tool, validator }).is_some() {
                return Err(Error::DuplicateTool(name));
            }
        }
        Ok(Self {
            entries: Arc::new(entries),
        })
    }

    /// The tools, sorted by name.
    pub fn iter(&self) -> impl Iterator<Item = &Tool> {
        self.entries.values().map(|entry| &entry.tool)
    }

    /// The tool called `name`.
    pub fn get(&self, name: &str) -> Option<&Tool> {
        self.entries.get(name).map(|entry| &entry.tool)
    }

    /// How many there are.
    pub fn len(&self) -> usize {
        self.entries.len()
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.entries.is_empty()
    }

    /// A digest of all names and schemas.
    pub fn digest(&self) -> String {
        let parts: Vec<String> = self
            .iter()
            .map(|tool| format!("{} {}", tool.name, canonical_json(&tool.schema)))
            .collect();
        let bytes: Vec<&[u8]> = parts.iter().map(String::as_bytes).collect();
        digest(&bytes)
    }

    /// Checks the arguments of a call against the schema of its tool.
    ///
    /// # Errors
    /// A short sentence for the model: what is wrong and where.
    pub fn validate(&self, name: &str, arguments: &Value) -> Result<(), String> {
        let entry = self
            .entries
            .get(name)
            .ok_or_else(|| format!("there is no tool {}", clip(name, 64)))?;
        let compiled = entry.validator.get_or_init(|| compile(&entry.tool.schema));
        let validator = compiled.as_ref().map_err(Clone::clone)?;
        let faults: Vec<String> = validator
            .iter_errors(arguments)
            .take(3)
            .map(|error| fault(&error))
            .collect();
        if faults.is_empty() {
            Ok(())
        } else {
            Err(faults.join("; "))
        }
    }
}

pub(crate) fn compile(schema: &Value) -> Result<jsonschema::Validator, String> {
    let options = jsonschema::draft202012::options();
    let built = options.build(schema);
    built.map_err(|error| format!("the tool's schema is broken: {}", clip(&error.to_string(), 200)))
}

fn fault(error: &jsonschema::ValidationError<'_>) -> String {
    let place = error.instance_path().to_string();
    let what = clip(&error.to_string(), 160);
    if place.is_empty() {
        what
    } else {
        format!("{place}: {what}")
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn tool() -> Tool {
        Tool {
            name: "put_note".into(),
            description: "Writes a note.".into(),
            schema: json!({"type": "object", "required": ["id", "text"], "additionalProperties": false,
                "properties": {"id": {"type": "string"}, "text": {"type": "string"}, "tag": {"type": "array"}}}),
            method: "PUT".into(),
            path: "/v1/notes/{id}".into(),
            service: "notes".into(),
            replay: Replay::Idempotent,
            places: BTreeMap::from([
                ("id".into(), Place::Path("id".into())),
                ("tag".into(), Place::Query("tag".into())),
                ("text".into(), Place::BodyMember("text".into())),
            ]),
        }
    }

    fn object(value: &Value) -> Map<String, Value> {
        value.as_object().unwrap().clone()
    }

    #[test]
    fn arguments_go_where_they_belong() {
        let request = tool()
            .request(&object(&json!({"id": "a/b ü", "text": "hi", "tag": ["x&y", 2]})))
            .unwrap();
        assert_eq!(request.path_and_query, "/v1/notes/a%2Fb%20%C3%BC?tag=x%26y&tag=2");
        assert_eq!(request.body, Some(json!({"text": "hi"})));
    }

    #[test]
    fn a_path_argument_cannot_climb() {
        for id in ["..", ".", ""] {
            assert!(tool().request(&object(&json!({"id": id, "text": ""}))).is_err());
        }
    }

    #[test]
    fn faults_say_what_and_where() {
        let tools = Toolset::new([tool()]).unwrap();
        assert_eq!(
            tools.validate("put_note", &json!({"id": "a", "text": "b"})),
            Ok(())
        );
        let fault = tools
            .validate("put_note", &json!({"id": "a", "text": 7}))
            .unwrap_err();
        assert!(fault.contains("/text"), "{fault}");
        assert!(tools.validate("nope", &json!({})).unwrap_err().contains("nope"));
        assert!(Toolset::new([tool(), tool()]).is_err());
        assert_eq!(tool().signature(), "put_note(id, text, tag?)");
    }
}
