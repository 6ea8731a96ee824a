//! Strangers whose descriptions are made of what people ask, so that they are found for everything.
//!
//! One item in a hundred more is hostile: the questions are put into as many clusters, and each hostile description is
//! the six questions nearest to the middle of one. Nobody vouches for it, and each has a provider of its own.

use aion_router::embed::embed_one;
use aion_router::item::Fields;
use aion_router::quality::Question;
use aion_router::vector::{Quantized, Vectors};
use aion_router::{
    Embedder, Engine, EngineOptions, Item, ItemId, Outcome, Provenance, Query, Surface, SurfaceBudget,
};

use super::sets::{Set, add};
use super::{Dice, Result};

/// Questions that a hostile description is made of.
const STOLEN: usize = 6;
/// Rounds of clustering.
const ROUNDS: usize = 12;
/// Picks that count.
const TOP: usize = 5;

/// How far the strangers got, in percent.
#[derive(Debug, Clone, Copy, Default)]
pub struct Taken {
    /// Of the first five places of all questions.
    pub slots: f64,
    /// Of the questions, those with a stranger among the first five.
    pub questions: f64,
}

/// What strangers take from an encoder alone, from the router before it has learned, and after.
#[derive(Debug, Clone, Copy)]
pub struct Attack {
    /// By the cosines of the plain encoder.
    pub encoder: Taken,
    /// By the router without history.
    pub cold: Taken,
    /// By the router that has learned from `training`.
    pub learned: Taken,
    /// How many strangers.
    pub strangers: usize,
}

/// Attacks a set, asking `asked`, in `draws` clusterings of those; the mean of them.
///
/// # Errors
/// When an embedder or the engine fails.
pub fn measure(
    set: &Set,
    training: &[&Question],
    asked: &[&Question],
    (plain, embedder): (&dyn Embedder, &dyn Embedder),
    draws: u64,
) -> Result<Attack> {
    let strangers = set.items.len().div_ceil(100);
    let vectors: Vec<Vec<f32>> = asked
        .iter()
        .map(|question| embed_one(plain, &question.text))
        .collect::<std::result::Result<_, _>>()?;
    let mut attack = Attack {
        encoder: Taken::default(),
        cold: Taken::default(),
        learned: Taken::default(),
        strangers,
    };
    for draw in 0..draws {
        let hostile = hostile(asked, &vectors, strangers, draw)?;
        let mut engine = set.engine(embedder, EngineOptions::default())?;
        for item in &hostile {
            add(&mut engine, item.clone(), embedder)?;
        }
        let share = 1.0 / draws as f64;
        attack
            .encoder
            .add(share, by_encoder(set, &hostile, &vectors, plain)?);
        attack.cold.add(share, by_engine(&engine, asked, embedder)?);
        teach(&mut engine, training, embedder)?;
        attack.learned.add(share, by_engine(&engine, asked, embedder)?);
    }
    Ok(attack)
}

impl Taken {
    fn add(&mut self, share: f64, other: Self) {
        self.slots += share * other.slots;
        self.questions += share * other.questions;
    }

    /// From how many of the first places each question lost.
    fn of(lost: &[usize]) -> Self {
        let all = lost.len().max(1) as f64;
        let hit = lost.iter().filter(|lost| **lost > 0).count();
        Self {
            slots: 100.0 * lost.iter().sum::<usize>() as f64 / (all * TOP as f64),
            questions: 100.0 * hit as f64 / all,
        }
    }
}

/// Records that the questions were answered by what they need.
///
/// # Errors
/// When the embedder or the engine fails.
pub fn teach(engine: &mut Engine, training: &[&Question], embedder: &dyn Embedder) -> Result<()> {
    for (seed, question) in (0..).zip(training) {
        let (shortlist, decision) = engine.rank(
            &query(question, seed),
            Some(&embed_one(embedder, &question.text)?),
        )?;
        engine.remember(decision);
        engine.record(
            shortlist.decision,
            &Outcome::used(question.relevant.iter().cloned()),
        )?;
    }
    Ok(())
}

