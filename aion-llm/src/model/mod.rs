//! Running a model: tokens of several sequences in, logits or hidden states out.
//!
//! [`Model`] is what the rest of the crate sees; behind it stands the decoder on Burn. What a sequence gets does not
//! depend on which other sequences share its pass.

mod attention;
mod cache;
mod decoder;
mod linear;
mod packed;
mod rotary;

use crate::checkpoint::Checkpoint;
use crate::device::Chosen;
use crate::error::Result;
use cache::TensorCache;
use decoder::{Decoder, last_row, to_host};
pub(crate) use linear::Kernels;

/// The weights of a model, where they can be computed with.
#[derive(Debug)]
pub(crate) enum Model {
    /// On a device of Burn.
    Burn(Decoder),
}

/// Keys and values of the positions of one sequence.
#[derive(Debug)]
pub(crate) struct KvCache(Kept);

#[derive(Debug)]
enum Kept {
    Burn(TensorCache),
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
    /// Reads every weight of the checkpoint onto the device.
    ///
    /// # Errors
    /// What the checkpoint says of a missing or damaged part.
    pub(crate) fn load(checkpoint: &dyn Checkpoint, chosen: &Chosen) -> Result<Self> {
        Decoder::load(checkpoint, &chosen.device, chosen.kernels).map(Self::Burn)
    }

    /// An empty cache of one sequence.
    pub(crate) fn new_cache(&self) -> KvCache {
        match self {
            Self::Burn(decoder) => KvCache(Kept::Burn(decoder.new_cache())),
        }
    }

    /// Bytes of a cache that holds so many positions.
    pub(crate) fn cache_bytes(&self, positions: usize) -> usize {
        match self {
            Self::Burn(decoder) => decoder.cache_bytes(positions),
        }
    }

    /// Appends the tokens of each step to its cache; the outputs are in the order of the steps.
    ///
    /// # Errors
    /// [`Error::Numeric`](crate::Error::Numeric) when the device fails to hand over a result; the caches then hold something undefined.
    pub(crate) fn run(&self, steps: &mut [Step<'_>]) -> Result<Vec<Output>> {
        match self {
            Self::Burn(decoder) => steps.iter_mut().map(|step| one_by_one(decoder, step)).collect(),
        }
    }
}

/// Burn's decoder takes the sequences in turn.
fn one_by_one(decoder: &Decoder, step: &mut Step<'_>) -> Result<Output> {
    let hidden = decoder.forward(step.tokens, step.cache.tensors()?);
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
        }
    }

    /// Forgets all positions from `len` on.
    pub(crate) fn truncate(&mut self, len: usize) {
        match &mut self.0 {
            Kept::Burn(cache) => cache.truncate(len),
        }
    }

    /// Bytes allocated.
    pub(crate) fn bytes(&self) -> usize {
        match &self.0 {
            Kept::Burn(cache) => cache.bytes(),
        }
    }

    /// A cache of its own with the first `len` positions of this one.
    pub(crate) fn fork(&self, len: usize) -> Self {
        match &self.0 {
            Kept::Burn(cache) => Self(Kept::Burn(cache.fork(len))),
        }
    }

    fn tensors(&mut self) -> Result<&mut TensorCache> {
        match &mut self.0 {
            Kept::Burn(cache) => Ok(cache),
        }
    }
}

#[cfg(feature = "testkit")]
#[cfg(test)]
mod tests {
    use super::*;
    use crate::checkpoint::GgufCheckpoint;
    use crate::device::DeviceSpec;
    use crate::gguf::Gguf;
    use crate::options::ModelSource;
    use crate::testkit::TinyModel;

    fn tiny() -> Model {
        let ModelSource::GgufBytes(bytes) = TinyModel::random(3).source() else {
            unreachable!("a tiny model is in memory")
        };
        let gguf = Gguf::from_bytes(bytes).unwrap();
        let checkpoint = GgufCheckpoint::new(&gguf).unwrap();
        Model::load(&checkpoint, &DeviceSpec::Cpu.open().unwrap()).unwrap()
    }

    fn run_alone(model: &Model, cache: &mut KvCache, tokens: &[u32], want: Want) -> Vec<f32> {
        let mut outputs = model.run(&mut [Step { tokens, cache, want }]).unwrap();
        outputs.remove(0).values
    }

    /// A sequence gets the same bits alone and beside another one.
    #[test]
    fn a_batch_gives_what_each_sequence_gets_alone() {
        let model = tiny();
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
            run_alone(&model, &mut alone, &[1, 2, 3], Want::AllLogits)
        );
        let mut alone = model.new_cache();
        assert_eq!(
            together[1].values,
            run_alone(&model, &mut alone, &[9], Want::LastLogits)
        );
        assert_eq!((a.len(), b.len()), (3, 1));
    }

    #[test]
    fn a_fork_is_a_cache_of_its_own() {
        let model = tiny();
        let mut trunk = model.new_cache();
        run_alone(&model, &mut trunk, &[5, 6, 7, 8], Want::Nothing);
        let mut branch = trunk.fork(2);
        assert_eq!((trunk.len(), branch.len()), (4, 2));
        let other = run_alone(&model, &mut branch, &[20, 21], Want::LastLogits);
        let kept = run_alone(&model, &mut trunk, &[9], Want::LastLogits);
        let mut fresh = model.new_cache();
        run_alone(&model, &mut fresh, &[5, 6, 7, 8], Want::Nothing);
        fresh.truncate(2);
        assert_eq!(other, run_alone(&model, &mut fresh, &[20, 21], Want::LastLogits));
        let mut fresh = model.new_cache();
        run_alone(&model, &mut fresh, &[5, 6, 7, 8], Want::Nothing);
        assert_eq!(kept, run_alone(&model, &mut fresh, &[9], Want::LastLogits));
    }

    #[test]
    fn a_cache_says_what_it_takes() {
        let model = tiny();
        let mut cache = model.new_cache();
        for positions in [1, 256, 300] {
            cache.truncate(0);
            let tokens = vec![4; positions];
            run_alone(&model, &mut cache, &tokens, Want::Nothing);
            assert_eq!(cache.bytes(), model.cache_bytes(positions));
        }
    }
}
