//! An evaluation from its start to its end.

use serde::Serialize;

use super::{Quality, Question};
use crate::catalog::Catalog;
use crate::decision::Outcome;
use crate::embed::{EmbedError, Embedder};
use crate::engine::{Engine, EngineOptions};
use crate::error::Error;
use crate::item::{Item, ItemId, Surface};
use crate::query::{Query, Shortlist, SurfaceBudget};
use crate::router::Router;
use crate::vector::Quantized;

/// Texts that are embedded at once.
const BATCH: usize = 32;
/// Candidates of a decision that are kept to learn from.
const LOGGED: usize = 256;

/// What an evaluation does.
#[derive(Debug, Clone)]
#[non_exhaustive]
pub struct Plan {
    /// How many questions are learned from, at most half of all.
    pub training: usize,
    /// How many questions are asked afterwards.
    pub asked: usize,
    /// The ranking without learning.
    pub router: Router,
}

impl Default for Plan {
    /// Learns from up to 2,500 questions and asks up to 2,600 others.
    fn default() -> Self {
        Self {
            training: 2_500,
            asked: 2_600,
            router: Router::default(),
        }
    }
}

impl Plan {
    /// Sets how many questions are learned from.
    #[must_use]
    pub const fn with_training(mut self, questions: usize) -> Self {
        self.training = questions;
        self
    }

    /// Sets how many questions are asked afterwards.
    #[must_use]
    pub const fn with_asked(mut self, questions: usize) -> Self {
        self.asked = questions;
        self
    }
}

/// What an evaluation found.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Report {
    /// How many items there are.
    pub items: usize,
    /// Who made the embeddings.
    pub embedder: String,
    /// The bits of somebody who knows nothing.
    pub uniform_bits: f64,
    /// By words alone.
    pub words: Quality,
    /// By words and embeddings.
    pub content: Quality,
    /// While learning: every question is asked before it is learned from.
    pub learning: Quality,
    /// After learning, on the questions of `words` and `content`.
    pub learned: Quality,
    /// The mean bits of all questions so far, by how many those are.
    pub curve: Vec<(f64, f64)>,
}

/// What an evaluation fails at.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum QualityError {
    /// The engine refused.
    #[error("the router refused")]
    Engine(#[from] Error),
    /// The embedder failed.
    #[error("the texts could not be embedded")]
    Embed(#[from] EmbedError),
    /// There is nothing to ask, or nothing to ask about.
    #[error("an evaluation needs items and at least two questions whose answers are among them")]
    Empty,
}

/// Asks questions about items; `progress` hears how many of how many steps are done.
///
/// Questions that no item answers are left out. They are split by their words, the same way every time.
///
/// # Errors
/// [`QualityError`].
pub fn evaluate(
    items: Vec<Item>,
    questions: &[Question],
    embedder: &dyn Embedder,
    plan: &Plan,
    mut progress: impl FnMut(usize, usize),
) -> Result<Report, QualityError> {
    let (training, asked) = split(&items, questions, plan);
    if training.is_empty() || asked.is_empty() {
        return Err(QualityError::Empty);
    }
    let all = items.len() + 2 * (training.len() + asked.len());
    let mut done = 0;
    let mut step = |steps: usize| {
        done += steps;
        progress(done, all);
    };
    let router = &plan.router;
    let mut engine = Engine::new(EngineOptions::default().with_router(*router).with_logged(LOGGED))?;
    let texts: Vec<String> = items.iter().map(Item::embedded_text).collect();
    let vectors = embed_all(embedder, texts.iter().map(String::as_str), &mut step)?;
    for (item, vector) in items.into_iter().zip(&vectors) {
        let id = item.id().clone();
        engine.upsert(item)?;
        engine.set_vector(&id, vector)?;
    }
    let known = embed_all(embedder, training.iter().map(|q| &*q.text), &mut step)?;
    let vectors = embed_all(embedder, asked.iter().map(|q| &*q.text), &mut step)?;
    let words = by_content(router, engine.catalog(), &asked, None)?;
    let content = by_content(router, engine.catalog(), &asked, Some(&vectors))?;
    let (learning, curve) = learn(&mut engine, &training, &known, &mut step)?;
    let learned = ask(&engine, &asked, &vectors)?;
    step(asked.len());
    Ok(Report {
        items: engine.catalog().len(),
        embedder: embedder.model_id().to_owned(),
        uniform_bits: (engine.catalog().len() as f64).log2(),
        words,
        content,
        learning,
        learned,
        curve,
    })
}

/// Questions to learn from, and others: those that the items answer, in the order of a digest of their words.
pub fn split<'a>(
    items: &[Item],
    questions: &'a [Question],
    plan: &Plan,
) -> (Vec<&'a Question>, Vec<&'a Question>) {
    let ids: std::collections::BTreeSet<&ItemId> = items.iter().map(Item::id).collect();
    let answered = |question: &&Question| {
        !question.relevant.is_empty() && question.relevant.iter().all(|id| ids.contains(id))
    };
    let mut all: Vec<&Question> = questions.iter().filter(answered).collect();
    all.sort_by_cached_key(|question| place(&question.text));
    let (first, rest) = all.split_at(plan.training.min(all.len() / 2));
    (first.to_vec(), rest.iter().take(plan.asked).copied().collect())
}

