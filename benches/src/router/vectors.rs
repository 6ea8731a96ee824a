//! A million vectors: real ones of texts where an encoder is at hand, and mixtures of three of those beyond.

use std::hint::black_box;
use std::path::Path;

use aion_router::vector::{Found, Level, Quantized, Vectors};
use serde::Deserialize;

use super::sets::{read_floats, write_floats};
use super::{Dice, Result};
use crate::memory::fastest;

/// Numbers of a vector.
pub const DIM: usize = 384;
/// Candidates whose signs agree best, which are looked at in full.
pub const RERANKED: usize = 100;
/// How many are wanted.
pub const TOP: usize = 10;

/// How a search goes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Scan {
    /// All rows, as bytes.
    I8,
    /// The same with AVX2 alone.
    I8Avx2,
    /// Signs first, then the best of them as bytes.
    Signs,
}

/// Writes `rows.f32` and `queries.f32`, vectors of length 1. The first `real.len()` vectors are `real`: of those the
/// last `queries` are asked. Without real ones they lie around 4,096 points.
///
/// # Errors
/// When a file cannot be written.
pub fn write(dir: &Path, rows: usize, queries: usize, real: &[Vec<f32>]) -> Result<()> {
    let mut dice = Dice::new(20_261_122);
    let made;
    let base = if real.len() > 2 * queries {
        real
    } else {
        made = (0..4_096).map(|_| bell(&mut dice)).collect::<Vec<_>>();
        &made
    };
    let (known, asked) = base.split_at(base.len() - queries);
    let mut all = Vec::with_capacity(rows * DIM);
    for vector in known.iter().take(rows) {
        all.extend(unit(vector));
    }
    while all.len() < rows * DIM {
        let three = [0; 3].map(|_| (&known[dice.below(known.len())], 0.2 + dice.share()));
        let mix = |i: usize| three.iter().map(|(vector, share)| vector[i] * share).sum();
        all.extend(unit(&(0..DIM).map(mix).collect::<Vec<f32>>()));
    }
    let asked: Vec<f32> = asked.iter().flat_map(|vector| unit(vector)).collect();
    write_floats(&dir.join("rows.f32"), &all)?;
    write_floats(&dir.join("queries.f32"), &asked)?;
    Ok(())
}

fn bell(dice: &mut Dice) -> Vec<f32> {
    let of_twelve = |dice: &mut Dice| (0..12).map(|_| dice.share()).sum::<f32>() - 6.0;
    (0..DIM).map(|_| of_twelve(dice)).collect()
}

fn unit(vector: &[f32]) -> Vec<f32> {
    let length = vector
        .iter()
        .map(|x| x * x)
        .sum::<f32>()
        .sqrt()
        .max(f32::MIN_POSITIVE);
    vector.iter().map(|x| x / length).collect()
}

/// Vectors to be searched, and queries.
#[derive(Debug)]
pub struct Search {
    vectors: Vectors,
    queries: Vec<Quantized>,
}

impl Search {
    /// The first `rows` of the vectors that [`write()`] wrote.
    ///
    /// # Errors
    /// When a file cannot be read.
    pub fn read(dir: &Path, rows: usize) -> Result<Self> {
        let (all, queries) = (
            read_floats(&dir.join("rows.f32"))?,
            read_floats(&dir.join("queries.f32"))?,
        );
        let mut vectors = Vectors::new();
        // The last one first: the columns are made once.
        let wanted = all.chunks_exact(DIM).take(rows).enumerate();
        for (slot, vector) in wanted.rev() {
            vectors.set(slot, vector)?;
        }
        let queries = queries.chunks_exact(DIM).map(Quantized::new);
        Ok(Self {
            vectors,
            queries: queries.collect::<std::result::Result<_, _>>()?,
        })
    }

    /// The seconds of processor time that one query takes, the fastest of `passes` passes over all of them.
    pub fn seconds(&self, scan: Scan, passes: usize) -> f64 {
        let (cpu, _) = fastest(passes, || {
            for query in &self.queries {
                black_box(self.nearest(scan, black_box(query)));
            }
        });
        cpu.as_secs_f64() / self.queries.len() as f64
    }

    /// The slots that each query finds.
    pub fn found(&self, scan: Scan) -> Vec<Vec<usize>> {
        let slots = |query| self.nearest(scan, query).iter().map(|found| found.slot).collect();
        self.queries.iter().map(slots).collect()
    }

    fn nearest(&self, scan: Scan, query: &Quantized) -> Vec<Found> {
        match scan {
            Scan::I8 => self.vectors.nearest(query, TOP),
            Scan::I8Avx2 => self.vectors.nearest_at(Level::Avx2, query, TOP),
            Scan::Signs => self.vectors.nearest_by_signs(query, TOP, RERANKED),
        }
    }
}
