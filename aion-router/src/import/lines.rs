//! Items from JSON lines, and what reads lines.

use serde::Deserialize;
use serde::de::DeserializeOwned;
use serde_json::Value;

use super::{Importer, Row};
use crate::error::{Error, Result};
use crate::item::{Item, ItemId, Surface};

#[derive(Deserialize)]
struct ItemRow {
    #[serde(default)]
    id: Option<String>,
    name: String,
    #[serde(default)]
    text: String,
    #[serde(default)]
    surface: Option<Surface>,
    #[serde(default)]
    parameters: Value,
    #[serde(default)]
    tags: Vec<String>,
}

/// Items from lines of JSON objects: `name`; `text`, `parameters` (a JSON schema), `tags`, `surface` (`tool` if
/// absent) and `id` (the name if absent). An item's id is `surface:id`, with `_` for spaces.
///
/// # Errors
/// [`Error`] with the line that is no such object, or has no name.
pub fn jsonl(text: &str, importer: &Importer<'_>) -> Result<Vec<Item>> {
    let mut items = Vec::new();
    for (at, line) in lines(text) {
        let row: ItemRow = read(at, line)?;
        let surface = row.surface.unwrap_or(Surface::Tool);
        let part = Row {
            name: &row.name,
            text: &row.text,
            schema: &row.parameters,
            tags: row.tags,
        };
        let id = id_of(&surface, row.id.as_ref().unwrap_or(&row.name)).map_err(|error| bad(at, &error))?;
        let item = importer.row(surface, part).map_err(|error| bad(at, &error))?;
        items.push(item.with_id(id));
    }
    Ok(items)
}

/// Lines that are not empty, by number.
pub(crate) fn lines(text: &str) -> impl Iterator<Item = (usize, &str)> {
    let numbered = text.lines().enumerate().map(|(i, line)| (i + 1, line));
    numbered.filter(|(_, line)| !line.trim().is_empty())
}

pub(crate) fn read<T: DeserializeOwned>(at: usize, line: &str) -> Result<T> {
    serde_json::from_str(line).map_err(|error| bad(at, &error))
}

pub(crate) fn bad(at: usize, error: &dyn std::fmt::Display) -> Error {
    Error::BadDocument {
        at: format!("line {at}"),
        reason: error.to_string(),
    }
}

pub(crate) fn id_of(surface: &Surface, id: &str) -> Result<ItemId> {
    let id = id.replace(char::is_whitespace, "_");
    ItemId::new(format!("{}:{id}", surface.as_str()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rows_are_read_and_bad_ones_named() {
        let text = "\n{\"name\": \"a b\", \"tags\": [\"x\"]}\n{\"id\": \"1\", \"name\": \"c\", \"surface\": \"doc\"}\n";
        let found = jsonl(text, &Importer::default()).unwrap();
        let ids: Vec<&str> = found.iter().map(|item| item.id().as_str()).collect();
        assert_eq!(ids, ["tool:a_b", "doc:1"]);
        let error = jsonl("{\"name\": \"a\"}\n{\"text\": 1}", &Importer::default()).unwrap_err();
        assert!(error.to_string().contains("line 2"), "{error}");
    }
}
