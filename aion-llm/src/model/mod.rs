//! Running a model: tokens of several sequences in, logits or hidden states out.
//!
//! [`Model`] is what the rest of the crate sees; behind it stand the processor's own kernels ([`crate::cpu`]) and the
//! decoder on Burn for every other device. What a sequence gets does not depend on which other sequences share its pass.

mod attention;
mod cache;
mod decoder;
mod linear;
mod mixture;
mod rotary;

use crate::checkpoint::Checkpoint;
use crate::config::ModelConfig;
use crate::cpu::{CpuModel, CpuOptions, PagedCache, Sequence};
use crate::device::{Chosen, Place};
use crate::error::{Error, Result};
use cache::TensorCache;
use decoder::{Decoder, last_row, to_host};

/// The weights of a model, where they can be computed with.
#[derive(Debug)]
pub(crate) enum Model {
    /// On a device of Burn.
    Burn(Box<Decoder>),
    /// On the processor.
    Cpu(Box<CpuModel>),
}

/// Keys and values of the positions of one sequence.
#[derive(Debug)]
pub(crate) struct KvCache(Kept);

#[derive(Debug)]
enum Kept {
    Burn(TensorCache),
    Cpu(PagedCache),
}

/// What a pass does for one sequence.
#[derive(Debug)]
pub(crate) struct Step<'a> {
    /// At least one token; they stand after what the cache holds, and are appended to it. All are below the vocabulary
    /// size, and cache and tokens together fit the context length.
    pub(crate) tokens: &'a [u32],
    pub(crate) cache: &'a mut KvCache,
    pub(crate) want: Want,
}

/// What a sequence wants of its pass.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Want {
    /// Only that the cache holds the tokens.
    Nothing,
    /// The logits after the last token.
    LastLogits,
    /// The logits after every token.
    AllLogits,
    /// The normalised hidden states of all tokens.
    Hidden,
}

/// What a sequence got: row-major `[rows, vocab_size]` or `[rows, n_embd]`.
#[derive(Debug, Clone, PartialEq, Default)]
pub(crate) struct Output {
    pub(crate) values: Vec<f32>,
}

impl Model {
    /// Reads every weight of the checkpoint onto the device. The processor computes with so many threads.
    ///
    /// # Errors
    /// What the checkpoint says of a missing or damaged part.
    pub(crate) fn load(checkpoint: &dyn Checkpoint, chosen: &Chosen, threads: usize) -> Result<Self> {
        match &chosen.place {
            Place::Cpu => CpuModel::load(checkpoint, CpuOptions::new(threads))
                .map(Box::new)
                .map(Self::Cpu),
            Place::Burn(device) => Decoder::load(checkpoint, device).map(Box::new).map(Self::Burn),
        }
    }

    /// Bytes that a pass of so many rows computes in, of a model that is not loaded yet.
    pub(crate) fn scratch_bytes_of(config: &ModelConfig, chosen: &Chosen, rows: usize) -> usize {
        match &chosen.place {
            Place::Cpu => CpuModel::scratch_bytes_of(config, rows),
            Place::Burn(_) => Decoder::scratch_bytes_of(config, rows),
        }
    }

    /// [`Model::cache_bytes`] of a model that is not loaded yet.
    pub(crate) fn cache_bytes_of(config: &ModelConfig, chosen: &Chosen, positions: usize) -> usize {
        match &chosen.place {
            Place::Cpu => CpuModel::cache_bytes_of(config, positions),
            Place::Burn(_) => Decoder::cache_bytes_of(config, positions),
        }
    }

    /// An empty cache of one sequence.
    pub(crate) fn new_cache(&self) -> KvCache {
        match self {
            Self::Burn(decoder) => KvCache(Kept::Burn(decoder.new_cache())),
            Self::Cpu(model) => KvCache(Kept::Cpu(model.new_cache())),
        }
    }

    /// Bytes of a cache that holds so many positions.
    pub(crate) fn cache_bytes(&self, positions: usize) -> usize {
        match self {
            Self::Burn(decoder) => decoder.cache_bytes(positions),
            Self::Cpu(model) => model.cache_bytes(positions),
        }
    }

