//! Weights and constants of a model in memory, packed.

use std::sync::Mutex;

use super::cache::{PageShape, PagedCache};
use super::kernel::Body;
use super::matrix::{Input, Linear, Matrix, Packer};
use super::memory::Arena;
use super::pass::{Scratch, Sequence, scratch_bytes};
use super::pool::Pool;
use crate::checkpoint::{Checkpoint, Part, RotaryPairs, Stored};
use crate::config::{FeedForward, Head, ModelConfig};
use crate::error::{Error, Result};
use crate::experts::Experts;
use crate::model::Output;

/// How a model runs on the processor.
#[derive(Debug, Clone, Copy)]
pub(crate) struct CpuOptions {
    /// Threads, the caller's among them.
    pub(crate) threads: usize,
    /// The instructions.
    pub(crate) body: Body,
}

impl CpuOptions {
    /// So many threads with the best instructions that the processor has.
    pub(crate) fn new(threads: usize) -> Self {
        Self {
            threads,
            body: Body::best(),
        }
    }
}

/// A model that runs on the processor. Calls from several threads take turns.
#[derive(Debug)]
pub(crate) struct CpuModel {
    weights: Weights,
    engine: Mutex<Engine>,
}

/// What one pass at a time uses.
#[derive(Debug)]
pub(super) struct Engine {
    pub(super) pool: Pool,
    pub(super) scratch: Scratch,
}

#[derive(Debug)]
pub(super) struct Weights {
    pub(super) config: ModelConfig,
    pub(super) body: Body,
    pub(super) pages: PageShape,
    pub(super) blocks: Vec<Block>,
    pub(super) norm: Vec<f32>,
    /// The embedding; of a tied head the head too.
    pub(super) embedding: Linear,
    /// An output projection of its own.
    pub(super) output: Option<Linear>,
    /// The angle by which each pair of coordinates turns at each step.
    pub(super) frequencies: Vec<f64>,
}

#[derive(Debug)]
pub(super) struct Block {
    pub(super) attn_norm: Vec<f32>,
    pub(super) qkv: Linear,
    pub(super) out: Linear,
    pub(super) ffn_norm: Vec<f32>,
    pub(super) ffn: Ffn,
}

/// The feed-forward half of a block.
#[derive(Debug)]
pub(super) enum Ffn {
    One(Network),
    Mixture(Mixture),
}

/// A feed-forward network.
#[derive(Debug)]
pub(super) struct Network {
    /// The gate's matrix, if there is one, and the one beside it.
    pub(super) up: Linear,
    pub(super) down: Linear,
}

/// Several of them, and what chooses.
#[derive(Debug)]
pub(super) struct Mixture {
    pub(super) rule: Experts,
    pub(super) router: Linear,
    pub(super) bias: Option<Vec<f32>>,
    pub(super) experts: Vec<Network>,
}

impl Ffn {
    /// What its activations must be there as.
    pub(super) fn input(&self) -> Input {
        match self {
            Self::One(network) => network.up.input(),
            Self::Mixture(mixture) => mixture.input(),
        }
    }
}

impl Mixture {
    fn input(&self) -> Input {
        let ups = self.experts.iter().map(|expert| &expert.up);
        Input::of(ups.chain([&self.router]))
    }
}

impl CpuModel {
    /// Packs every weight of the checkpoint.
    ///
    /// # Errors
    /// What the checkpoint says of a missing or damaged part; [`Error::Device`] when there are no threads.
    pub(crate) fn load(checkpoint: &dyn Checkpoint, options: CpuOptions) -> Result<Self> {
        let mut pool = Pool::new(options.threads).map_err(|error| Error::Device {
            device: "cpu".into(),
            reason: format!("no threads: {error}"),
        })?;
        let mut packer = Packer {
            pool: &mut pool,
            arena: Arena::default(),
        };
        let weights = Weights::load(checkpoint, options.body, &mut packer)?;
        let scratch = Scratch::default();
        Ok(Self {
            weights,
            engine: Mutex::new(Engine { pool, scratch }),
        })
    }

    /// An empty cache of one sequence.
    pub(crate) fn new_cache(&self) -> PagedCache {
        PagedCache::new(self.weights.pages)
    }

    /// Bytes that a pass of so many rows computes in, of a model that is not loaded yet.
    pub(crate) fn scratch_bytes_of(config: &ModelConfig, rows: usize) -> usize {
        scratch_bytes(config, rows)
    }

    /// [`CpuModel::cache_bytes`] of a model that is not loaded yet.
    pub(crate) fn cache_bytes_of(config: &ModelConfig, positions: usize) -> usize {
        PageShape::new(config).cache_bytes(positions)
    }

    /// Bytes of a cache that holds so many positions.
    pub(crate) fn cache_bytes(&self, positions: usize) -> usize {
        self.weights.pages.cache_bytes(positions)
    }

    /// Bytes of the buffers that passes have left behind.
    #[cfg(all(test, feature = "testkit"))]
    pub(crate) fn scratch_bytes(&self) -> usize {
        let engine = self.engine.lock();
        let engine = engine.unwrap_or_else(std::sync::PoisonError::into_inner);
        engine.scratch.bytes()
    }

