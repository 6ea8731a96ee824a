//! Items and questions from JSON lines.

use serde::Deserialize;
use serde::de::DeserializeOwned;
use serde_json::Value;

use crate::error::{Error, Result};
use crate::import::{Importer, Row};
use crate::item::{Item, ItemId, Surface};

/// The most questions of one file.
const MAX_QUESTIONS: usize = 1_000_000;

/// A question whose answer is known.
#[derive(Debug, Clone, PartialEq)]
pub struct Question {
    /// What is needed, in words.
    pub text: String,
    /// The items that were.
    pub relevant: Vec<ItemId>,
}

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

#[derive(Deserialize)]
struct QuestionRow {
    text: String,
    relevant: Vec<String>,
}

/// Items from lines of JSON objects: `name`; `text`, `parameters` (a JSON schema), `tags`, `surface` (`tool` if
/// absent) and `id` (the name if absent). An item's id is `surface:id`, with `_` for spaces.
///
/// # Errors
/// [`Error`] with the line that is no such object, or has no name.
pub fn items(text: &str, importer: &Importer<'_>) -> Result<Vec<Item>> {
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

/// Questions from lines of JSON objects with a `text` and the ids of the items `relevant` to it; an id without a
/// surface is that of a tool.
///
/// # Errors
/// [`Error`] with the line that is no such object, [`Error::LimitReached`] for more than a million.
pub fn questions(text: &str) -> Result<Vec<Question>> {
    let mut questions = Vec::new();
    for (at, line) in lines(text) {
        if questions.len() >= MAX_QUESTIONS {
            let what = "the number of questions";
            return Err(Error::LimitReached {
                what,
                limit: MAX_QUESTIONS,
            });
        }
        let row: QuestionRow = read(at, line)?;
        let relevant = row.relevant.iter().map(|id| match id.split_once(':') {
            Some((surface, id)) => id_of(&surface.parse()?, id),
            None => id_of(&Surface::Tool, id),
        });
        let relevant = relevant.collect::<Result<_>>().map_err(|error| bad(at, &error))?;
        questions.push(Question {
            text: row.text,
            relevant,
        });
    }
    Ok(questions)
}

/// Lines that are not empty, by number.
fn lines(text: &str) -> impl Iterator<Item = (usize, &str)> {
    let numbered = text.lines().enumerate().map(|(i, line)| (i + 1, line));
    numbered.filter(|(_, line)| !line.trim().is_empty())
}

fn read<T: DeserializeOwned>(at: usize, line: &str) -> Result<T> {
    serde_json::from_str(line).map_err(|error| bad(at, &error))
}

fn bad(at: usize, error: &dyn std::fmt::Display) -> Error {
    Error::BadDocument {
        at: format!("line {at}"),
        reason: error.to_string(),
    }
}

fn id_of(surface: &Surface, id: &str) -> Result<ItemId> {
    let id = id.replace(char::is_whitespace, "_");
    ItemId::new(format!("{}:{id}", surface.as_str()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rows_are_read_and_bad_ones_named() {
        let text = "\n{\"name\": \"a b\", \"tags\": [\"x\"]}\n{\"id\": \"1\", \"name\": \"c\", \"surface\": \"doc\"}\n";
        let found = items(text, &Importer::default()).unwrap();
        let ids: Vec<&str> = found.iter().map(|item| item.id().as_str()).collect();
        assert_eq!(ids, ["tool:a_b", "doc:1"]);
        let error = items("{\"name\": \"a\"}\n{\"text\": 1}", &Importer::default()).unwrap_err();
        assert!(error.to_string().contains("line 2"), "{error}");
        let asked = questions("{\"text\": \"t\", \"relevant\": [\"a b\", \"doc:1\"]}").unwrap();
        assert_eq!(
            asked[0].relevant,
            ["tool:a_b", "doc:1"].map(|id| ItemId::new(id).unwrap())
        );
        assert!(questions("[1]").unwrap_err().to_string().contains("line 1"));
    }
}
