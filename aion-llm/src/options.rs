//! What is loaded, and how it runs.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use aion_types::{Calibration, Clock, Reference, SystemClock};

use crate::device::DeviceSpec;

/// Where a model lies.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum ModelSource {
    /// A GGUF file with its tokenizer.
    Gguf(PathBuf),
    /// A directory with `config.json`, `model.safetensors` (or an index of shards) and `tokenizer.json`.
    HubDir(PathBuf),
    /// A GGUF file in memory.
    GgufBytes(Vec<u8>),
}

impl ModelSource {
    /// A directory is read as the Hub's layout, anything else as GGUF.
    ///
    /// ```
    /// use aion_llm::ModelSource;
    /// assert_eq!(ModelSource::at("model.gguf"), ModelSource::Gguf("model.gguf".into()));
    /// ```
    #[must_use]
    pub fn at(path: impl Into<PathBuf>) -> Self {
        let path = path.into();
        if path.is_dir() {
            Self::HubDir(path)
        } else {
            Self::Gguf(path)
        }
    }

    pub(crate) fn name(&self) -> String {
        let stem = |path: &Path| path.file_name().map(|name| name.to_string_lossy().into_owned());
        let name = match self {
            Self::Gguf(path) => stem(path).map(|name| name.trim_end_matches(".gguf").to_owned()),
            Self::HubDir(path) => stem(path),
            Self::GgufBytes(_) => None,
        };
        name.unwrap_or_else(|| "model".into())
    }

    /// The file of unigram counts that belongs to the checkpoint, whether it is there or not: `unigram.json` in its
    /// directory, or `NAME.gguf.unigram.json` beside its file. None for a model in memory.
    #[must_use]
    pub fn unigram_file(&self) -> Option<PathBuf> {
        match self {
            Self::Gguf(path) => Some(unigram_beside(path)),
            Self::HubDir(path) => Some(path.join("unigram.json")),
            Self::GgufBytes(_) => None,
        }
    }

    /// The file of the calibration that belongs to the checkpoint, whether it is there or not: `calibration.json` in its
    /// directory, or `NAME.gguf.calibration.json` beside its file. None for a model in memory.
    #[must_use]
    pub fn calibration_file(&self) -> Option<PathBuf> {
        match self {
            Self::Gguf(path) => Some(beside(path, "calibration")),
            Self::HubDir(path) => Some(path.join("calibration.json")),
            Self::GgufBytes(_) => None,
        }
    }

    /// [`ModelSource::unigram_file`] if it is there.
    pub(crate) fn unigram_path(&self) -> Option<PathBuf> {
        self.unigram_file().filter(|path| path.exists())
    }
}

/// The counts' file of a GGUF file.
pub(crate) fn unigram_beside(path: &Path) -> PathBuf {
    beside(path, "unigram")
}

/// A file of one kind that belongs to a GGUF file.
fn beside(path: &Path, kind: &str) -> PathBuf {
    let mut name = path.as_os_str().to_owned();
    name.push(format!(".{kind}.json"));
    name.into()
}

/// How much of earlier prompts' work is used again for a prompt that begins the same.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum PrefixReuse {
    /// Whole prefill chunks of an earlier prompt: the result is bit for bit what it is without reuse.
    #[default]
    Exact,
    /// Every common token, generated ones included: the least work, but sums are formed in another order than in a
    /// fresh prefill, so logits may differ in their last bits and a near tie may fall the other way.
    Longest,
    /// None.
    Off,
}

/// How the engine runs.
#[derive(Debug, Clone)]
pub struct EngineOptions {
    pub(crate) device: DeviceSpec,
    pub(crate) threads: Option<usize>,
    pub(crate) context_length: Option<usize>,
    pub(crate) prefill_chunk: usize,
    pub(crate) prefix_reuse: PrefixReuse,
    pub(crate) reference: Option<Reference>,
    pub(crate) teacher: Option<ModelSource>,
    pub(crate) calibration: Option<Calibration>,
    pub(crate) name: Option<String>,
    pub(crate) cache_bytes: Option<usize>,
    pub(crate) sequences: usize,
    pub(crate) queue: usize,
    #[cfg(feature = "testkit")]
    pub(crate) faults: Option<Arc<crate::testkit::Faults>>,
    pub(crate) clock: Arc<dyn Clock>,
}

