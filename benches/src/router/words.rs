//! Documents and questions for BM25: texts of the sets, and halves of two of them put together for more.

use std::hint::black_box;
use std::path::Path;

use aion_router::index::{Bm25, Index};
use aion_router::item::Fields;
use aion_router::text::terms;
use aion_router::{ItemId, Provenance};
use serde_json::json;

use super::{Dice, Result};
use crate::memory::fastest;

/// How many are wanted.
const TOP: usize = 10;

/// Writes `docs.json`: so many documents and questions as lists of terms, so that all sides count the same words.
///
/// # Errors
/// When the file cannot be written.
pub fn write(dir: &Path, docs: usize, texts: &[String], asked: &[String]) -> Result<()> {
    let mut dice = Dice::new(7);
    let mut all: Vec<Vec<String>> = texts
        .iter()
        .take(docs)
        .map(|text| terms(text).collect())
        .collect();
    let real = all.len();
    while all.len() < docs {
        let [a, b] = [0; 2].map(|_| dice.below(real));
        let mut halves: Vec<String> = all[a].iter().take(all[a].len().div_ceil(2)).cloned().collect();
        halves.extend(all[b].iter().skip(all[b].len() / 2).cloned());
        all.push(halves);
    }
    let asked: Vec<Vec<String>> = asked.iter().map(|text| terms(text).collect()).collect();
    let document = json!({ "docs": all, "queries": asked });
    std::fs::write(dir.join("docs.json"), document.to_string())?;
    Ok(())
}

/// Documents to be searched, and questions.
#[derive(Debug)]
pub struct Words {
    index: Index,
    queries: Vec<String>,
    bm25: Bm25,
}

#[derive(serde::Deserialize)]
struct Document {
    docs: Vec<Vec<String>>,
    queries: Vec<Vec<String>>,
}

impl Words {
    /// Reads what [`write()`] wrote.
    ///
    /// # Errors
    /// When the file cannot be read.
    pub fn read(dir: &Path) -> Result<Self> {
        let document: Document = serde_json::from_slice(&std::fs::read(dir.join("docs.json"))?)?;
        let mut index = Index::new();
        for (i, terms) in document.docs.iter().enumerate() {
            let fields = Fields {
                text: terms.join(" "),
                ..Fields::default()
            };
            index.insert(&ItemId::new(format!("{i}"))?, &fields, Provenance::Builtin);
        }
        Ok(Self {
            index,
            queries: document.queries.iter().map(|terms| terms.join(" ")).collect(),
            bm25: Bm25::default(),
        })
    }

    /// The seconds of processor time that one question takes, the fastest of `passes` passes over all of them.
    pub fn seconds(&self, passes: usize) -> f64 {
        let (cpu, _) = fastest(passes, || {
            for query in &self.queries {
                black_box(self.index.best(black_box(query), &self.bm25, TOP));
            }
        });
        cpu.as_secs_f64() / self.queries.len() as f64
    }

    /// What each question finds: documents with scores as shares of the best possible.
    pub fn found(&self) -> Vec<Vec<(usize, f32)>> {
        let of = |query: &String| {
            let best = self.index.best(query, &self.bm25, TOP).into_iter();
            best.filter_map(|(id, score)| Some((id.as_str().parse().ok()?, score)))
                .collect()
        };
        self.queries.iter().map(of).collect()
    }
}
