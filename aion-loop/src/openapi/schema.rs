//! Schemas out of a document: references resolved or moved under `$defs`, annotations dropped.

use std::collections::{BTreeMap, BTreeSet};
use std::io::{self, Write};

use serde_json::{Map, Value};

use super::OpenApiError;

/// The most different references in the schema of one tool.
const MAX_REFERENCES: usize = 10_000;

/// Keywords whose value is one schema.
const ONE: [&str; 12] = [
    "items",
    "additionalProperties",
    "not",
    "if",
    "then",
    "else",
    "contains",
    "propertyNames",
    "unevaluatedItems",
    "unevaluatedProperties",
    "contentSchema",
    "additionalItems",
];

/// Keywords whose value is a list of schemas.
const MANY: [&str; 4] = ["allOf", "anyOf", "oneOf", "prefixItems"];

/// Keywords whose value is a map of schemas.
const NAMED: [&str; 5] = [
    "properties",
    "patternProperties",
    "$defs",
    "definitions",
    "dependentSchemas",
];

/// Keywords that say nothing about which values are valid and cost tokens.
const ANNOTATIONS: [&str; 8] = [
    "example",
    "examples",
    "xml",
    "externalDocs",
    "discriminator",
    "deprecated",
    "title",
    "$comment",
];

/// Keywords that name schemas for references of their own kind, and would move the root of ours.
const ANCHORS: [&str; 6] = [
    "$id",
    "$schema",
    "$anchor",
    "$dynamicAnchor",
    "$recursiveAnchor",
    "$vocabulary",
];

/// Where each reference of a document goes in a tool's `$defs`.
pub(super) struct Definitions<'d> {
    document: &'d Value,
    max_depth: usize,
    names: BTreeMap<String, String>,
    taken: BTreeSet<String>,
    /// The last number that was put behind each name.
    numbers: BTreeMap<String, usize>,
    pending: Vec<String>,
    /// The definition that is walked: what `$recursiveRef` and `$dynamicRef` come back to.
    current: Option<String>,
}

impl<'d> Definitions<'d> {
    pub(super) fn new(document: &'d Value, max_depth: usize) -> Self {
        Self {
            document,
            max_depth,
            names: BTreeMap::new(),
            taken: BTreeSet::new(),
            numbers: BTreeMap::new(),
            pending: Vec::new(),
            current: None,
        }
    }

    /// The schema with its references pointing into `$defs`.
    pub(super) fn rewrite(&mut self, schema: &Value) -> Result<Value, OpenApiError> {
        self.walk(schema, 0)
    }

    /// The definitions that everything rewritten so far needs, each rewritten too.
    pub(super) fn collect(&mut self, max_bytes: usize) -> Result<Map<String, Value>, OpenApiError> {
        let mut defs = BTreeMap::new();
        let mut bytes = 0;
        while let Some(pointer) = self.pending.pop() {
            let target = settle(self.document, &pointer)?;
            self.current = self.names.get(&pointer).cloned();
            let schema = self.walk(target, 0)?;
            bytes += size(&schema);
            if bytes > max_bytes {
                return Err(OpenApiError::TooLarge {
                    what: "the schema",
                    limit: max_bytes,
                });
            }
            defs.insert(self.names[&pointer].clone(), schema);
        }
        Ok(defs.into_iter().collect())
    }

    fn walk(&mut self, schema: &Value, depth: usize) -> Result<Value, OpenApiError> {
        if depth > self.max_depth {
            return Err(OpenApiError::TooDeep(self.max_depth));
        }
        let Some(object) = schema.as_object() else {
            return Ok(schema.clone());
        };
        let mut out = Map::new();
        for (key, value) in object {
            let key = key.as_str();
            if ANNOTATIONS.contains(&key) || ANCHORS.contains(&key) || key.starts_with("x-") {
                continue;
            }
            if matches!(key, "$recursiveRef" | "$dynamicRef") {
                // Outside a definition there is nothing to come back to: any value is let through.
                if let Some(name) = &self.current {
                    out.insert("$ref".to_owned(), format!("#/$defs/{name}").into());
                }
                continue;
            }
            out.insert(key.to_owned(), self.member(key, value, depth)?);
        }
        modern_bound(&mut out, "exclusiveMinimum", "minimum");
        modern_bound(&mut out, "exclusiveMaximum", "maximum");
        Ok(Value::Object(out))
    }

    fn member(&mut self, key: &str, value: &Value, depth: usize) -> Result<Value, OpenApiError> {
        match value {
            Value::String(pointer) if key == "$ref" => Ok(self.reference(pointer)?.into()),
            Value::Array(schemas) if MANY.contains(&key) => {
                let walked = schemas.iter().map(|schema| self.walk(schema, depth + 1));
                walked.collect()
            }
            Value::Object(map) if NAMED.contains(&key) => {
                let walked = map
                    .iter()
                    .map(|(name, schema)| Ok((name.clone(), self.walk(schema, depth + 1)?)));
                walked
                    .collect::<Result<Map<_, _>, OpenApiError>>()
                    .map(Value::Object)
            }
            value if ONE.contains(&key) => self.walk(value, depth + 1),
            other => Ok(other.clone()),
        }
    }

