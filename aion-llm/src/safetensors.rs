//! Llama-family checkpoints of the Hub: `config.json` beside one `model.safetensors`, or beside an index of shards.
//!
//! The reader is ours, for the same reason as the GGUF one: headers are checked against limits and file lengths. The
//! files are mapped; tensors are slices of the mappings.
//!
//! # Sources
//! The safetensors format: eight bytes of length, a JSON header, then the tensors' bytes.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use bytes::Bytes;
use serde::Deserialize;

use crate::checkpoint::{Checkpoint, Embedding, Part, RotaryPairs, Stored, same_shape};
use crate::config::ModelConfig;
use crate::error::{Error, Result};
use crate::gguf::{TensorType, dequantize};

const MAX_HEADER_BYTES: u64 = 64 << 20;
const MAX_SHARDS: usize = 1024;
const SINGLE: &str = "model.safetensors";
const INDEX: &str = "model.safetensors.index.json";

/// A directory in the Hub's layout.
#[derive(Debug)]
pub(crate) struct HubCheckpoint {
    config: ModelConfig,
    divisors: Option<Vec<f32>>,
    tensors: BTreeMap<String, Entry>,
}

#[derive(Debug)]
struct Entry {
    kind: TensorType,
    shape: Vec<usize>,
    bytes: Bytes,
}

#[derive(Deserialize)]
struct WireTensor {
    dtype: String,
    shape: Vec<usize>,
    data_offsets: (u64, u64),
}

#[derive(Deserialize)]
struct WireIndex {
    weight_map: BTreeMap<String, String>,
}

impl HubCheckpoint {
    pub(crate) fn open(dir: &Path) -> Result<Self> {
        crate::convert::check_sizes(dir)?;
        let path = dir.join("config.json");
        let text = std::fs::read_to_string(&path).map_err(Error::io(&path))?;
        let config = ModelConfig::from_json(&text)?;
        let mut tensors = BTreeMap::new();
        for shard in shards(dir)? {
            tensors.extend(read_shard(&shard)?);
        }
        let mut checkpoint = Self {
            divisors: config.rotary_divisors(&text)?,
            config,
            tensors,
        };
        checkpoint.read_divisors()?;
        Ok(checkpoint)
    }

    /// Directories of ours have the divisors as a tensor.
    fn read_divisors(&mut self) -> Result<()> {
        const NAME: &str = "rope_freqs.weight";
        if self.tensors.contains_key(NAME) {
            let entry = self.entry(NAME, &[self.config.head_dim / 2])?;
            self.divisors = Some(dequantize(entry.kind, &entry.bytes)?);
        }
        Ok(())
    }

    fn entry(&self, name: &str, shape: &[usize]) -> Result<&Entry> {
        let entry = self
            .tensors
            .get(name)
            .ok_or_else(|| Error::MissingTensor(name.to_owned()))?;
        same_shape(name, shape, &entry.shape)?;
        Ok(entry)
    }
}

impl Checkpoint for HubCheckpoint {
    fn config(&self) -> &ModelConfig {
        &self.config
    }

    fn stored(&self, part: Part, shape: &[usize]) -> Result<Stored> {
        let entry = self.entry(&part.hub_name(), shape)?;
        Ok(Stored {
            kind: entry.kind,
            bytes: entry.bytes.clone(),
        })
    }

    fn embedding(&self) -> Result<Embedding> {
        let shape = [self.config.vocab_size, self.config.n_embd];
        let entry = self.entry("model.embed_tokens.weight", &shape)?;
        Ok(Embedding::new(
            entry.kind,
            entry.bytes.clone(),
            self.config.n_embd,
        ))
    }

    fn rotary_pairs(&self) -> RotaryPairs {
        RotaryPairs::Halves
    }

    fn rotary_divisors(&self) -> Result<Option<Vec<f32>>> {
        Ok(self.divisors.clone())
    }
}