    /// Appends the tokens of each step to its cache; the outputs are in the order of the steps.
    ///
    /// # Errors
    /// [`Error::Numeric`](crate::Error::Numeric) when the device fails to hand over a result; the caches then hold something undefined.
    pub(crate) fn run(&self, steps: &mut [Step<'_>]) -> Result<Vec<Output>> {
        match self {
            Self::Burn(decoder) => steps.iter_mut().map(|step| one_by_one(decoder, step)).collect(),
            Self::Cpu(model) => {
                let sequences: Result<Vec<_>> = steps.iter_mut().map(sequence).collect();
                Ok(model.run(&mut sequences?))
            }
        }
    }
}

fn sequence<'a>(step: &'a mut Step<'_>) -> Result<Sequence<'a>> {
    match &mut step.cache.0 {
        Kept::Cpu(cache) => Ok(Sequence {
            tokens: step.tokens,
            cache,
            want: step.want,
        }),
        Kept::Burn(_) => Err(foreign_cache()),
    }
}

fn foreign_cache() -> Error {
    Error::Numeric("nothing: the cache is that of a model on another device".into())
}

/// Burn's decoder takes the sequences in turn.
fn one_by_one(decoder: &Decoder, step: &mut Step<'_>) -> Result<Output> {
    let hidden = decoder.forward(step.tokens, step.cache.tensors()?)?;
    let values = match step.want {
        Want::Nothing => Vec::new(),
        Want::LastLogits => decoder.logits(last_row(hidden))?,
        Want::AllLogits => decoder.logits(hidden)?,
        Want::Hidden => to_host(hidden)?,
    };
    Ok(Output { values })
}

impl KvCache {
    /// Positions held.
    pub(crate) fn len(&self) -> usize {
        match &self.0 {
            Kept::Burn(cache) => cache.len(),
            Kept::Cpu(cache) => cache.len(),
        }
    }

    /// Forgets all positions from `len` on.
    pub(crate) fn truncate(&mut self, len: usize) {
        match &mut self.0 {
            Kept::Burn(cache) => cache.truncate(len),
            Kept::Cpu(cache) => cache.truncate(len),
        }
    }

    /// Bytes allocated.
    pub(crate) fn bytes(&self) -> usize {
        match &self.0 {
            Kept::Burn(cache) => cache.bytes(),
            Kept::Cpu(cache) => cache.bytes(),
        }
    }

    /// A cache of its own with the first `len` positions of this one.
    pub(crate) fn fork(&self, len: usize) -> Self {
        match &self.0 {
            Kept::Burn(cache) => Self(Kept::Burn(cache.fork(len))),
            Kept::Cpu(cache) => Self(Kept::Cpu(cache.fork(len))),
        }
    }

    fn tensors(&mut self) -> Result<&mut TensorCache> {
        match &mut self.0 {
            Kept::Burn(cache) => Ok(cache),
            Kept::Cpu(_) => Err(foreign_cache()),
        }
    }
}

#[cfg(feature = "testkit")]
#[cfg(test)]
mod variants;

#[cfg(feature = "testkit")]
#[cfg(test)]
mod tests {
    use super::*;
    use crate::checkpoint::GgufCheckpoint;
    #[cfg(feature = "flex")]
    use crate::config::{FeedForward, Head};
    use crate::device::DeviceSpec;
    use crate::gguf::Gguf;
    use crate::options::ModelSource;
    use crate::testkit::TinyModel;

    pub(super) fn load(tiny: &TinyModel, device: DeviceSpec) -> Model {
        let ModelSource::GgufBytes(bytes) = tiny.source() else {
            unreachable!("a tiny model is in memory")
        };
        let gguf = Gguf::from_bytes(bytes).unwrap();
        let checkpoint = GgufCheckpoint::new(&gguf).unwrap();
        Model::load(&checkpoint, &device.open().unwrap(), 2).unwrap()
    }

    /// One on each device that runs everywhere.
    fn each(test: impl Fn(&Model)) {
        let tiny = TinyModel::random(3);
        test(&load(&tiny, DeviceSpec::Cpu));
        if cfg!(feature = "flex") {
            test(&load(&tiny, DeviceSpec::Flex));
        }
    }

    pub(super) fn run_alone(model: &Model, cache: &mut KvCache, tokens: &[u32], want: Want) -> Vec<f32> {
        let mut outputs = model.run(&mut [Step { tokens, cache, want }]).unwrap();
        outputs.remove(0).values
    }

    /// A sequence gets the same bits alone and beside another one.
    #[test]
    fn a_batch_gives_what_each_sequence_gets_alone() {
        each(batch_is_single);
    }

