//! Worked examples, and which of them are nearest to a goal.

use std::collections::BTreeSet;
use std::sync::OnceLock;

use serde::Deserialize;
use serde_json::Value;

/// One call that was right.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Example {
    /// The tool.
    pub(super) tool: String,
    /// Files by name, in order.
    #[serde(deserialize_with = "pairs")]
    pub(super) files: Vec<(String, String)>,
    /// What was asked.
    pub(super) goal: String,
    /// The arguments.
    pub(super) arguments: Value,
}

impl Example {
    /// About how long it is in a prompt.
    fn bytes(&self) -> usize {
        let files: usize = self
            .files
            .iter()
            .map(|(name, text)| name.len() + text.len())
            .sum();
        files + self.goal.len() + self.arguments.to_string().len()
    }
}

fn pairs<'de, D: serde::Deserializer<'de>>(source: D) -> Result<Vec<(String, String)>, D::Error> {
    let map = std::collections::BTreeMap::<String, String>::deserialize(source)?;
    Ok(map.into_iter().collect())
}

/// All of them; the file is part of the program and a test reads it.
fn all() -> &'static [Example] {
    static EXAMPLES: OnceLock<Vec<Example>> = OnceLock::new();
    EXAMPLES
        .get_or_init(|| serde_json::from_str(include_str!("../../prompts/examples.json")).unwrap_or_default())
}

/// The examples of a tool whose goals share most words with `goal`, as many as fit into `bytes`, the
/// nearest last.
pub(super) fn nearest(goal: &str, tool: &str, bytes: usize) -> Vec<&'static Example> {
    let query = words(goal);
    let mut scored: Vec<(f64, &Example)> = all()
        .iter()
        .filter(|example| example.tool == tool)
        .map(|example| (similarity(&query, &words(&example.goal)), example))
        .collect();
    scored.sort_by(|a, b| b.0.total_cmp(&a.0));
    // One of another sort teaches another sort of answer: only what is half as near as the nearest.
    let least = scored.first().map_or(0.0, |(nearest, _)| nearest / 2.0);
    scored.retain(|(similarity, _)| *similarity >= least);
    let mut used = 0;
    let mut fitting: Vec<_> = scored
        .into_iter()
        .map(|(_, example)| example)
        .take_while(|example| {
            used += example.bytes();
            used <= bytes
        })
        .collect();
    fitting.reverse();
    fitting
}

/// Shared words over all words (Jaccard).
fn similarity(a: &BTreeSet<String>, b: &BTreeSet<String>) -> f64 {
    let shared = a.intersection(b).count() as f64;
    shared / (a.len() + b.len()).max(1) as f64
}

fn words(text: &str) -> BTreeSet<String> {
    text.split(|c: char| !c.is_alphanumeric())
        .filter(|word| !word.is_empty())
        .map(str::to_lowercase)
        .collect()
}

/// The argument names of an example, to be compared with the tool's schema.
#[cfg(test)]
fn argument_names(example: &Example) -> Vec<String> {
    example.arguments.as_object().unwrap().keys().cloned().collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_examples_are_whole() {
        assert!(all().len() > 10);
        for example in all() {
            assert!(!argument_names(example).is_empty(), "{}", example.goal);
        }
    }

    #[test]
    fn the_nearest_example_comes_last() {
        let goal = "Write short.md: one short sentence that sums up talk.txt.";
        let found = nearest(goal, "write_file", 800);
        assert!((2..6).contains(&found.len()), "{}", found.len());
        let last = found.last().unwrap();
        assert!(last.goal.contains("sums up"), "{}", last.goal);
        assert!(nearest(goal, "write_file", 10).is_empty());
        assert!(nearest(goal, "no_such_tool", 800).is_empty());
    }
}