/// The files that hold the tensors; names in an index must be plain file names.
fn shards(dir: &Path) -> Result<Vec<PathBuf>> {
    let index = dir.join(INDEX);
    if !index.exists() {
        return Ok(vec![dir.join(SINGLE)]);
    }
    let text = std::fs::read_to_string(&index).map_err(Error::io(&index))?;
    let wire: WireIndex = serde_json::from_str(&text).map_err(|error| broken(&index, error))?;
    let mut names: Vec<String> = wire.weight_map.into_values().collect();
    names.sort_unstable();
    names.dedup();
    if names.len() > MAX_SHARDS {
        return Err(broken(
            &index,
            format!("{} shards, the limit is {MAX_SHARDS}", names.len()),
        ));
    }
    if let Some(name) = names
        .iter()
        .find(|name| Path::new(name).file_name() != Some(name.as_ref()))
    {
        return Err(broken(&index, format!("`{name}` is not a plain file name")));
    }
    Ok(names.into_iter().map(|name| dir.join(name)).collect())
}

fn broken(path: &Path, reason: impl std::fmt::Display) -> Error {
    Error::Safetensors(format!("{}: {reason}", path.display()))
}

/// The tensors of one file, as slices of its mapping.
fn read_shard(path: &Path) -> Result<BTreeMap<String, Entry>> {
    let file = crate::mapped::map(path).map_err(Error::io(path))?;
    let Some((prefix, _)) = file.split_first_chunk::<8>() else {
        return Err(broken(path, format!("{} bytes are no header", file.len())));
    };
    let (header_len, file_len) = (u64::from_le_bytes(*prefix), file.len() as u64);
    if header_len > MAX_HEADER_BYTES || header_len > file_len - 8 {
        return Err(broken(
            path,
            format!("a header of {header_len} bytes in a file of {file_len}"),
        ));
    }
    let data = 8 + header_len as usize;
    let wire: BTreeMap<String, serde_json::Value> =
        serde_json::from_slice(&file[8..data]).map_err(|error| broken(path, error))?;
    apart(path, &wire)?;
    wire.into_iter()
        .filter(|(name, _)| name != "__metadata__")
        .map(|(name, value)| entry(path, &file.slice(data..), &name, value).map(|entry| (name, entry)))
        .collect()
}

/// Tensors share no byte: a small file cannot stand for a large model.
fn apart(path: &Path, wire: &BTreeMap<String, serde_json::Value>) -> Result<()> {
    let place = |(name, value): (&String, &serde_json::Value)| {
        let offsets = &value["data_offsets"];
        Some((offsets[0].as_u64()?, offsets[1].as_u64()?, name.clone()))
    };
    let mut placed: Vec<(u64, u64, String)> = wire.iter().filter_map(place).collect();
    placed.sort_unstable();
    for pair in placed.windows(2) {
        if pair[0].1 > pair[1].0 {
            let reason = format!("tensors `{}` and `{}` overlap", pair[0].2, pair[1].2);
            return Err(broken(path, reason));
        }
    }
    Ok(())
}

/// One tensor; `data` is what follows the header.
fn entry(path: &Path, data: &Bytes, name: &str, value: serde_json::Value) -> Result<Entry> {
    let fail = |reason: String| broken(path, format!("tensor `{name}`: {reason}"));
    let wire: WireTensor = serde_json::from_value(value).map_err(|error| fail(error.to_string()))?;
    let kind = match wire.dtype.as_str() {
        "F32" => TensorType::F32,
        "F16" => TensorType::F16,
        "BF16" => TensorType::BF16,
        other => return Err(Error::Unsupported(format!("tensor `{name}` has type {other}"))),
    };
    let (start, end) = wire.data_offsets;
    let len = end
        .checked_sub(start)
        .ok_or_else(|| fail(format!("it ends at {end} before it starts at {start}")))?;
    let elements = wire
        .shape
        .iter()
        .try_fold(kind.block_bytes() as u64, |n, dim| n.checked_mul(*dim as u64));
    if elements != Some(len) {
        return Err(fail(format!("shape {:?} does not fill {len} bytes", wire.shape)));
    }
    if end > data.len() as u64 {
        return Err(fail(format!("it ends beyond the {} bytes of data", data.len())));
    }
    Ok(Entry {
        kind,
        shape: wire.shape,
        bytes: data.slice(start as usize..end as usize),
    })
}
