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

fn pairs<'de, D: serde::Deserializer<'de>>(source: D) -> Result<Vec<(String, String)>, D::Error> {
    let map = std::collections::BTreeMap::<String, String>::deserialize(source)?;
    Ok(map.into_iter().collect())
}

/// All of them; the file is part of the program and a test reads it.
fn all() -> &'static [Example] {
    static EXAMPLES: OnceLock<Vec<Example>> = OnceLock::new();
    EXAMPLES.get_or_init(|| {
        serde_json::from_str(include_str!("../../prompts/examples.json")).unwrap_or_default()
    })
}

/// The `k` examples of a tool whose goals share most words with `goal`, the nearest last.
pub(super) fn nearest(goal: &str, tool: &str, k: usize) -> Vec<&'static Example> {
    let query = words(goal);
    let mut scored: Vec<(f64, &Example)> = all()
        .iter()
        .filter(|example| example.tool == tool)
        .map(|example| (similarity(&query, &words(&example.goal)), example))
        .collect();
    scored.sort_by(|a, b| b.0.total_cmp(&a.0));
    scored.truncate(k);
    scored.into_iter().rev().map(|(_, example)| example).collect()
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
        let found = nearest(goal, "write_file", 2);
        assert_eq!(found.len(), 2);
        assert!(found[1].goal.contains("sums up"), "{}", found[1].goal);
        assert!(nearest(goal, "no_such_tool", 2).is_empty());
    }
}