    fn reference(&mut self, pointer: &str) -> Result<String, OpenApiError> {
        settle(self.document, pointer)?;
        if let Some(name) = self.names.get(pointer) {
            return Ok(format!("#/$defs/{name}"));
        }
        if self.names.len() >= MAX_REFERENCES {
            let what = format!("the schema has more than {MAX_REFERENCES} references");
            return Err(OpenApiError::Malformed(what));
        }
        let name = self.fresh_name(pointer);
        self.names.insert(pointer.to_owned(), name.clone());
        self.pending.push(pointer.to_owned());
        Ok(format!("#/$defs/{name}"))
    }

    /// The last part of the pointer, with a number where that is taken.
    fn fresh_name(&mut self, pointer: &str) -> String {
        let last = pointer.rsplit('/').next().unwrap_or_default();
        let safe: String = last
            .chars()
            .map(|c| {
                if c.is_ascii_alphanumeric() || c == '_' {
                    c
                } else {
                    '_'
                }
            })
            .collect();
        let mut name = safe.clone();
        let number = self.numbers.entry(safe.clone()).or_insert(1);
        while !self.taken.insert(name.clone()) {
            *number += 1;
            name = format!("{safe}_{number}");
        }
        name
    }
}

/// Turns the flag that older drafts have into the bound itself.
fn modern_bound(schema: &mut Map<String, Value>, exclusive: &str, inclusive: &str) {
    let Some(Value::Bool(flag)) = schema.get(exclusive).cloned() else {
        return;
    };
    schema.remove(exclusive);
    if flag && let Some(bound) = schema.remove(inclusive) {
        schema.insert(exclusive.to_owned(), bound);
    }
}

/// What a local reference points at, one step.
pub(super) fn resolve<'d>(document: &'d Value, pointer: &str) -> Result<&'d Value, OpenApiError> {
    let Some(local) = pointer.strip_prefix('#') else {
        return Err(OpenApiError::ExternalRef(pointer.to_owned()));
    };
    let decoded = percent_decode(local);
    let target = document.pointer(&decoded);
    target.ok_or_else(|| OpenApiError::UnknownRef(pointer.to_owned()))
}

/// Checks that a chain of bare references ends at something; gives the first target.
fn settle<'d>(document: &'d Value, pointer: &str) -> Result<&'d Value, OpenApiError> {
    let first = resolve(document, pointer)?;
    follow(document, first)?;
    Ok(first)
}

/// Follows bare `$ref`s to what they stand for.
pub(super) fn follow<'d>(document: &'d Value, mut value: &'d Value) -> Result<&'d Value, OpenApiError> {
    let mut seen = Vec::new();
    while let Some(pointer) = bare_reference(value) {
        if seen.contains(&pointer) || seen.len() > 64 {
            return Err(OpenApiError::CyclicRef(pointer.to_owned()));
        }
        seen.push(pointer);
        value = resolve(document, pointer)?;
    }
    Ok(value)
}

fn bare_reference(value: &Value) -> Option<&str> {
    value.get("$ref").and_then(Value::as_str)
}

fn percent_decode(text: &str) -> String {
    let bytes = text.as_bytes();
    let mut out = Vec::with_capacity(bytes.len());
    let mut i = 0;
    while i < bytes.len() {
        let hex = bytes
            .get(i + 1..i + 3)
            .and_then(|hex| std::str::from_utf8(hex).ok());
        match hex.and_then(|hex| u8::from_str_radix(hex, 16).ok()) {
            Some(byte) if bytes[i] == b'%' => {
                out.push(byte);
                i += 3;
            }
            _ => {
                out.push(bytes[i]);
                i += 1;
            }
        }
    }
    String::from_utf8_lossy(&out).into_owned()
}

/// Counts bytes without keeping them.
struct Counter(usize);

impl Write for Counter {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.0 += bytes.len();
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// Bytes of the value as compact JSON.
pub(super) fn size(value: &Value) -> usize {
    let mut counter = Counter(0);
    // Neither a counter nor a JSON value can fail to be written.
    let _ = serde_json::to_writer(&mut counter, value);
    counter.0
}

/// Refuses a value of more than `limit` bytes.
pub(super) fn check_size(value: &Value, what: &'static str, limit: usize) -> Result<(), OpenApiError> {
    if size(value) > limit {
        return Err(OpenApiError::TooLarge { what, limit });
    }
    Ok(())
}