    /// Appends the tokens of each sequence to its cache.
    pub(crate) fn run(&self, sequences: &mut [Sequence<'_>]) -> Vec<Output> {
        // What a pass leaves behind is written anew by the next, so a panic within one breaks nothing.
        let mut engine = self
            .engine
            .lock()
            .unwrap_or_else(std::sync::PoisonError::into_inner);
        self.weights.run(&mut engine, sequences)
    }
}

impl Weights {
    fn load(checkpoint: &dyn Checkpoint, body: Body, packer: &mut Packer<'_>) -> Result<Self> {
        let config = checkpoint.config().clone();
        let (vocab, d) = (config.vocab_size, config.n_embd);
        let embedding = checkpoint.embedding()?.stored();
        let mut whole = |stored: &Stored| Matrix::pack(stored, vocab, d, |row| row, packer);
        let embedding = Linear::new(vec![whole(&embedding)?]);
        let output = match config.head {
            Head::Tied => None,
            Head::Untied => {
                let stored = checkpoint.stored(Part::Output, &[vocab, d])?;
                Some(Linear::new(vec![whole(&stored)?]))
            }
        };
        let blocks = (0..config.n_layer)
            .map(|i| Block::load(checkpoint, i, packer))
            .collect::<Result<_>>()?;
        Ok(Self {
            body,
            pages: PageShape::new(&config),
            blocks,
            norm: vector(checkpoint, Part::OutputNorm, d)?,
            embedding,
            output,
            frequencies: frequencies(&config, checkpoint.rotary_divisors()?.as_deref()),
            config,
        })
    }

    pub(super) fn head(&self) -> &Linear {
        self.output.as_ref().unwrap_or(&self.embedding)
    }
}

fn frequencies(config: &ModelConfig, divisors: Option<&[f32]>) -> Vec<f64> {
    let pairs = config.head_dim / 2;
    let turn = |i: usize| config.rope_base.powf(-(i as f64) / pairs as f64);
    (0..pairs)
        .map(|i| turn(i) / divisors.map_or(1.0, |d| f64::from(d[i])))
        .collect()
}

fn vector(checkpoint: &dyn Checkpoint, part: Part, n: usize) -> Result<Vec<f32>> {
    checkpoint.stored(part, &[n])?.dense()
}

impl Block {
    fn load(checkpoint: &dyn Checkpoint, i: usize, packer: &mut Packer<'_>) -> Result<Self> {
        let config = checkpoint.config();
        let (d, q, kv) = (config.n_embd, config.q_width(), config.kv_width());
        let (head_dim, pairs) = (config.head_dim, checkpoint.rotary_pairs());
        let mut matrix = |part: Part, rows: usize, columns: usize| {
            let stored = checkpoint.stored(part, &[rows, columns])?;
            let turned = matches!(part, Part::Query(_) | Part::Key(_)) && pairs == RotaryPairs::Adjacent;
            let order = |row: usize| if turned { adjacent(row, head_dim) } else { row };
            Matrix::pack(&stored, rows, columns, order, packer)
        };
        let qkv = vec![
            matrix(Part::Query(i), q, d)?,
            matrix(Part::Key(i), kv, d)?,
            matrix(Part::Value(i), kv, d)?,
        ];
        Ok(Self {
            qkv: Linear::new(qkv),
            out: Linear::new(vec![matrix(Part::AttnOutput(i), d, q)?]),
            ffn: Ffn::load(checkpoint, i, packer)?,
            attn_norm: vector(checkpoint, Part::AttnNorm(i), d)?,
            ffn_norm: vector(checkpoint, Part::FfnNorm(i), d)?,
        })
    }
}

impl Ffn {
    fn load(checkpoint: &dyn Checkpoint, i: usize, packer: &mut Packer<'_>) -> Result<Self> {
        let Some(rule) = checkpoint.config().experts else {
            let parts = (Part::Gate(i), Part::Up(i), Part::Down(i));
            return Network::load(checkpoint, parts, packer).map(Self::One);
        };
        let (rows, columns) = (rule.count, checkpoint.config().n_embd);
        let router = checkpoint.stored(Part::Router(i), &[rows, columns])?;
        let router = Matrix::pack(&router, rows, columns, |row| row, packer)?;
        let experts = (0..rule.count).map(|e| {
            let parts = (
                Part::ExpertGate(i, e),
                Part::ExpertUp(i, e),
                Part::ExpertDown(i, e),
            );
            Network::load(checkpoint, parts, packer)
        });
        Ok(Self::Mixture(Mixture {
            rule,
            experts: experts.collect::<Result<_>>()?,
            router: Linear::new(vec![router]),
            bias: checkpoint.router_bias(i)?,
        }))
    }
}

impl Network {
    fn load(
        checkpoint: &dyn Checkpoint,
        (gate, up, down): (Part, Part, Part),
        packer: &mut Packer<'_>,
    ) -> Result<Self> {
        let (d, ff) = (checkpoint.config().n_embd, checkpoint.config().n_ff);
        let mut matrix = |part: Part, rows: usize, columns: usize| {
            let stored = checkpoint.stored(part, &[rows, columns])?;
            Matrix::pack(&stored, rows, columns, |row| row, packer)
        };
        let ups = match checkpoint.config().feed_forward {
            FeedForward::SwiGlu => vec![matrix(gate, ff, d)?, matrix(up, ff, d)?],
            FeedForward::ReluSquared => vec![matrix(up, ff, d)?],
        };
        Ok(Self {
            up: Linear::new(ups),
            down: Linear::new(vec![matrix(down, d, ff)?]),
        })
    }
}

/// Which row of a matrix with adjacent pairs is row `row` of one with pairs half a head apart.
fn adjacent(row: usize, head_dim: usize) -> usize {
    let (head, i, half) = (row / head_dim, row % head_dim, head_dim / 2);
    head * head_dim + 2 * (i % half) + i / half
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn adjacent_pairs_become_halves() {
        let rows: Vec<usize> = (0..8).map(|row| adjacent(row, 4)).collect();
        assert_eq!(rows, [0, 2, 1, 3, 4, 6, 5, 7]);
    }
}
