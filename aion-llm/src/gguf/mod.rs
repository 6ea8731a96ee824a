//! GGUF files: one header of typed key-value pairs, a table of tensors, then the tensors' bytes.
//!
//! The reader trusts nothing: every count, length, type, size and offset is checked against a limit and against the
//! length of the file before it is used, so a truncated or lying file is a typed error that says where.
//! Tensors are read one at a time on request, so opening a large file costs only its header.
//!
//! # Sources
//! The GGUF specification (ggml project, versions 2 and 3).

mod block;
mod header;
mod read;

pub(crate) use block::dequantize_into;
pub use block::{TensorType, dequantize};
pub use header::{Array, TensorInfo, Value};

use std::collections::BTreeMap;
use std::fs::File;
use std::io::{Read, Seek, SeekFrom};
use std::path::Path;
use std::sync::Mutex;

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
    tensors: BTreeMap<String, TensorInfo>,
    source: Source,
}

#[derive(Debug)]
enum Source {
    File {
        file: Mutex<File>,
        path: std::path::PathBuf,
    },
    Memory(Vec<u8>),
}

impl Gguf {
    /// Opens a file and reads its header.
    ///
    /// # Errors
    /// [`Error::Io`], or [`Error::Gguf`] with the offset and the reason.
    pub fn open(path: &Path) -> Result<Self> {
        let file = File::open(path).map_err(Error::io(path))?;
        let len = file.metadata().map_err(Error::io(path))?.len();
        let buffered = std::io::BufReader::with_capacity(1 << 16, &file);
        let (metadata, tensors) = header::parse(buffered, len, GgufLimits::default())?;
        let source = Source::File {
            file: Mutex::new(file),
            path: path.to_path_buf(),
        };
        Ok(Self {
            metadata,
            tensors,
            source,
        })
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
        let (metadata, tensors) = header::parse(bytes.as_slice(), bytes.len() as u64, GgufLimits::default())?;
        Ok(Self {
            metadata,
            tensors,
            source: Source::Memory(bytes),
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
    /// [`Error::MissingTensor`], or [`Error::Io`] when the file shrank since it was opened.
    pub fn tensor_bytes(&self, name: &str) -> Result<Vec<u8>> {
        let info = self
            .tensors
            .get(name)
            .ok_or_else(|| Error::MissingTensor(name.to_owned()))?;
        match &self.source {
            Source::Memory(bytes) => Ok(bytes[info.offset as usize..][..info.size_bytes as usize].to_vec()),
            Source::File { file, path } => read_at(file, info).map_err(Error::io(path)),
        }
    }

    /// The elements of a tensor as `f32`, in the order of the file (row-major, last dimension of the shape contiguous).
    ///
    /// # Errors
    /// As [`Gguf::tensor_bytes`].
    pub fn tensor_f32(&self, name: &str) -> Result<Vec<f32>> {
        let bytes = self.tensor_bytes(name)?;
        dequantize(self.tensors[name].kind, &bytes)
    }
}

fn read_at(file: &Mutex<File>, info: &TensorInfo) -> std::io::Result<Vec<u8>> {
    let mut file = file.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
    file.seek(SeekFrom::Start(info.offset))?;
    let mut bytes = vec![0; info.size_bytes as usize];
    file.read_exact(&mut bytes)?;
    Ok(bytes)
}