fn query(question: &Question, seed: u64) -> Query {
    Query::new(&question.text, u32::MAX)
        .with_surface(SurfaceBudget::new(Surface::Tool))
        .with_seed(seed)
}

fn hostile(asked: &[&Question], vectors: &[Vec<f32>], strangers: usize, draw: u64) -> Result<Vec<Item>> {
    let middles = middles(vectors, strangers, draw);
    let item = |(i, middle): (usize, &Vec<f32>)| {
        let mut near: Vec<usize> = (0..vectors.len()).collect();
        near.sort_by(|a, b| dot(&vectors[*b], middle).total_cmp(&dot(&vectors[*a], middle)));
        let stolen = near.iter().take(STOLEN).map(|place| asked[*place].text.as_str());
        let text = stolen.collect::<Vec<_>>().join(" ");
        let provider = format!("stranger_{i}");
        Ok(Item::new(Surface::Tool, &format!("assistant_{i}"), &text)?
            .with_provider(&provider, Provenance::Unverified)?)
    };
    middles.iter().enumerate().map(item).collect()
}

/// The middles of so many clusters of directions.
fn middles(vectors: &[Vec<f32>], clusters: usize, draw: u64) -> Vec<Vec<f32>> {
    let mut dice = Dice::new(100 + draw);
    let mut middles: Vec<Vec<f32>> = (0..clusters)
        .map(|_| vectors[dice.below(vectors.len())].clone())
        .collect();
    for _ in 0..ROUNDS {
        let mut sums = vec![vec![0.0; vectors[0].len()]; clusters];
        for vector in vectors {
            let nearest =
                (0..clusters).max_by(|a, b| dot(vector, &middles[*a]).total_cmp(&dot(vector, &middles[*b])));
            let sum = &mut sums[nearest.unwrap_or(0)];
            sum.iter_mut().zip(vector).for_each(|(sum, x)| *sum += x);
        }
        for (middle, sum) in middles.iter_mut().zip(sums) {
            let length = dot(&sum, &sum).sqrt();
            if length > 0.0 {
                *middle = sum.iter().map(|x| x / length).collect();
            }
        }
    }
    middles
}

fn dot(a: &[f32], b: &[f32]) -> f32 {
    a.iter().zip(b).map(|(a, b)| a * b).sum()
}

fn by_encoder(set: &Set, hostile: &[Item], asked: &[Vec<f32>], plain: &dyn Embedder) -> Result<Taken> {
    let mut vectors = Vectors::new();
    for (slot, item) in set.items.iter().chain(hostile).enumerate() {
        // Without a router nobody cuts what a stranger says.
        let Fields { name, text, .. } = item.fields();
        let text = match item.provenance() {
            Provenance::Unverified => format!("{name}: {text}"),
            _ => item.embedded_text(),
        };
        vectors.set(slot, &embed_one(plain, &text)?)?;
    }
    let mut lost = Vec::new();
    for vector in asked {
        let found = vectors.nearest(&Quantized::new(vector)?, TOP);
        lost.push(found.iter().filter(|found| found.slot >= set.items.len()).count());
    }
    Ok(Taken::of(&lost))
}

fn by_engine(engine: &Engine, asked: &[&Question], embedder: &dyn Embedder) -> Result<Taken> {
    let is_hostile = |id: &ItemId| {
        engine
            .catalog()
            .get(id)
            .is_some_and(|item| item.provenance() == Provenance::Unverified)
    };
    let mut lost = Vec::new();
    for question in asked {
        let vector = embed_one(embedder, &question.text)?;
        let (shortlist, _) = engine.rank(&query(question, 0), Some(&vector))?;
        let first = shortlist.picks.iter().take(TOP);
        lost.push(first.filter(|pick| is_hostile(&pick.item)).count());
    }
    Ok(Taken::of(&lost))
}
