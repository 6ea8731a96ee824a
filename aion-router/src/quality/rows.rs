//! Questions from JSON lines.

use serde::Deserialize;

use crate::error::{Error, Result};
use crate::import::lines::{bad, id_of, lines, read};
use crate::item::{ItemId, Surface};

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
struct QuestionRow {
    text: String,
    relevant: Vec<String>,
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rows_are_read_and_bad_ones_named() {
        let asked = questions("{\"text\": \"t\", \"relevant\": [\"a b\", \"doc:1\"]}").unwrap();
        assert_eq!(
            asked[0].relevant,
            ["tool:a_b", "doc:1"].map(|id| ItemId::new(id).unwrap())
        );
        assert!(questions("[1]").unwrap_err().to_string().contains("line 1"));
    }
}
