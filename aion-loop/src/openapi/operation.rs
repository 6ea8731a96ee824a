//! One operation as one tool: its parameters and its body merged into one argument object.

use std::collections::BTreeMap;

use serde_json::{Map, Value, json};

use super::schema::{self, Definitions};
use super::{IdempotencyKeys, OpenApiError, OpenApiOptions};
use crate::canonical::clip;
use crate::tool::{Place, Replay, Tool, compile};

/// Headers that the loop itself sets; they are no arguments.
const OWN_HEADERS: [&str; 6] = [
    "idempotency-key",
    "x-task-state",
    "authorization",
    "content-type",
    "accept",
    "x-request-id",
];

/// The longest name that model servers take.
const MAX_NAME_BYTES: usize = 64;

/// An operation where it stands in the document.
pub(super) struct Found<'d> {
    method: String,
    path: &'d str,
    item: &'d Value,
    operation: &'d Value,
}

impl Found<'_> {
    pub(super) fn id(&self) -> Option<String> {
        let id = self.operation.get("operationId").and_then(Value::as_str);
        id.filter(|id| !id.is_empty()).map(str::to_owned)
    }

    pub(super) fn label(&self) -> String {
        self.id()
            .unwrap_or_else(|| format!("{} {}", self.method, self.path))
    }
}

/// Every operation of the document.
pub(super) fn list(document: &Value) -> Result<Vec<Found<'_>>, OpenApiError> {
    let paths = document.get("paths").and_then(Value::as_object);
    let paths = paths.ok_or_else(|| OpenApiError::NotOpenApi("it has no paths".to_owned()))?;
    let mut found = Vec::new();
    for (path, item) in paths {
        let item = schema::follow(document, item)?;
        for method in ["get", "put", "post", "delete", "patch", "head", "options"] {
            if let Some(operation) = item.get(method).filter(|operation| operation.is_object()) {
                let method = method.to_uppercase();
                found.push(Found {
                    method,
                    path,
                    item,
                    operation,
                });
            }
        }
    }
    Ok(found)
}

/// An operation id in the characters that model servers take.
pub(super) fn tool_name(id: &str) -> String {
    let safe = id.chars().map(|c| {
        if c.is_ascii_alphanumeric() || c == '_' || c == '-' {
            c
        } else {
            '_'
        }
    });
    safe.take(MAX_NAME_BYTES).collect()
}

/// The argument object as it grows.
struct Arguments {
    properties: Map<String, Value>,
    required: Vec<String>,
    places: BTreeMap<String, Place>,
    open: Value,
}

impl Arguments {
    /// Adds one argument; a name that is taken gets the place behind it.
    fn add(&mut self, name: &str, suffix: &str, place: Place, schema: Value, need: Need) {
        let name = if self.properties.contains_key(name) {
            format!("{name}_{suffix}")
        } else {
            name.to_owned()
        };
        if need == Need::Required {
            self.required.push(name.clone());
        }
        self.properties.insert(name.clone(), schema);
        self.places.insert(name, place);
    }
}

#[derive(PartialEq, Eq, Clone, Copy)]
enum Need {
    Required,
    Optional,
}

fn need(required: Option<&Value>) -> Need {
    if required.and_then(Value::as_bool) == Some(true) {
        Need::Required
    } else {
        Need::Optional
    }
}

/// Makes the tool.
pub(super) fn tool(
    document: &Value,
    found: &Found<'_>,
    service: &str,
    options: &OpenApiOptions,
) -> Result<Tool, OpenApiError> {
    let id = found.id().ok_or(OpenApiError::NoId)?;
    let mut definitions = Definitions::new(document, options.max_depth);
    let mut arguments = Arguments {
        properties: Map::new(),
        required: Vec::new(),
        places: BTreeMap::new(),
        open: Value::Bool(false),
    };
    let takes_key = add_parameters(document, found, &mut definitions, &mut arguments)?;
    add_body(document, found, &mut definitions, &mut arguments)?;
    let schema = whole_schema(&arguments, &mut definitions, options)?;
    Ok(Tool {
        name: tool_name(&id),
        description: description(found.operation, options.max_description_bytes),
        schema,
        replay: replay(
            &found.method,
            takes_key || options.keys == IdempotencyKeys::Honoured,
        ),
        method: found.method.clone(),
        path: found.path.to_owned(),
        service: service.to_owned(),
        places: arguments.places,
    })
}

fn whole_schema(
    arguments: &Arguments,
    definitions: &mut Definitions<'_>,
    options: &OpenApiOptions,
) -> Result<Value, OpenApiError> {
    let mut schema = json!({"type": "object", "properties": arguments.properties,
        "required": arguments.required, "additionalProperties": arguments.open});
    let defs = definitions.collect(options.max_schema_bytes)?;
    if !defs.is_empty() {
        schema["$defs"] = Value::Object(defs);
    }
    schema::check_size(&schema, "the schema", options.max_schema_bytes)?;
    compile(&schema).map_err(OpenApiError::Malformed)?;
    Ok(schema)
}

/// What HTTP says about sending the same request twice.
///
/// # Sources
/// RFC 9110, section 9.2.2.
fn replay(method: &str, by_key: bool) -> Replay {
    match method {
        "GET" | "HEAD" | "OPTIONS" | "PUT" | "DELETE" => Replay::Idempotent,
        _ if by_key => Replay::ByKey,
        _ => Replay::Never,
    }
}

