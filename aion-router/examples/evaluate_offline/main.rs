//! How good a shortlist is, offline: recall, NDCG and bits, by words alone, with embeddings, and with what was
//! learned from use. Then what another policy would have been worth, from a log with some chance in it.
//!
//! Without arguments it uses a small set of its own. `AION_DATA` names a folder of sets (each a folder with
//! `items.jsonl` and `queries.jsonl`), and `AION_MINILM` a folder with a sentence encoder:
//!
//! `cargo run --release -p aion-router --features minilm --example evaluate_offline -- metatool bfcl`
#![allow(clippy::print_stdout, reason = "an example shows what it does")]

mod metrics;
mod policy;
mod set;

use std::error::Error;

use aion_router::vector::Quantized;
use aion_router::{
    Catalog, Embedder, Engine, EngineOptions, HashingEmbedder, ItemId, Outcome, Query, Router, Shortlist,
    Surface, SurfaceBudget,
};

use metrics::Table;
use set::{Question, Set};

/// Queries that weights learn from.
const TRAINING: usize = 2_500;
/// The share of spelling beside meaning.
#[cfg(feature = "minilm")]
const SPELLING: f32 = 0.2;
/// Queries that are asked afterwards.
const ASKED: usize = 2_600;

fn main() -> Result<(), Box<dyn Error>> {
    let embedder = embedder()?;
    let names: Vec<String> = std::env::args().skip(1).collect();
    let sets = match std::env::var_os("AION_DATA") {
        Some(folder) => names
            .iter()
            .map(|name| Set::read(&folder, name))
            .collect::<Result<Vec<_>, _>>()?,
        None => vec![Set::small()],
    };
    println!("embeddings by {}", embedder.model_id());
    for set in &sets {
        measure(set, &*embedder)?;
    }
    policy::judge(&Set::small())?;
    Ok(())
}

fn embedder() -> Result<Box<dyn Embedder>, Box<dyn Error>> {
    #[cfg(feature = "minilm")]
    if let Some(folder) = std::env::var_os("AION_MINILM") {
        let encoder = aion_router::embed::minilm::MiniLm::from_folder(folder)?;
        return Ok(Box::new(aion_router::Blended::new(
            encoder,
            HashingEmbedder,
            SPELLING,
        )?));
    }
    Ok(Box::new(HashingEmbedder))
}

fn measure(set: &Set, embedder: &dyn Embedder) -> Result<(), Box<dyn Error>> {
    let (training, asked) = set.split(TRAINING, ASKED);
    let vectors = |questions: &[&Question]| embed_all(embedder, questions.iter().map(|q| q.text.as_str()));
    let (training_vectors, asked_vectors) = (vectors(&training)?, vectors(&asked)?);
    let mut engine = Engine::new(EngineOptions::default().with_logged(256))?;
    let items = embed_all(embedder, set.texts.iter().map(String::as_str))?;
    for (item, vector) in set.items.iter().zip(&items) {
        engine.upsert(item.clone())?;
        engine.set_vector(item.id(), vector)?;
    }
    let (n, of) = (set.items.len(), asked.len());
    println!(
        "\n{}: {n} items, {of} queries, uniform {:.2} bits",
        set.name,
        (n as f64).log2()
    );
    println!(
        "{:<34} {:>6} {:>6} {:>7} {:>7}",
        "", "R@5", "R@10", "NDCG@10", "bits"
    );
    let content = |vectors: Option<&[Vec<f32>]>| by_content(engine.catalog(), &asked, vectors);
    content(None)?.print("words");
    content(Some(&asked_vectors))?.print("words and embeddings");
    let learned = learn(&mut engine, &training, &training_vectors)?;
    learned.print(&format!("while learning from {}", training.len()));
    let mut after = Table::default();
    for (question, vector) in asked.iter().zip(&asked_vectors) {
        let (shortlist, decision) = engine.rank(&query(&question.text, 0), Some(vector))?;
        let loss = engine
            .history()
            .gain(&decision, &Outcome::used(question.relevant.clone()));
        after.add(&shortlist, &question.relevant, loss.surfaces[0].loss_bits);
    }
    after.print(&format!("after learning from {}", training.len()));
    println!("weights {:?}", engine.history().weights(&Surface::Tool));
    println!("mixture {:.3?}", engine.history().mixture(&Surface::Tool));
    Ok(())
}

/// Predicts, scores, then learns, one query after the other.
fn learn(engine: &mut Engine, training: &[&Question], vectors: &[Vec<f32>]) -> Result<Table, Box<dyn Error>> {
    let mut table = Table::default();
    for (seed, (question, vector)) in (0..).zip(training.iter().zip(vectors)) {
        let (shortlist, decision) = engine.rank(&query(&question.text, seed), Some(vector))?;
        engine.remember(decision);
        let gain = engine.record(shortlist.decision, &Outcome::used(question.relevant.clone()))?;
        table.add(&shortlist, &question.relevant, gain.surfaces[0].loss_bits);
    }
    Ok(table)
}

fn by_content(
    catalog: &Catalog,
    asked: &[&Question],
    vectors: Option<&[Vec<f32>]>,
) -> Result<Table, Box<dyn Error>> {
    let (router, mut table) = (Router::default(), Table::default());
    for (i, question) in asked.iter().enumerate() {
        let vector = vectors.map(|vectors| Quantized::new(&vectors[i])).transpose()?;
        let shortlist = router.rank_near(catalog, &query(&question.text, 0), vector.as_ref())?;
        let bits = surprise(&shortlist, question, catalog.len());
        table.add(&shortlist, &question.relevant, bits);
    }
    Ok(table)
}

/// The bits by which what was needed surprised a shortlist of many items.
fn surprise(shortlist: &Shortlist, question: &Question, items: usize) -> f64 {
    let shown: f64 = shortlist.picks.iter().map(|pick| pick.p).sum();
    let rest = (1.0 - shown - shortlist.none[0]).max(1e-12) / (items - shortlist.picks.len()).max(1) as f64;
    let p = |id: &ItemId| {
        shortlist
            .picks
            .iter()
            .find(|pick| pick.item == *id)
            .map_or(rest, |pick| pick.p)
    };
    let bits = question.relevant.iter().map(|id| -p(id).log2());
    bits.sum::<f64>() / question.relevant.len() as f64
}

fn query(text: &str, seed: u64) -> Query {
    let budget = SurfaceBudget::new(Surface::Tool).with_max_items(64);
    Query::new(text, u32::MAX).with_surface(budget).with_seed(seed)
}

fn embed_all<'a>(
    embedder: &dyn Embedder,
    texts: impl Iterator<Item = &'a str>,
) -> Result<Vec<Vec<f32>>, Box<dyn Error>> {
    let texts: Vec<&str> = texts.collect();
    let mut vectors = Vec::with_capacity(texts.len());
    for batch in texts.chunks(32) {
        let mut out = vec![0.0; batch.len() * embedder.dim()];
        embedder.embed(batch, &mut out)?;
        vectors.extend(out.chunks_exact(embedder.dim()).map(<[f32]>::to_vec));
    }
    Ok(vectors)
}
