//! A whole ranking over six large surfaces, and the replay of a log.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use aion_router::{
    Decision, Engine, EngineOptions, Item, ItemId, LogEntry, Outcome, Provenance, Query, Rendering, Surface,
    SurfaceBudget,
};

use super::vectors::DIM;
use super::{Dice, Result};
use crate::memory::cpu_time;

const SURFACES: [Surface; 6] = [
    Surface::Tool,
    Surface::Process,
    Surface::File,
    Surface::Doc,
    Surface::Norm,
    Surface::Handler,
];
/// Words that texts are made of.
const WORDS: usize = 4_000;
/// Tokens of a shortlist.
const BUDGET: u32 = 4_000;

/// What a shortlist takes.
#[derive(Debug, Clone, Copy)]
pub struct Percentiles {
    /// The median, in seconds of processor time.
    pub p50_s: f64,
    /// The 99th of a hundred, in seconds of processor time.
    pub p99_s: f64,
    /// The median from start to end.
    pub p50_wall_s: f64,
    /// The 99th of a hundred from start to end.
    pub p99_wall_s: f64,
}

/// A catalog of so many items on each of some surfaces, of made-up words and vectors.
#[derive(Debug)]
pub struct Catalogs {
    engine: Engine,
    vectors: BTreeMap<ItemId, Vec<f32>>,
    surfaces: usize,
    dice: Dice,
}

impl Catalogs {
    /// A catalog of `items` items on each of `surfaces` surfaces, at most six.
    ///
    /// # Errors
    /// When the engine refuses an item.
    pub fn new(surfaces: usize, items: usize) -> Result<Self> {
        let mut dice = Dice::new(11);
        let mut engine = Engine::new(EngineOptions::default())?;
        let mut vectors = BTreeMap::new();
        for surface in SURFACES.into_iter().take(surfaces) {
            for i in 0..items {
                let item = Item::new(
                    surface.clone(),
                    &format!("{}_{i}", word(&mut dice)),
                    &text(&mut dice, 16),
                )?
                .with_provider("builtin", Provenance::Builtin)?
                .with_renderings(vec![
                    Rendering::new("a name", 6),
                    Rendering::new("all of it", 120),
                ])?;
                let id = item.id().clone();
                engine.upsert(item)?;
                let vector = vector(&mut dice);
                engine.set_vector(&id, &vector)?;
                vectors.insert(id, vector);
            }
        }
        Ok(Self {
            engine,
            vectors,
            surfaces: surfaces.min(SURFACES.len()),
            dice,
        })
    }

    fn ask(&mut self, seed: u64) -> Result<(Query, Vec<f32>)> {
        let surfaces = SURFACES.into_iter().take(self.surfaces).map(SurfaceBudget::new);
        let words = text(&mut self.dice, 12);
        let query = surfaces.fold(Query::new(words, BUDGET).with_seed(seed), Query::with_surface);
        Ok((query, vector(&mut self.dice)))
    }

    /// Ranks and learns from the first pick of each surface, `decisions` times; the log of it.
    ///
    /// # Errors
    /// When the engine refuses.
    pub fn use_it(&mut self, decisions: u64) -> Result<Vec<LogEntry>> {
        let mut log = Vec::new();
        for seed in 0..decisions {
            let (query, vector) = self.ask(seed)?;
            let (_, decision) = self.engine.rank(&query, Some(&vector))?;
            let outcome = Outcome::used(firsts(&decision));
            self.engine.remember(decision.clone());
            self.engine.record(decision.id, &outcome)?;
            let id = decision.id;
            log.push(LogEntry::Decided(Box::new(decision)));
            log.push(LogEntry::Recorded {
                decision: id,
                outcome,
            });
        }
        Ok(log)
    }

    /// How long so many rankings take.
    ///
    /// # Errors
    /// When the engine refuses.
    pub fn rank(&mut self, times: u64) -> Result<Percentiles> {
        let (mut cpu, mut wall) = (Vec::new(), Vec::new());
        for seed in 0..times {
            let (query, vector) = self.ask(1_000_000 + seed)?;
            let (cpu_start, wall_start) = (cpu_time(), Instant::now());
            let (shortlist, decision) = self.engine.rank(&query, Some(&vector))?;
            wall.push(wall_start.elapsed());
            cpu.push(cpu_time().saturating_sub(cpu_start));
            if shortlist.picks.is_empty()
                || shortlist.tokens > BUDGET
                || decision.surfaces.len() != self.surfaces
            {
                return Err("a shortlist that is none".into());
            }
        }
        Ok(Percentiles {
            p50_s: percentile(&mut cpu, 50),
            p99_s: percentile(&mut cpu, 99),
            p50_wall_s: percentile(&mut wall, 50),
            p99_wall_s: percentile(&mut wall, 99),
        })
    }

    /// An engine with the same catalog that has learned nothing.
    ///
    /// # Errors
    /// When the engine refuses an item.
    pub fn fresh(&self) -> Result<Engine> {
        let mut fresh = Engine::new(EngineOptions::default())?;
        for item in self.engine.catalog().iter() {
            let id = item.id().clone();
            fresh.upsert(item.clone())?;
            fresh.set_vector(&id, self.vectors.get(&id).ok_or("an item without a vector")?)?;
        }
        Ok(fresh)
    }

    /// Replays a log of [`Catalogs::use_it`] into an engine with the same catalog; the decisions a second, and
    /// whether it has learned the same.
    ///
    /// # Errors
    /// When the engine refuses.
    pub fn replay(&self, log: Vec<LogEntry>) -> Result<(f64, bool)> {
        let mut fresh = self.fresh()?;
        let decisions = log.len() / 2;
        let start = cpu_time();
        for entry in log {
            fresh.apply(entry);
        }
        let took = cpu_time().saturating_sub(start);
        let same = fresh.history().outcomes() == self.engine.history().outcomes()
            && fresh.history() == self.engine.history();
        Ok((decisions as f64 / took.as_secs_f64(), same))
    }
}

fn firsts(decision: &Decision) -> Vec<ItemId> {
    let firsts = decision
        .surfaces
        .iter()
        .filter_map(|surface| surface.candidates.first());
    firsts.map(|candidate| candidate.item.clone()).collect()
}

fn percentile(times: &mut [Duration], of_hundred: usize) -> f64 {
    times.sort_unstable();
    times
        .get(times.len() * of_hundred / 100)
        .map_or(f64::NAN, Duration::as_secs_f64)
}

/// A word, the low ones often.
fn word(dice: &mut Dice) -> String {
    let share = dice.share();
    format!("w{}", ((WORDS as f32).powf(share) as usize).min(WORDS))
}

fn text(dice: &mut Dice, words: usize) -> String {
    let words: Vec<String> = (0..words).map(|_| word(dice)).collect();
    words.join(" ")
}

fn vector(dice: &mut Dice) -> Vec<f32> {
    (0..DIM).map(|_| dice.share() - 0.5).collect()
}
