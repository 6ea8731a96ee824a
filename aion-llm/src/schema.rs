//! JSON schemas that no finite value matches, found before a model begins to write one.
//!
//! A model that is held to `{"properties": {"next": {"$ref": "#"}}, "required": ["next"]}` opens objects until its
//! context is full. Whether a schema has a finite value is a least fixed point: a reference counts as having none until
//! one was found. What is not understood counts as possible, so that only what is surely impossible is refused.

use std::collections::HashMap;

use serde_json::Value as Json;

use crate::error::shown;

/// The first part of the schema that makes it impossible, as words; none when it may be possible.
pub(crate) fn impossible(schema: &Json) -> Option<String> {
    let mut search = Search {
        root: schema,
        possible: HashMap::new(),
        steps_left: MAX_STEPS,
    };
    // Each round finds at least one more reference to be possible, or is the last.
    loop {
        let before = search.found();
        let blame = search.blame(schema, "#");
        let pending: Vec<String> = search.possible.keys().cloned().collect();
        for pointer in pending {
            if let Some(target) = search.target(&pointer)
                && search.blame(target, shown(&pointer)).is_none()
            {
                search.possible.insert(pointer, true);
            }
        }
        if blame.is_none() || search.found() == before {
            return blame;
        }
    }
}

/// Parts looked at before the search gives up and calls the schema possible.
const MAX_STEPS: u32 = 50_000;
/// A part of a place, none of which is longer than can be shown.
fn under(at: &str, part: &str) -> String {
    shown(&format!("{at}/{}", shown(part))).to_owned()
}

struct Search<'a> {
    root: &'a Json,
    steps_left: u32,
    /// For each reference met: whether a value of it is known.
    possible: HashMap<String, bool>,
}

impl<'a> Search<'a> {
    /// References met and those found possible.
    fn found(&self) -> (usize, usize) {
        (
            self.possible.len(),
            self.possible.values().filter(|known| **known).count(),
        )
    }

    fn target(&self, reference: &str) -> Option<&'a Json> {
        match reference.strip_prefix('#')? {
            "" => Some(self.root),
            pointer => self.root.pointer(pointer),
        }
    }

    /// What makes this part impossible, as far as is known.
    fn blame(&mut self, schema: &Json, at: &str) -> Option<String> {
        self.steps_left = self.steps_left.checked_sub(1)?;
        let Json::Object(map) = schema else {
            return (*schema == Json::Bool(false)).then(|| format!("`{at}`, which is false"));
        };
        if let Some(reference) = map.get("$ref").and_then(Json::as_str) {
            let local = self.target(reference).is_some();
            if local && !*self.possible.entry(reference.to_owned()).or_insert(false) {
                return Some(format!(
                    "`{at}`, which refers to `{}` without an end",
                    shown(reference)
                ));
            }
        }
        if map
            .get("enum")
            .and_then(Json::as_array)
            .is_some_and(Vec::is_empty)
        {
            return Some(format!("`{at}/enum`, which is empty"));
        }
        self.parts(map, at, "allOf")
            .into_iter()
            .flatten()
            .next()
            .or_else(|| self.none_of(map, at, "anyOf"))
            .or_else(|| self.none_of(map, at, "oneOf"))
            .or_else(|| self.members(map, at))
            .or_else(|| self.items(map, at))
    }

    fn parts(&mut self, map: &serde_json::Map<String, Json>, at: &str, key: &str) -> Vec<Option<String>> {
        let parts = map.get(key).and_then(Json::as_array).into_iter().flatten();
        let blame = |(i, part): (usize, &Json)| self.blame(part, &under(at, &format!("{key}/{i}")));
        parts.enumerate().map(blame).collect()
    }

    fn none_of(&mut self, map: &serde_json::Map<String, Json>, at: &str, key: &str) -> Option<String> {
        let blames = self.parts(map, at, key);
        let first = blames.first()?.clone();
        if blames.iter().all(Option::is_some) {
            first
        } else {
            None
        }
    }

    /// An object that must have a member without a value.
    fn members(&mut self, map: &serde_json::Map<String, Json>, at: &str) -> Option<String> {
        if !only_type(map, "object") {
            return None;
        }
        let required = map.get("required").and_then(Json::as_array)?;
        let properties = map.get("properties").and_then(Json::as_object)?;
        let mut needed = required.iter().filter_map(Json::as_str);
        needed.find_map(|name| {
            self.blame(
                properties.get(name)?,
                &under(at, &format!("properties/{}", shown(name))),
            )
        })
    }

    /// A list that must have an item without a value.
    fn items(&mut self, map: &serde_json::Map<String, Json>, at: &str) -> Option<String> {
        let least = map.get("minItems").and_then(Json::as_u64).unwrap_or(0);
        if least == 0 || !only_type(map, "array") {
            return None;
        }
        let first = map.get("prefixItems").and_then(|items| items.get(0));
        self.blame(first.or_else(|| map.get("items"))?, &under(at, "items"))
    }
}

/// Whether the schema admits values of this type alone.
fn only_type(map: &serde_json::Map<String, Json>, kind: &str) -> bool {
    match map.get("type") {
        Some(Json::String(found)) => found == kind,
        Some(Json::Array(kinds)) => kinds.iter().all(|found| found == kind),
        _ => false,
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn an_endless_value_is_found() {
        let chain = |required: Json| json!({"type": "object", "properties": {"next": {"$ref": "#"}}, "required": required});
        assert!(
            impossible(&chain(json!(["next"])))
                .unwrap()
                .contains("properties/next")
        );
        assert_eq!(impossible(&chain(json!([]))), None);
        let list = |least: u64| {
            json!({"$defs": {"l": {"type": "array", "minItems": least, "items": {"$ref": "#/$defs/l"}}},
            "$ref": "#/$defs/l"})
        };
        assert!(impossible(&list(1)).is_some());
        assert_eq!(impossible(&list(0)), None);
        let two = json!({"$defs": {
            "a": {"type": "object", "properties": {"b": {"$ref": "#/$defs/b"}}, "required": ["b"]},
            "b": {"type": "object", "properties": {"a": {"$ref": "#/$defs/a"}}, "required": ["a"]},
        }, "$ref": "#/$defs/a"});
        assert!(impossible(&two).is_some());
    }

    #[test]
    fn a_way_out_is_enough() {
        let tree = json!({"$defs": {"t": {"anyOf": [
            {"type": "null"},
            {"type": "object", "properties": {"l": {"$ref": "#/$defs/t"}, "r": {"$ref": "#/$defs/t"}}, "required": ["l", "r"]},
        ]}}, "$ref": "#/$defs/t"});
        assert_eq!(impossible(&tree), None);
        let dead = json!({"anyOf": [false, {"allOf": [true, false]}, {"enum": []}]});
        assert!(impossible(&dead).unwrap().contains("anyOf/0"));
        assert_eq!(
            impossible(&json!({"required": ["a"], "properties": {"a": false}})),
            None,
            "a number will do"
        );
        assert_eq!(
            impossible(&json!({"$ref": "https://example.org/schema"})),
            None,
            "not ours to know"
        );
    }

    #[test]
    fn a_place_in_words_is_short_whatever_the_schema_calls_it() {
        let name = "é".repeat(30_000);
        let schema = json!({"$ref": format!("#/{name}"), name.clone(): {"anyOf": vec![false; 10_000]}});
        let found = impossible(&schema).unwrap();
        assert!(found.len() < 600, "{} bytes", found.len());
    }
}
