//! What a quantised file will hold, and where each tensor comes from.

use std::path::Path;

use bytes::Bytes;

use super::{Quantization, describe, rows};
use crate::checkpoint::{Checkpoint, Part, Stored};
use crate::config::ModelConfig;
use crate::error::{Error, Result};
use crate::gguf::{Draft, Gguf, Planned, TensorType};
use crate::safetensors::HubCheckpoint;

/// The header of the new file and, in the same order, the tensors of the old one.
#[derive(Debug)]
pub(super) struct Plan {
    pub(super) draft: Draft,
    pub(super) inputs: Vec<Input>,
    quantization: Quantization,
}

/// Where a tensor comes from: from one that is like it, or from several, one after the other.
#[derive(Debug)]
pub(super) struct Input(pub(super) Vec<Stored>);

impl Input {
    /// Bytes in the source.
    pub(super) fn size(&self) -> u64 {
        self.0.iter().map(|piece| piece.bytes.len() as u64).sum()
    }

    /// All of it, if it is stored in this type already.
    pub(super) fn stored_as(&self, kind: TensorType) -> Option<Bytes> {
        if self.0.iter().any(|piece| piece.kind != kind) {
            return None;
        }
        match self.0.as_slice() {
            [piece] => Some(piece.bytes.clone()),
            pieces => Some(pieces.iter().flat_map(|piece| piece.bytes.to_vec()).collect()),
        }
    }
}

/// Keys that say how the file is stored.
const REWRITTEN: [&str; 3] = [
    "general.file_type",
    "general.quantization_version",
    "general.alignment",
];

impl Plan {
    fn new(quantization: Quantization) -> Self {
        let mut draft = Draft::default();
        draft.u32("general.file_type", quantization.file_type());
        draft.u32("general.quantization_version", 2);
        Self {
            draft,
            inputs: Vec::new(),
            quantization,
        }
    }

    pub(super) fn of_gguf(gguf: &Gguf, quantization: Quantization) -> Result<Self> {
        // Only what this crate can run is converted.
        ModelConfig::from_gguf(gguf)?;
        let mut plan = Self::new(quantization);
        for (_, pair) in gguf.encoded_pairs().filter(|(key, _)| !REWRITTEN.contains(key)) {
            plan.draft.pair(pair);
        }
        for (name, info) in gguf.tensors() {
            let (kind, bytes) = (info.kind, gguf.tensor_slice(name)?);
            plan.add(name, &info.shape, vec![Stored { kind, bytes }])?;
        }
        Ok(plan)
    }

    pub(super) fn of_dir(dir: &Path, quantization: Quantization) -> Result<Self> {
        let checkpoint = HubCheckpoint::open(dir)?;
        let mut plan = Self::new(quantization);
        describe::describe(&mut plan.draft, dir, &checkpoint)?;
        let config = checkpoint.config().clone();
        let embedding = checkpoint.embedding()?.stored();
        let shape = [config.vocab_size, config.n_embd];
        plan.add("token_embd.weight", &shape, vec![embedding])?;
        for tensor in Part::gguf_tensors(&config) {
            let of_a_part = &tensor.shape[tensor.shape.len().saturating_sub(2)..];
            let pieces = tensor.parts.iter().map(|part| {
                let mut stored = checkpoint.stored(*part, of_a_part)?;
                if matches!(part, Part::Query(_) | Part::Key(_)) {
                    stored.bytes = rows::to_adjacent(&stored.bytes, config.head_dim, tensor.shape[0]);
                }
                Ok(stored)
            });
            plan.add(&tensor.name, &tensor.shape, pieces.collect::<Result<_>>()?)?;
        }
        if let Some(divisors) = checkpoint.rotary_divisors()? {
            let bytes: Vec<u8> = divisors.iter().flat_map(|x| x.to_le_bytes()).collect();
            let (kind, bytes) = (TensorType::F32, bytes.into());
            plan.add(
                "rope_freqs.weight",
                &[divisors.len()],
                vec![Stored { kind, bytes }],
            )?;
        }
        Ok(plan)
    }

    fn add(&mut self, name: &str, shape: &[usize], pieces: Vec<Stored>) -> Result<()> {
        let matrix = shape.len() >= 2 && !name.contains("_norm") && !name.contains("ffn_gate_inp");
        let to = match matrix {
            true => self.kind_of(name, shape),
            false => TensorType::F32,
        };
        let kinds = || pieces.iter().map(|piece| piece.kind);
        if let Some(kind) = kinds().find(|kind| kind.block_len() > 1 && *kind != to) {
            return Err(Error::Unsupported(format!(
                "quantising again: `{name}` is {kind:?} already; start from float weights"
            )));
        }
        self.draft.tensor(Planned {
            name: name.to_owned(),
            shape: shape.to_vec(),
            kind: to,
        });
        self.inputs.push(Input(pieces));
        Ok(())
    }

    fn kind_of(&self, name: &str, shape: &[usize]) -> TensorType {
        let width = shape.last().copied().unwrap_or(0);
        if !width.is_multiple_of(32) {
            return TensorType::F16;
        }
        match name {
            "token_embd.weight" | "output.weight" => TensorType::Q8_0,
            _ => self.quantization.matrices(),
        }
    }
}