impl Default for EngineOptions {
    fn default() -> Self {
        Self {
            device: DeviceSpec::Auto,
            threads: None,
            context_length: None,
            prefill_chunk: 128,
            prefix_reuse: PrefixReuse::Exact,
            reference: None,
            teacher: None,
            calibration: None,
            name: None,
            cache_bytes: None,
            sequences: 16,
            queue: 256,
            #[cfg(feature = "testkit")]
            faults: None,
            clock: Arc::new(SystemClock),
        }
    }
}

impl EngineOptions {
    /// The device.
    #[must_use]
    pub fn with_device(mut self, device: DeviceSpec) -> Self {
        self.device = device;
        self
    }

    /// Threads of the processor, at least one; the default is one for each core.
    #[must_use]
    pub fn with_threads(mut self, threads: usize) -> Self {
        self.threads = Some(threads.max(1));
        self
    }

    /// Positions of the context window; the model's own length is the upper bound and the default.
    #[must_use]
    pub fn with_context_length(mut self, positions: usize) -> Self {
        self.context_length = Some(positions.max(1));
        self
    }

    /// Prompt tokens that are computed together, at least one.
    #[must_use]
    pub fn with_prefill_chunk(mut self, tokens: usize) -> Self {
        self.prefill_chunk = tokens.max(1);
        self
    }

    /// What is kept between prompts.
    #[must_use]
    pub fn with_prefix_reuse(mut self, reuse: PrefixReuse) -> Self {
        self.prefix_reuse = reuse;
        self
    }

    /// What surprise is measured against; the default is the checkpoint's unigram counts if it has them, else uniform.
    #[must_use]
    pub fn with_reference(mut self, reference: Reference) -> Self {
        self.reference = Some(reference);
        self
    }

    /// Measures surprise against that of another model with the same vocabulary, which reads along on the same device:
    /// [`Reference::Teacher`]. Its context window bounds the engine's.
    #[must_use]
    pub fn with_teacher(mut self, teacher: ModelSource) -> Self {
        self.teacher = Some(teacher);
        self.with_reference(Reference::Teacher)
    }

    /// What makes a probability of a completion's persistence; the default is the checkpoint's calibration if it has one
    /// for the reference, else `a = 1, c = 0`.
    #[must_use]
    pub fn with_calibration(mut self, calibration: Calibration) -> Self {
        self.calibration = Some(calibration);
        self
    }

    /// The name that the model answers to; the default comes from the file.
    #[must_use]
    pub fn with_name(mut self, name: impl Into<String>) -> Self {
        self.name = Some(name.into());
        self
    }

    /// Most bytes of keys and values, of running sequences and of kept prefixes together. The default is half of the
    /// memory that the weights leave, and no more than all sequences with a full context would take.
    #[must_use]
    pub fn with_cache_bytes(mut self, bytes: usize) -> Self {
        self.cache_bytes = Some(bytes);
        self
    }

    /// Sequences that run at once, at least one; the default is 16.
    #[must_use]
    pub fn with_sequences(mut self, sequences: usize) -> Self {
        self.sequences = sequences.max(1);
        self
    }

    /// Requests that may wait beside those for whom there is a place; more are refused with
    /// [`Error::Busy`](crate::Error::Busy). The default is 256.
    #[must_use]
    pub fn with_queue(mut self, requests: usize) -> Self {
        self.queue = requests;
        self
    }

    /// Faults to suffer, for tests.
    #[cfg(feature = "testkit")]
    #[must_use]
    pub fn with_faults(mut self, faults: Arc<crate::testkit::Faults>) -> Self {
        self.faults = Some(faults);
        self
    }

    /// The clock of `strftime_now` and of the timings.
    #[must_use]
    pub fn with_clock(mut self, clock: Arc<dyn Clock>) -> Self {
        self.clock = clock;
        self
    }
}