/// By which questions are split: texts that are nearly the same are not near each other.
fn place(text: &str) -> [u8; 32] {
    *blake3::hash(text.as_bytes()).as_bytes()
}

fn embed_all<'a>(
    embedder: &dyn Embedder,
    texts: impl Iterator<Item = &'a str>,
    step: &mut impl FnMut(usize),
) -> Result<Vec<Vec<f32>>, EmbedError> {
    let texts: Vec<&str> = texts.collect();
    let mut vectors = Vec::with_capacity(texts.len());
    for batch in texts.chunks(BATCH) {
        let mut out = vec![0.0; batch.len() * embedder.dim()];
        embedder.embed(batch, &mut out)?;
        vectors.extend(out.chunks_exact(embedder.dim().max(1)).map(<[f32]>::to_vec));
        step(batch.len());
    }
    Ok(vectors)
}

fn by_content(
    router: &Router,
    catalog: &Catalog,
    asked: &[&Question],
    vectors: Option<&[Vec<f32>]>,
) -> Result<Quality, Error> {
    let mut quality = Quality::default();
    for (i, question) in asked.iter().enumerate() {
        let vector = vectors.map(|vectors| Quantized::new(&vectors[i])).transpose()?;
        let shortlist = router.rank_near(catalog, &query(question, 0), vector.as_ref())?;
        let bits = surprise(&shortlist, question, catalog.len());
        quality.add(ranked(&shortlist), &question.relevant, bits);
    }
    Ok(quality)
}

/// Predicts, scores, then learns, one question after the other.
fn learn(
    engine: &mut Engine,
    training: &[&Question],
    vectors: &[Vec<f32>],
    step: &mut impl FnMut(usize),
) -> Result<(Quality, Vec<(f64, f64)>), Error> {
    let (mut quality, mut curve) = (Quality::default(), Vec::new());
    let every = training.len().div_ceil(500);
    for (seed, (question, vector)) in (0..).zip(training.iter().zip(vectors)) {
        let (shortlist, decision) = engine.rank(&query(question, seed), Some(vector))?;
        engine.remember(decision);
        let gain = engine.record(
            shortlist.decision,
            &Outcome::used(question.relevant.iter().cloned()),
        )?;
        let bits: f64 = gain.surfaces.iter().map(|surface| surface.loss_bits).sum();
        quality.add(ranked(&shortlist), &question.relevant, bits);
        if (seed as usize + 1).is_multiple_of(every) {
            curve.push((quality.questions() as f64, quality.bits()));
        }
        step(1);
    }
    Ok((quality, curve))
}

fn ask(engine: &Engine, asked: &[&Question], vectors: &[Vec<f32>]) -> Result<Quality, Error> {
    let mut quality = Quality::default();
    for (question, vector) in asked.iter().zip(vectors) {
        let (shortlist, decision) = engine.rank(&query(question, 0), Some(vector))?;
        let outcome = Outcome::used(question.relevant.iter().cloned());
        let gain = engine.history().gain(&decision, &outcome);
        let bits: f64 = gain.surfaces.iter().map(|surface| surface.loss_bits).sum();
        quality.add(ranked(&shortlist), &question.relevant, bits);
    }
    Ok(quality)
}

/// The bits by which what was needed surprised a shortlist of many items.
fn surprise(shortlist: &Shortlist, question: &Question, items: usize) -> f64 {
    let shown: f64 = shortlist.picks.iter().map(|pick| pick.p).sum();
    let none: f64 = shortlist.none.iter().sum();
    let rest = (1.0 - shown - none).max(1e-12) / (items - shortlist.picks.len()).max(1) as f64;
    let picks = &shortlist.picks;
    let p = |id: &ItemId| {
        picks
            .iter()
            .find(|pick| pick.item == *id)
            .map_or(rest, |pick| pick.p)
    };
    let bits = question.relevant.iter().map(|id| -p(id).log2());
    bits.sum::<f64>() / question.relevant.len() as f64
}

/// Everything of the surface of what is needed, in order.
fn query(question: &Question, seed: u64) -> Query {
    let surface = question
        .relevant
        .first()
        .and_then(|id| id.as_str().split_once(':'));
    let surface = surface
        .and_then(|(name, _)| name.parse().ok())
        .unwrap_or(Surface::Tool);
    Query::new(&question.text, u32::MAX)
        .with_surface(SurfaceBudget::new(surface))
        .with_seed(seed)
}

fn ranked(shortlist: &Shortlist) -> impl Iterator<Item = &ItemId> {
    shortlist.picks.iter().map(|pick| &pick.item)
}