/// Adds path, query and header parameters; says whether the operation declares `Idempotency-Key`.
fn add_parameters(
    document: &Value,
    found: &Found<'_>,
    definitions: &mut Definitions<'_>,
    arguments: &mut Arguments,
) -> Result<bool, OpenApiError> {
    let mut merged: BTreeMap<(String, String), &Value> = BTreeMap::new();
    for level in [found.item, found.operation] {
        let listed = level.get("parameters").and_then(Value::as_array);
        for parameter in listed.map(Vec::as_slice).unwrap_or_default() {
            let parameter = schema::follow(document, parameter)?;
            let part = |key: &str| parameter.get(key).and_then(Value::as_str).map(str::to_owned);
            let (Some(place), Some(name)) = (part("in"), part("name")) else {
                return Err(OpenApiError::Malformed(
                    "a parameter has no name or place".to_owned(),
                ));
            };
            merged.insert((place, name), parameter);
        }
    }
    let mut takes_key = false;
    for ((kind, name), parameter) in merged {
        let place = match kind.as_str() {
            "path" => Place::Path(name.clone()),
            "query" => Place::Query(name.clone()),
            "header" if OWN_HEADERS.contains(&name.to_ascii_lowercase().as_str()) => {
                takes_key |= name.eq_ignore_ascii_case("idempotency-key");
                continue;
            }
            "header" => Place::Header(name.clone()),
            _ => continue,
        };
        let schema = definitions.rewrite(parameter_schema(parameter))?;
        let schema = described(schema, parameter.get("description"));
        let need = if kind == "path" {
            Need::Required
        } else {
            need(parameter.get("required"))
        };
        arguments.add(&name, &kind, place, schema, need);
    }
    Ok(takes_key)
}

fn parameter_schema(parameter: &Value) -> &Value {
    static ANY: Value = Value::Bool(true);
    let content = parameter.get("content").and_then(Value::as_object);
    let first = content.and_then(|content| content.values().next());
    let schema = parameter.get("schema").or_else(|| first?.get("schema"));
    schema.unwrap_or(&ANY)
}

/// The schema with a description where it has none of its own.
fn described(mut schema: Value, description: Option<&Value>) -> Value {
    if let (Some(object), Some(text)) = (schema.as_object_mut(), description.and_then(Value::as_str)) {
        object
            .entry("description")
            .or_insert_with(|| clip(text, 300).into());
    }
    schema
}

/// Adds the JSON body: a plain object member by member, anything else as one argument `body`.
fn add_body(
    document: &Value,
    found: &Found<'_>,
    definitions: &mut Definitions<'_>,
    arguments: &mut Arguments,
) -> Result<(), OpenApiError> {
    let Some(body) = found.operation.get("requestBody") else {
        return Ok(());
    };
    let body = schema::follow(document, body)?;
    let Some(declared) = json_schema_of(body) else {
        return Err(OpenApiError::NotJsonBody);
    };
    let target = schema::follow(document, declared)?;
    match plain_object(target) {
        Some(object) => add_members(object, definitions, arguments),
        None => {
            let schema = definitions.rewrite(declared)?;
            arguments.add("body", "whole", Place::Body, schema, need(body.get("required")));
            Ok(())
        }
    }
}

fn json_schema_of(body: &Value) -> Option<&Value> {
    let content = body.get("content")?.as_object()?;
    let is_json =
        |kind: &str| kind.starts_with("application/json") || kind.contains("+json") || kind == "*/*";
    content.iter().find(|(kind, _)| is_json(kind))?.1.get("schema")
}

/// An object schema that says everything by its properties, so that they can stand beside others.
fn plain_object(schema: &Value) -> Option<&Map<String, Value>> {
    const PLAIN: [&str; 10] = [
        "type",
        "properties",
        "required",
        "additionalProperties",
        "description",
        "title",
        "example",
        "examples",
        "default",
        "deprecated",
    ];
    let object = schema.as_object()?;
    let plain = object
        .keys()
        .all(|key| PLAIN.contains(&key.as_str()) || key.starts_with("x-"));
    let named = object.get("properties").is_some_and(Value::is_object);
    (plain && named && object.get("type").is_some_and(|kind| kind == "object")).then_some(object)
}

fn add_members(
    object: &Map<String, Value>,
    definitions: &mut Definitions<'_>,
    arguments: &mut Arguments,
) -> Result<(), OpenApiError> {
    let required = object.get("required").and_then(Value::as_array);
    let is_required = |name: &str| required.is_some_and(|list| list.iter().any(|item| item == name));
    let properties = object.get("properties").and_then(Value::as_object);
    for (name, schema) in properties.into_iter().flatten() {
        let need = if is_required(name) {
            Need::Required
        } else {
            Need::Optional
        };
        let schema = definitions.rewrite(schema)?;
        arguments.add(name, "body", Place::BodyMember(name.clone()), schema, need);
    }
    // A body that takes any further member, by saying nothing, would let a model's typing errors through.
    if let Some(open) = object
        .get("additionalProperties")
        .filter(|open| **open != Value::Bool(false))
    {
        arguments.open = definitions.rewrite(open)?;
    }
    Ok(())
}

fn description(operation: &Value, max_bytes: usize) -> String {
    let text = |key: &str| {
        operation
            .get(key)
            .and_then(Value::as_str)
            .unwrap_or_default()
            .trim()
    };
    let (summary, description) = (text("summary"), text("description"));
    let whole = match (summary.is_empty(), description.is_empty()) {
        (false, false) if !description.starts_with(summary) => format!("{summary}\n{description}"),
        (_, false) => description.to_owned(),
        _ => summary.to_owned(),
    };
    clip(&whole, max_bytes)
}
