//! Which tools are worth naming in the next prompt.

use std::collections::BTreeSet;
use std::fmt::Debug;

use crate::tool::Toolset;

/// Picks the tools that belong in a step's prompt. Pure: the same question has the same answer.
pub trait ToolRanker: Debug + Send + Sync + 'static {
    /// Names of at most `k` tools for `query`, best first.
    fn rank(&self, query: &str, tools: &Toolset, k: usize) -> Vec<String>;
}

/// Counts the words that a tool's name and description share with the query, each weighted by how few
/// tools have it; ties by name. Enough for a few dozen tools; a router does better for more.
///
/// ```
/// use aion_loop::{OverlapRanker, ToolRanker, Toolset};
/// assert!(OverlapRanker.rank("write a file", &Toolset::default(), 3).is_empty());
/// ```
#[derive(Debug, Clone, Copy, Default)]
pub struct OverlapRanker;

impl ToolRanker for OverlapRanker {
    fn rank(&self, query: &str, tools: &Toolset, k: usize) -> Vec<String> {
        let query = words(query);
        let texts: Vec<(&str, BTreeSet<String>)> = tools
            .iter()
            .map(|tool| {
                (
                    tool.name.as_str(),
                    words(&format!("{} {}", tool.name, tool.description)),
                )
            })
            .collect();
        let rarity = |word: &String| {
            let having = texts.iter().filter(|(_, text)| text.contains(word)).count();
            (1.0 + texts.len() as f64 / having.max(1) as f64).ln()
        };
        let score = |text: &BTreeSet<String>| -> f64 { query.intersection(text).map(rarity).sum() };
        let mut scored: Vec<(f64, &str)> = texts.iter().map(|(name, text)| (score(text), *name)).collect();
        scored.sort_by(|a, b| b.0.total_cmp(&a.0).then(a.1.cmp(b.1)));
        scored
            .into_iter()
            .take(k)
            .map(|(_, name)| name.to_owned())
            .collect()
    }
}

fn words(text: &str) -> BTreeSet<String> {
    let split = text.split(|c: char| !c.is_alphanumeric());
    split
        .filter(|word| word.len() > 1)
        .map(str::to_lowercase)
        .collect()
}
