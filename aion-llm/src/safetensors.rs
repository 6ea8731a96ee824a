//! Llama-family checkpoints of the Hub: `config.json` beside one `model.safetensors`, or beside an index of shards.
//!
//! The reader is ours, for the same reason as the GGUF one: headers are checked against limits and file lengths, and
//! tensors are read one at a time instead of mapping the file, which would need `unsafe`.
//!
//! # Sources
//! The safetensors format: eight bytes of length, a JSON header, then the tensors' bytes.

use std::collections::BTreeMap;
use std::fs::File;
use std::io::{Read, Seek, SeekFrom};
use std::path::{Path, PathBuf};

use serde::Deserialize;

use crate::checkpoint::{Checkpoint, Embedding, Part, RotaryPairs, Stored, same_shape};
use crate::config::ModelConfig;
use crate::error::{Error, Result};
use crate::gguf::TensorType;

const MAX_HEADER_BYTES: u64 = 64 << 20;
const MAX_SHARDS: usize = 1024;
const SINGLE: &str = "model.safetensors";
const INDEX: &str = "model.safetensors.index.json";

/// A directory in the Hub's layout.
#[derive(Debug)]
pub(crate) struct HubCheckpoint {
    config: ModelConfig,
    tensors: BTreeMap<String, Entry>,
}

#[derive(Debug)]
struct Entry {
    path: PathBuf,
    kind: TensorType,
    shape: Vec<usize>,
    start: u64,
    len: u64,
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
        let path = dir.join("config.json");
        let text = std::fs::read_to_string(&path).map_err(Error::io(&path))?;
        let config = ModelConfig::from_json(&text)?;
        let mut tensors = BTreeMap::new();
        for shard in shards(dir)? {
            tensors.extend(read_header(&shard)?);
        }
        Ok(Self { config, tensors })
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
            bytes: entry.read()?,
        })
    }

    fn embedding(&self) -> Result<Embedding> {
        let shape = [self.config.vocab_size, self.config.n_embd];
        let entry = self.entry("model.embed_tokens.weight", &shape)?;
        Ok(Embedding::new(entry.kind, entry.read()?, self.config.n_embd))
    }

    fn rotary_pairs(&self) -> RotaryPairs {
        RotaryPairs::Halves
    }
}

impl Entry {
    fn read(&self) -> Result<Vec<u8>> {
        read_range(&self.path, self.start, self.len).map_err(Error::io(&self.path))
    }
}

fn read_range(path: &Path, start: u64, len: u64) -> std::io::Result<Vec<u8>> {
    let mut file = File::open(path)?;
    file.seek(SeekFrom::Start(start))?;
    let mut bytes = vec![0; len as usize];
    file.read_exact(&mut bytes)?;
    Ok(bytes)
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

fn read_header(path: &Path) -> Result<BTreeMap<String, Entry>> {
    let file_len = std::fs::metadata(path).map_err(Error::io(path))?.len();
    if file_len < 8 {
        return Err(broken(path, format!("{file_len} bytes are no header")));
    }
    let prefix = read_range(path, 0, 8).map_err(Error::io(path))?;
    let header_len = prefix
        .iter()
        .rev()
        .fold(0u64, |n, byte| n << 8 | u64::from(*byte));
    if header_len > MAX_HEADER_BYTES || header_len > file_len - 8 {
        return Err(broken(
            path,
            format!("a header of {header_len} bytes in a file of {file_len}"),
        ));
    }
    let header = read_range(path, 8, header_len).map_err(Error::io(path))?;
    let wire: BTreeMap<String, serde_json::Value> =
        serde_json::from_slice(&header).map_err(|error| broken(path, error))?;
    wire.into_iter()
        .filter(|(name, _)| name != "__metadata__")
        .map(|(name, value)| entry(path, file_len, 8 + header_len, &name, value).map(|entry| (name, entry)))
        .collect()
}

fn entry(path: &Path, file_len: u64, data: u64, name: &str, value: serde_json::Value) -> Result<Entry> {
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
    let inside = data.checked_add(end).is_some_and(|end| end <= file_len);
    if !inside {
        return Err(fail(format!("it ends beyond the file's {file_len} bytes")));
    }
    Ok(Entry {
        path: path.to_path_buf(),
        kind,
        shape: wire.shape,
        start: data + start,
        len,
    })
}
