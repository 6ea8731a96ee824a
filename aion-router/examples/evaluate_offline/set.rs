//! Sets of items and queries: read from a folder, or the small one written here.

use std::error::Error;
use std::ffi::OsStr;
use std::path::Path;

use aion_router::{Item, ItemId, Surface};
use serde_json::Value;

/// A query and what it needs.
#[derive(Debug)]
pub(crate) struct Question {
    pub(crate) text: String,
    pub(crate) relevant: Vec<ItemId>,
    /// By which queries are split, the same every time.
    place: u64,
}

/// Items and queries.
#[derive(Debug)]
pub(crate) struct Set {
    pub(crate) name: String,
    pub(crate) items: Vec<Item>,
    /// What is embedded of each item.
    pub(crate) texts: Vec<String>,
    pub(crate) questions: Vec<Question>,
}

const SMALL: [(&str, &str, [&str; 5]); 8] = [
    (
        "read_file",
        "Reads the contents of a file",
        [
            "show me notes.txt",
            "open the readme",
            "what does main.rs say",
            "print the config",
            "read the log",
        ],
    ),
    (
        "grep",
        "Searches the lines of files for a pattern",
        [
            "where is parse called",
            "find all TODOs",
            "which files mention tokio",
            "look for the word error",
            "search for the function",
        ],
    ),
    (
        "exec",
        "Runs a shell command",
        [
            "build the project",
            "run the tests",
            "start the server",
            "how much disk is free",
            "kill process 12",
        ],
    ),
    (
        "send_mail",
        "Sends an e-mail message",
        [
            "tell Ann about it",
            "write to my boss",
            "answer the customer",
            "let the team know",
            "invite Bob by mail",
        ],
    ),
    (
        "weather",
        "Temperature and rain at a place",
        [
            "do I need an umbrella",
            "is it cold in Oslo",
            "will it rain tomorrow",
            "sunny in Rome?",
            "what to wear outside",
        ],
    ),
    (
        "convert",
        "Converts money between currencies",
        [
            "how many yen is that",
            "price in dollars",
            "100 euros in pounds",
            "what is it in francs",
            "exchange 20 dollars",
        ],
    ),
    (
        "book_flight",
        "Books a flight between two airports",
        [
            "get me to Berlin",
            "I want to fly on Monday",
            "two seats to Paris",
            "a ticket home",
            "travel to Madrid by air",
        ],
    ),
    (
        "plot",
        "Draws a chart of numbers",
        [
            "show sales as bars",
            "graph the results",
            "visualise the latency",
            "a pie of the budget",
            "draw the curve",
        ],
    ),
];

impl Set {
    /// Forty queries for eight tools.
    pub(crate) fn small() -> Self {
        let items: Vec<Item> = SMALL
            .iter()
            .filter_map(|(name, text, _)| Item::new(Surface::Tool, name, text).ok())
            .collect();
        let questions = SMALL.iter().zip(&items).flat_map(|((_, _, queries), item)| {
            queries
                .iter()
                .map(|text| Question::new(text, vec![item.id().clone()]))
        });
        let questions = questions.collect();
        Self::new("a small set", items, questions)
    }

    /// Reads `items.jsonl` (`id`, `name`, `text`, and a JSON schema in `parameters`) and `queries.jsonl` (`text`
    /// and the ids in `relevant`).
    pub(crate) fn read(folder: &OsStr, name: &str) -> Result<Self, Box<dyn Error>> {
        let folder = Path::new(folder).join(name);
        let items = lines(&folder.join("items.jsonl"))?;
        let items = items.iter().map(item).collect::<Result<Vec<_>, _>>()?;
        let rows = lines(&folder.join("queries.jsonl"))?;
        let mut questions = Vec::with_capacity(rows.len());
        for row in &rows {
            let relevant = row["relevant"].as_array().map(Vec::as_slice).unwrap_or_default();
            let relevant = relevant
                .iter()
                .filter_map(Value::as_str)
                .map(item_id)
                .collect::<Result<Vec<_>, _>>()?;
            if !relevant.is_empty() {
                questions.push(Question::new(text(row, "text"), relevant));
            }
        }
        Ok(Self::new(name, items, questions))
    }

    fn new(name: &str, items: Vec<Item>, mut questions: Vec<Question>) -> Self {
        questions.sort_by(|a, b| a.place.cmp(&b.place).then_with(|| a.text.cmp(&b.text)));
        let texts = items.iter().map(Item::embedded_text).collect();
        Self {
            name: name.to_owned(),
            items,
            texts,
            questions,
        }
    }

    /// Queries to learn from, and others: at most half of all to learn from.
    pub(crate) fn split(&self, training: usize, asked: usize) -> (Vec<&Question>, Vec<&Question>) {
        let (first, rest) = self.questions.split_at(training.min(self.questions.len() / 2));
        (first.iter().collect(), rest.iter().take(asked).collect())
    }
}

impl Question {
    fn new(text: &str, relevant: Vec<ItemId>) -> Self {
        let fnv = |hash: u64, byte: u8| (hash ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3);
        let place = text.bytes().fold(0xcbf2_9ce4_8422_2325, fnv);
        Self {
            text: text.to_owned(),
            relevant,
            place: place.rotate_left(32),
        }
    }
}

fn lines(path: &Path) -> Result<Vec<Value>, Box<dyn Error>> {
    let text = std::fs::read_to_string(path)?;
    Ok(text.lines().map(serde_json::from_str).collect::<Result<_, _>>()?)
}

fn text<'a>(row: &'a Value, field: &str) -> &'a str {
    row[field].as_str().unwrap_or_default()
}

fn item_id(id: &str) -> Result<ItemId, aion_router::Error> {
    ItemId::new(format!("tool:{}", id.replace(char::is_whitespace, "_")))
}

fn item(row: &Value) -> Result<Item, aion_router::Error> {
    let name = text(row, "name").replace(char::is_whitespace, "_");
    let properties = row["parameters"]["properties"].as_object();
    let words = properties.into_iter().flatten();
    let words: Vec<String> = words
        .map(|(name, schema)| format!("{name} {}", text(schema, "description")))
        .collect();
    let item = Item::new(Surface::Tool, &name, text(row, "text"))?.with_parameters(&words.join(" "))?;
    Ok(item.with_id(item_id(text(row, "id"))?))
}