    fn batch_is_single(model: &Model) {
        let (mut a, mut b) = (model.new_cache(), model.new_cache());
        let mut steps = [
            Step {
                tokens: &[1, 2, 3],
                cache: &mut a,
                want: Want::AllLogits,
            },
            Step {
                tokens: &[9],
                cache: &mut b,
                want: Want::LastLogits,
            },
        ];
        let together = model.run(&mut steps).unwrap();
        let mut alone = model.new_cache();
        assert_eq!(
            together[0].values,
            run_alone(model, &mut alone, &[1, 2, 3], Want::AllLogits)
        );
        let mut alone = model.new_cache();
        assert_eq!(
            together[1].values,
            run_alone(model, &mut alone, &[9], Want::LastLogits)
        );
        assert_eq!((a.len(), b.len()), (3, 1));
    }

    #[test]
    fn a_fork_is_a_cache_of_its_own() {
        each(fork_is_its_own);
    }

    fn fork_is_its_own(model: &Model) {
        let mut trunk = model.new_cache();
        run_alone(model, &mut trunk, &[5, 6, 7, 8], Want::Nothing);
        let mut branch = trunk.fork(2);
        assert_eq!((trunk.len(), branch.len()), (4, 2));
        let other = run_alone(model, &mut branch, &[20, 21], Want::LastLogits);
        let kept = run_alone(model, &mut trunk, &[9], Want::LastLogits);
        let mut fresh = model.new_cache();
        run_alone(model, &mut fresh, &[5, 6, 7, 8], Want::Nothing);
        fresh.truncate(2);
        assert_eq!(other, run_alone(model, &mut fresh, &[20, 21], Want::LastLogits));
        let mut fresh = model.new_cache();
        run_alone(model, &mut fresh, &[5, 6, 7, 8], Want::Nothing);
        assert_eq!(kept, run_alone(model, &mut fresh, &[9], Want::LastLogits));
    }

    #[test]
    fn a_cache_says_what_it_takes() {
        each(cache_says_its_size);
    }

    fn cache_says_its_size(model: &Model) {
        let mut cache = model.new_cache();
        for positions in [1, 256, 300] {
            cache.truncate(0);
            let tokens = vec![4; positions];
            run_alone(model, &mut cache, &tokens, Want::Nothing);
            assert_eq!(cache.bytes(), model.cache_bytes(positions));
        }
    }

    /// The processor's kernels and Burn are the same function, whatever the feed-forward layer and the head; a text read
    /// in pieces, token by token, or at once gives the same bits on the processor.
    #[cfg(feature = "flex")]
    #[test]
    fn kernels_agree_with_burn() {
        for (feed_forward, head) in [
            (FeedForward::SwiGlu, Head::Tied),
            (FeedForward::SwiGlu, Head::Untied),
            (FeedForward::ReluSquared, Head::Tied),
            (FeedForward::ReluSquared, Head::Untied),
        ] {
            let tiny = TinyModel::with_shape(11, feed_forward, head);
            let (cpu, burn) = (load(&tiny, DeviceSpec::Cpu), load(&tiny, DeviceSpec::Flex));
            let tokens: Vec<u32> = (0..300).map(|i| i * 31 % 250).collect();
            let ours = run_alone(&cpu, &mut cpu.new_cache(), &tokens, Want::AllLogits);
            let theirs = run_alone(&burn, &mut burn.new_cache(), &tokens, Want::AllLogits);
            let worst = ours
                .iter()
                .zip(&theirs)
                .map(|(a, b)| (a - b).abs())
                .fold(0.0, f32::max);
            assert!(worst < 2e-2, "logits differ by {worst}");
            let hidden = run_alone(&cpu, &mut cpu.new_cache(), &tokens, Want::Hidden);
            assert_eq!(hidden.len(), 300 * tiny.config().n_embd);
            let mut cache = cpu.new_cache();
            let mut pieces = Vec::new();
            for piece in [&tokens[..1], &tokens[1..70], &tokens[70..290]] {
                pieces.extend(run_alone(&cpu, &mut cache, piece, Want::AllLogits));
            }
            for token in &tokens[290..] {
                pieces.extend(run_alone(&cpu, &mut cache, &[*token], Want::LastLogits));
            }
            assert_eq!(ours, pieces);
        }
    }
}
