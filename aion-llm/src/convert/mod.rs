//! Checkpoints from one form to another: quantised GGUF files, and directories of ours.

mod describe;
mod directory;
mod plan;
mod rows;

pub(crate) use directory::check_sizes;
pub use directory::{
    CHECKPOINT_FORMAT, CheckpointManifest, ManifestEntry, save_checkpoint, verify_checkpoint,
};

use std::fmt;
use std::ops::ControlFlow;
use std::path::Path;
use std::str::FromStr;

use bytes::Bytes;

use crate::error::{Error, Result};
use crate::fresh_file::{FreshFile, Overwrite, refuse_existing};
use crate::gguf::{Gguf, Planned, TensorType, encode};
use crate::options::{ModelSource, unigram_beside};
use crate::unigram::UnigramCounts;
use plan::{Input, Plan};

/// How the matrices of a quantised model are stored. Norms stay floats; with four bits the embedding and the output
/// projection are kept in eight, where they cost little and matter most.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Quantization {
    /// 8.5 bits a weight.
    Q8_0,
    /// 4.5 bits a weight: a scale for each 32.
    Q4_0,
    /// 5 bits a weight: a scale and a minimum for each 32.
    Q4_1,
}

impl Quantization {
    /// All of them.
    pub const ALL: [Self; 3] = [Self::Q8_0, Self::Q4_0, Self::Q4_1];

    fn matrices(self) -> TensorType {
        match self {
            Self::Q8_0 => TensorType::Q8_0,
            Self::Q4_0 => TensorType::Q4_0,
            Self::Q4_1 => TensorType::Q4_1,
        }
    }

    /// The number of `general.file_type`.
    fn file_type(self) -> u32 {
        match self {
            Self::Q4_0 => 2,
            Self::Q4_1 => 3,
            Self::Q8_0 => 7,
        }
    }
}

impl fmt::Display for Quantization {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Q8_0 => "q8_0",
            Self::Q4_0 => "q4_0",
            Self::Q4_1 => "q4_1",
        })
    }
}

impl FromStr for Quantization {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self> {
        let same = |kind: &Self| kind.to_string().eq_ignore_ascii_case(text);
        Self::ALL.into_iter().find(same).ok_or_else(|| {
            let shown: String = text.chars().take(40).collect();
            Error::Unsupported(format!("quantisation `{shown}`; known are q8_0, q4_0 and q4_1"))
        })
    }
}

/// What a quantisation did.
#[derive(Debug, Clone, PartialEq)]
pub struct QuantizeReport {
    /// Bytes of the tensors before.
    pub bytes_before: u64,
    /// Bytes of the tensors after.
    pub bytes_after: u64,
    /// Tensors that were quantised.
    pub quantized: usize,
    /// Tensors that stayed floats.
    pub kept: usize,
    /// Size of the difference relative to the size of the quantised weights (root of the mean squares).
    pub relative_error: f64,
}

/// One tensor is done.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct QuantizeStep {
    /// The tensor.
    pub tensor: String,
    /// Bytes of the source that are done.
    pub done: u64,
    /// Bytes of the source.
    pub total: u64,
}

/// Writes a GGUF file of a model with quantised matrices. The source is a GGUF file or a directory with float weights;
/// metadata of a GGUF source is kept as it is, and unigram counts beside the source are put beside the result.
///
/// The file appears whole or not at all. A [`ControlFlow::Break`] from `on_step` ends the work with
/// [`Error::Cancelled`].
///
/// # Errors
/// [`Error::Exists`], whatever a damaged or unknown source gives, [`Error::Unsupported`] for weights that are quantised
/// already, [`Error::Numeric`] for weights that are not numbers.
pub fn quantize(
    source: &ModelSource,
    to: &Path,
    quantization: Quantization,
    overwrite: Overwrite,
    on_step: &mut dyn FnMut(QuantizeStep) -> ControlFlow<()>,
) -> Result<QuantizeReport> {
    refuse_existing(to, overwrite)?;
    let plan = match source {
        ModelSource::Gguf(path) => Plan::of_gguf(&Gguf::open(path)?, quantization)?,
        ModelSource::GgufBytes(bytes) => Plan::of_gguf(&Gguf::from_bytes(bytes.clone())?, quantization)?,
        ModelSource::HubDir(dir) => Plan::of_dir(dir, quantization)?,
    };
    let mut file = FreshFile::create(to)?;
    let mut tally = Tally::new(&plan);
    plan.draft.write(&mut file, to, |i| {
        let (planned, input) = (&plan.draft.tensors()[i], &plan.inputs[i]);
        let bytes = match input.stored_as(planned.kind) {
            Some(bytes) => {
                tally.keep(&bytes);
                bytes
            }
            None => tally.convert(planned, input)?,
        };
        let step = QuantizeStep {
            tensor: planned.name.clone(),
            done: tally.done,
            total: tally.report.bytes_before,
        };
        match on_step(step) {
            ControlFlow::Continue(()) => Ok(bytes),
            ControlFlow::Break(()) => Err(Error::Cancelled),
        }
    })?;
    file.finish(overwrite)?;
    if let Some(counts) = source.unigram_path() {
        UnigramCounts::read(&counts)?.write(&unigram_beside(to))?;
    }
    Ok(tally.finish())
}

/// Sums over the tensors.
struct Tally {
    report: QuantizeReport,
    done: u64,
    energy: f64,
    noise: f64,
}

impl Tally {
    fn new(plan: &Plan) -> Self {
        let sizes = plan.inputs.iter().map(Input::size);
        Self {
            report: QuantizeReport {
                bytes_before: sizes.sum(),
                bytes_after: 0,
                quantized: 0,
                kept: 0,
                relative_error: 0.0,
            },
            done: 0,
            energy: 0.0,
            noise: 0.0,
        }
    }

    fn keep(&mut self, bytes: &Bytes) {
        self.done += bytes.len() as u64;
        self.report.bytes_after += bytes.len() as u64;
        self.report.kept += 1;
    }

    fn convert(&mut self, planned: &Planned, input: &Input) -> Result<Bytes> {
        let mut bytes = Vec::with_capacity(planned.size());
        for piece in &input.0 {
            let encoded = encode(piece.kind, &piece.bytes, planned.kind);
            if !encoded.noise.is_finite() {
                return Err(Error::Numeric(format!(
                    "weights of `{}` that are not numbers, or too large",
                    planned.name
                )));
            }
            self.energy += encoded.energy;
            self.noise += encoded.noise;
            bytes.extend(encoded.bytes);
        }
        self.done += input.size();
        self.report.bytes_after += bytes.len() as u64;
        self.report.quantized += 1;
        Ok(bytes.into())
    }

    fn finish(self) -> QuantizeReport {
        QuantizeReport {
            relative_error: (self.noise / self.energy.max(f64::MIN_POSITIVE)).sqrt(),
            ..self.report
        }
    }
}
