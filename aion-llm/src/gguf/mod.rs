//! GGUF files: one header of typed key-value pairs, a table of tensors, then the tensors' bytes.
//!
//! The reader trusts nothing: every count, length, type, size and offset is checked against a limit and against the
//! length of the file before it is used, so a truncated or lying file is a typed error that says where.
//! The file is mapped, not read, so opening a large one costs only its header.
//!
//! # Sources
//! The GGUF specification (ggml project, versions 2 and 3).

mod block;
mod encode;
mod header;
mod read;
mod write;

pub(crate) use block::dequantize_into;
pub use block::{TensorType, dequantize};
pub(crate) use encode::encode;
pub use header::{Array, TensorInfo, Value};
pub(crate) use write::{Draft, Planned};

use std::collections::BTreeMap;
use std::path::Path;

use bytes::Bytes;

use crate::error::{Error, Result};

/// Limits on what a header may claim.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct GgufLimits {
    /// Key-value pairs.
    pub max_metadata: u64,
    /// Tensors.
    pub max_tensors: u64,
    /// Bytes of one string.
    pub max_string_bytes: u64,
    /// Elements of one array.
    pub max_array_len: u64,
}

impl Default for GgufLimits {
    fn default() -> Self {
        Self {
            max_metadata: 1 << 16,
            max_tensors: 1 << 16,
            max_string_bytes: 1 << 20,
            max_array_len: 1 << 22,
        }
    }
}

/// An open GGUF file: its metadata, its tensor table, and the bytes behind it.
#[derive(Debug)]
pub struct Gguf {
    metadata: BTreeMap<String, Value>,
    pairs: BTreeMap<String, std::ops::Range<u64>>,
    tensors: BTreeMap<String, TensorInfo>,
    bytes: Bytes,
}

impl Gguf {
    /// Maps a file and reads its header. The file must not be written to while it is open (replacing it by a rename
    /// is fine): what is cut off a mapped file cannot be read, and the process ends where it tries.
    ///
    /// # Errors
    /// [`Error::Io`], or [`Error::Gguf`] with the offset and the reason.
    pub fn open(path: &Path) -> Result<Self> {
        crate::mapped::map(path)
            .map_err(Error::io(path))
            .and_then(Self::read)
    }

    /// Reads a file that is already in memory.
    ///
    /// # Errors
    /// [`Error::Gguf`] with the offset and the reason.
    ///
    /// ```
    /// let error = aion_llm::gguf::Gguf::from_bytes(b"not a model".to_vec()).unwrap_err();
    /// assert!(error.to_string().contains("at byte 0"));
    /// ```
    pub fn from_bytes(bytes: Vec<u8>) -> Result<Self> {
        Self::read(bytes.into())
    }

    fn read(bytes: Bytes) -> Result<Self> {
        let header = header::parse(&bytes[..], bytes.len() as u64, GgufLimits::default())?;
        Ok(Self {
            metadata: header.metadata,
            pairs: header.pairs,
            tensors: header.tensors,
            bytes,
        })
    }

    /// All key-value pairs.
    #[must_use]
    pub fn metadata(&self) -> &BTreeMap<String, Value> {
        &self.metadata
    }

    /// All tensors by name.
    #[must_use]
    pub fn tensors(&self) -> &BTreeMap<String, TensorInfo> {
        &self.tensors
    }

    /// One value.
    #[must_use]
    pub fn get(&self, key: &str) -> Option<&Value> {
        self.metadata.get(key)
    }

    /// A string value.
    #[must_use]
    pub fn get_str(&self, key: &str) -> Option<&str> {
        self.get(key).and_then(Value::as_str)
    }

    /// An unsigned value of any integer width.
    #[must_use]
    pub fn get_u64(&self, key: &str) -> Option<u64> {
        self.get(key).and_then(Value::as_u64)
    }

    /// The bytes of a tensor as they lie in the file.
    ///
    /// # Errors
    /// [`Error::MissingTensor`].
    pub fn tensor_bytes(&self, name: &str) -> Result<&[u8]> {
        self.place(name).map(|place| &self.bytes[place])
    }

    /// [`Gguf::tensor_bytes`] that keep the mapping alive.
    pub(crate) fn tensor_slice(&self, name: &str) -> Result<Bytes> {
        self.place(name).map(|place| self.bytes.slice(place))
    }

    /// Every pair as it is encoded in the file, by its key.
    pub(crate) fn encoded_pairs(&self) -> impl Iterator<Item = (&str, Bytes)> {
        let slice = |range: &std::ops::Range<u64>| self.bytes.slice(range.start as usize..range.end as usize);
        self.pairs
            .iter()
            .map(move |(key, range)| (key.as_str(), slice(range)))
    }

    /// Where a tensor lies; the header was refused if that is not inside the file.
    fn place(&self, name: &str) -> Result<std::ops::Range<usize>> {
        let info = self.tensors.get(name);
        let info = info.ok_or_else(|| Error::MissingTensor(name.to_owned()))?;
        let start = info.offset as usize;
        Ok(start..start + info.size_bytes as usize)
    }

    /// The elements of a tensor as `f32`, in the order of the file (row-major, last dimension of the shape contiguous).
    ///
    /// # Errors
    /// As [`Gguf::tensor_bytes`].
    pub fn tensor_f32(&self, name: &str) -> Result<Vec<f32>> {
        let bytes = self.tensor_bytes(name)?;
        dequantize(self.tensors[name].kind, bytes)
    }
}
