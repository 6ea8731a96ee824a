//! Items that nothing used yet, beside many that were used.

use std::collections::BTreeSet;

use aion_router::quality::{Quality, Question};
use aion_router::{Embedder, EngineOptions, ItemId, Query, Surface, SurfaceBudget};

use super::Result;
use super::attack::teach;
use super::sets::Set;

/// One item in so many has no history.
const ONE_IN: u64 = 5;

/// Recall of items without history, in percent.
#[derive(Debug, Clone, Copy)]
pub struct Cold {
    /// After learning from the others.
    pub learned_r5: f64,
    /// Before any learning.
    pub content_r5: f64,
    /// Of the items with history, after learning.
    pub warm_r5: f64,
    /// Questions about items without history.
    pub questions: u64,
}

/// Learns from those questions of `training` that need none of every fifth item, and asks the others.
///
/// # Errors
/// When the embedder or the engine fails.
pub fn measure(
    set: &Set,
    training: &[&Question],
    asked: &[&Question],
    embedder: &dyn Embedder,
) -> Result<Cold> {
    let mut engine = set.engine(embedder, EngineOptions::default())?;
    // By digest, so that neither the order of the items nor their names decide.
    let digest = |id: &ItemId| aion_router::EmbeddingCache::key("cold", id.as_str())[0];
    let cold: BTreeSet<&ItemId> = set
        .items
        .iter()
        .map(aion_router::Item::id)
        .filter(|id| u64::from(digest(id)).is_multiple_of(ONE_IN))
        .collect();
    let is_cold = |question: &&&Question| question.relevant.iter().any(|id| cold.contains(id));
    let known: Vec<&Question> = training.iter().filter(|q| !is_cold(q)).copied().collect();
    let of_cold: Vec<&Question> = asked.iter().filter(is_cold).copied().collect();
    let of_warm: Vec<&Question> = asked.iter().filter(|q| !is_cold(q)).copied().collect();
    let content = recall(&engine, &of_cold, embedder)?;
    teach(&mut engine, &known, embedder)?;
    Ok(Cold {
        learned_r5: recall(&engine, &of_cold, embedder)?,
        content_r5: content,
        warm_r5: recall(&engine, &of_warm, embedder)?,
        questions: of_cold.len() as u64,
    })
}

fn recall(engine: &aion_router::Engine, asked: &[&Question], embedder: &dyn Embedder) -> Result<f64> {
    let mut quality = Quality::default();
    for question in asked {
        let vector = aion_router::embed::embed_one(embedder, &question.text)?;
        let query = Query::new(&question.text, u32::MAX).with_surface(SurfaceBudget::new(Surface::Tool));
        let (shortlist, _) = engine.rank(&query, Some(&vector))?;
        let ranked = shortlist.picks.iter().map(|pick| &pick.item);
        quality.add(ranked, &question.relevant, 0.0);
    }
    Ok(100.0 * quality.recall_5())
}
