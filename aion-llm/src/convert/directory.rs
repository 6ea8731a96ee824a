//! Checkpoint directories of ours: the Hub's layout with a manifest.
//!
//! | file | what |
//! |---|---|
//! | `aion.json` | [`CheckpointManifest`]: the format's version, size and SHA-256 of every other file |
//! | `config.json` | the shape, in the Hub's words |
//! | `model.safetensors` | the weights under the Hub's names; `rope_freqs.weight` where rotary frequencies are divided |
//! | `tokenizer.json`, `tokenizer_config.json` | the tokenizer, its special tokens and the chat template |
//! | `unigram.json` | token counts of a corpus, if there are any |

use std::collections::BTreeMap;
use std::io::{Read, Write};
use std::path::{Path, PathBuf};

use bytes::Bytes;
use serde::{Deserialize, Serialize};
use serde_json::json;
use sha2::{Digest, Sha256};

use super::rows;
use crate::checkpoint::{Checkpoint, GgufCheckpoint, Part, RotaryPairs, Stored};
use crate::engine::hub_template;
use crate::error::{Error, Result};
use crate::fresh_file::{Overwrite, fresh_suffix, refuse_existing, sync_dir, sync_parent};
use crate::gguf::{Gguf, TensorType, encode};
use crate::options::ModelSource;
use crate::safetensors::HubCheckpoint;
use crate::tokenizer::{Tokenizer, gguf_document};

/// The version of the format that this crate writes.
pub const CHECKPOINT_FORMAT: u32 = 1;

const MANIFEST: &str = "aion.json";

/// What `aion.json` says.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct CheckpointManifest {
    /// [`CHECKPOINT_FORMAT`].
    pub format: u32,
    /// Every other file of the directory.
    pub files: BTreeMap<String, ManifestEntry>,
}

/// One file.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ManifestEntry {
    /// Its size.
    pub bytes: u64,
    /// Its SHA-256 as 64 hexadecimal digits.
    pub sha256: String,
}

/// Writes a model as a directory of ours. Float weights are kept to the bit; quantised ones become 32-bit floats of the
/// same values. The directory appears whole or not at all.
///
/// # Errors
/// [`Error::Exists`], or whatever a damaged or unknown source gives.
pub fn save_checkpoint(source: &ModelSource, dir: &Path, overwrite: Overwrite) -> Result<CheckpointManifest> {
    refuse_existing(dir, overwrite)?;
    let name = dir.file_name().unwrap_or_default().to_string_lossy().into_owned();
    let staged = Staged(dir.with_file_name(format!(".{name}.{}.part", fresh_suffix())));
    std::fs::create_dir(&staged.0).map_err(Error::io(&staged.0))?;
    match source {
        ModelSource::HubDir(from) => {
            let checkpoint = HubCheckpoint::open(from)?;
            write_weights(&checkpoint, &staged.0)?;
            copy_tokenizer(from, &staged.0)?;
        }
        ModelSource::Gguf(path) => write_gguf(&Gguf::open(path)?, &staged.0)?,
        ModelSource::GgufBytes(bytes) => write_gguf(&Gguf::from_bytes(bytes.clone())?, &staged.0)?,
    }
    if let Some(counts) = source.unigram_path() {
        copy(&counts, &staged.0.join("unigram.json"))?;
    }
    let manifest = describe_files(&staged.0)?;
    write(&staged.0.join(MANIFEST), json!(manifest).to_string().as_bytes())?;
    staged.put(dir, overwrite)?;
    Ok(manifest)
}

/// Reads every file of a directory of ours and compares sizes and checksums with its manifest.
///
/// # Errors
/// [`Error::Io`], [`Error::Unsupported`] for a newer format, [`Error::Manifest`] with the file that differs.
pub fn verify_checkpoint(dir: &Path) -> Result<CheckpointManifest> {
    let manifest = check_sizes(dir)?.ok_or_else(|| Error::Manifest {
        file: MANIFEST.into(),
        reason: "it is not there".into(),
    })?;
    for (name, entry) in &manifest.files {
        let found = entry_of(&dir.join(name))?;
        if found.sha256 != entry.sha256 {
            return Err(Error::Manifest {
                file: name.clone(),
                reason: format!("its SHA-256 is {}, expected {}", found.sha256, entry.sha256),
            });
        }
    }
    Ok(manifest)
}

/// Reads the manifest, if there is one, and compares the sizes alone: what loading does.
pub(crate) fn check_sizes(dir: &Path) -> Result<Option<CheckpointManifest>> {
    let path = dir.join(MANIFEST);
    let text = match std::fs::read_to_string(&path) {
        Ok(text) => text,
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(None),
        Err(error) => return Err(Error::io(&path)(error)),
    };
    let damaged = |file: &str, reason: String| Error::Manifest {
        file: file.to_owned(),
        reason,
    };
    let manifest: CheckpointManifest =
        serde_json::from_str(&text).map_err(|error| damaged(MANIFEST, error.to_string()))?;
    if manifest.format != CHECKPOINT_FORMAT {
        return Err(Error::Unsupported(format!(
            "checkpoint format {}; known is {CHECKPOINT_FORMAT}",
            manifest.format
        )));
    }
    for (name, entry) in &manifest.files {
        if Path::new(name).file_name() != Some(name.as_ref()) {
            return Err(damaged(name, "it is not a plain file name".into()));
        }
        let path = dir.join(name);
        let bytes = std::fs::metadata(&path).map_err(Error::io(&path))?.len();
        if bytes != entry.bytes {
            return Err(damaged(
                name,
                format!("it has {bytes} bytes, expected {}", entry.bytes),
            ));
        }
    }
    Ok(Some(manifest))
}

/// A directory under a temporary name; gone again unless it is put in its place.
struct Staged(PathBuf);

impl Staged {
    fn put(&self, dir: &Path, overwrite: Overwrite) -> Result<()> {
        refuse_existing(dir, overwrite)?;
        sync_dir(&self.0)?;
        if !dir.exists() {
            std::fs::rename(&self.0, dir).map_err(Error::io(dir))?;
            return sync_parent(dir);
        }
        let old = self.0.with_extension("old");
        std::fs::rename(dir, &old).map_err(Error::io(dir))?;
        if let Err(error) = std::fs::rename(&self.0, dir) {
            // What was there comes back.
            std::fs::rename(&old, dir).map_err(Error::io(&old))?;
            return Err(Error::io(dir)(error));
        }
        // The new one is there for good before the old one goes.
        sync_parent(dir)?;
        drop(Self(old));
        Ok(())
    }
}

impl Drop for Staged {
    fn drop(&mut self) {
        let _gone = std::fs::remove_dir_all(&self.0);
    }
}

fn write_gguf(gguf: &Gguf, dir: &Path) -> Result<()> {
    let checkpoint = GgufCheckpoint::new(gguf)?;
    write_weights(&checkpoint, dir)?;
    write(
        &dir.join("tokenizer.json"),
        gguf_document(gguf)?.to_string().as_bytes(),
    )?;
    let tokenizer = Tokenizer::from_gguf(gguf)?;
    let spelling = |id: Option<u32>| id.map(|id| tokenizer.spelling(id));
    let config = json!({
        "bos_token": spelling(tokenizer.bos()),
        "eos_token": spelling(tokenizer.eos()),
        "add_bos_token": tokenizer.prefix().is_some(),
        "chat_template": gguf.get_str("tokenizer.chat_template"),
    });
    write(&dir.join("tokenizer_config.json"), config.to_string().as_bytes())?;
    let stops: Vec<u32> = tokenizer.stop_tokens().collect();
    write(
        &dir.join("generation_config.json"),
        json!({ "eos_token_id": stops }).to_string().as_bytes(),
    )
}

fn copy_tokenizer(from: &Path, dir: &Path) -> Result<()> {
    copy(&from.join("tokenizer.json"), &dir.join("tokenizer.json"))?;
    for name in ["tokenizer_config.json", "generation_config.json"] {
        if from.join(name).exists() {
            copy(&from.join(name), &dir.join(name))?;
        }
    }
    match hub_template(from) {
        Some(template) => write(&dir.join("chat_template.jinja"), template.as_bytes()),
        None => Ok(()),
    }
}

fn write_weights(checkpoint: &dyn Checkpoint, dir: &Path) -> Result<()> {
    let config = checkpoint.config();
    write(
        &dir.join("config.json"),
        config.to_hub_json().to_string().as_bytes(),
    )?;
    let shape = vec![config.vocab_size, config.n_embd];
    let embedding = checkpoint.embedding()?.stored();
    let mut tensors = vec![Tensor::new("model.embed_tokens.weight", shape, embedding)];
    for (part, shape) in Part::all(config) {
        let mut stored = checkpoint.stored(part, &shape)?;
        let turned = matches!(part, Part::Query(_) | Part::Key(_));
        if turned && checkpoint.rotary_pairs() == RotaryPairs::Adjacent {
            stored.bytes = rows::to_halves(&stored.bytes, config.head_dim, shape[0]);
        }
        tensors.push(Tensor::new(&part.hub_name(), shape, stored));
    }
    if let Some(divisors) = checkpoint.rotary_divisors()? {
        let bytes: Vec<u8> = divisors.iter().flat_map(|x| x.to_le_bytes()).collect();
        let stored = Stored {
            kind: TensorType::F32,
            bytes: bytes.into(),
        };
        tensors.push(Tensor::new("rope_freqs.weight", vec![divisors.len()], stored));
    }
    write_safetensors(&dir.join("model.safetensors"), &tensors)
}

/// A tensor in floats, not yet converted.
struct Tensor {
    name: String,
    shape: Vec<usize>,
    stored: Stored,
}

impl Tensor {
    fn new(name: &str, shape: Vec<usize>, stored: Stored) -> Self {
        Self {
            name: name.to_owned(),
            shape,
            stored,
        }
    }

    /// The type in the file, and its name there.
    fn kind(&self) -> (TensorType, &'static str) {
        match self.stored.kind {
            TensorType::F16 => (TensorType::F16, "F16"),
            TensorType::BF16 => (TensorType::BF16, "BF16"),
            _ => (TensorType::F32, "F32"),
        }
    }

    fn size(&self) -> usize {
        self.shape.iter().product::<usize>() * self.kind().0.block_bytes()
    }

    fn bytes(&self) -> Bytes {
        let kind = self.kind().0;
        if kind == self.stored.kind {
            return self.stored.bytes.clone();
        }
        encode(self.stored.kind, &self.stored.bytes, kind).bytes.into()
    }
}

fn write_safetensors(path: &Path, tensors: &[Tensor]) -> Result<()> {
    let (mut header, mut at) = (serde_json::Map::new(), 0);
    for tensor in tensors {
        let end = at + tensor.size();
        let entry = json!({"dtype": tensor.kind().1, "shape": tensor.shape, "data_offsets": [at, end]});
        header.insert(tensor.name.clone(), entry);
        at = end;
    }
    let mut header = serde_json::Value::Object(header).to_string();
    // Spaces behind the header put the numbers on a multiple of eight.
    header.extend(std::iter::repeat_n(
        ' ',
        header.len().next_multiple_of(8) - header.len(),
    ));
    let file = std::fs::File::create(path).map_err(Error::io(path))?;
    let mut file = std::io::BufWriter::with_capacity(1 << 20, file);
    let mut put = |bytes: &[u8]| file.write_all(bytes).map_err(Error::io(path));
    put(&(header.len() as u64).to_le_bytes())?;
    put(header.as_bytes())?;
    tensors.iter().try_for_each(|tensor| put(&tensor.bytes()))?;
    file.flush().map_err(Error::io(path))?;
    file.get_ref().sync_all().map_err(Error::io(path))
}

fn write(path: &Path, bytes: &[u8]) -> Result<()> {
    let mut file = std::fs::File::create(path).map_err(Error::io(path))?;
    let written = file.write_all(bytes).and_then(|()| file.sync_all());
    written.map_err(Error::io(path))
}

fn copy(from: &Path, to: &Path) -> Result<()> {
    std::fs::copy(from, to).map_err(Error::io(from))?;
    let synced = std::fs::File::open(to).and_then(|file| file.sync_all());
    synced.map_err(Error::io(to))
}

fn describe_files(dir: &Path) -> Result<CheckpointManifest> {
    let mut files = BTreeMap::new();
    for entry in std::fs::read_dir(dir).map_err(Error::io(dir))? {
        let entry = entry.map_err(Error::io(dir))?;
        let name = entry.file_name().to_string_lossy().into_owned();
        files.insert(name, entry_of(&entry.path())?);
    }
    Ok(CheckpointManifest {
        format: CHECKPOINT_FORMAT,
        files,
    })
}

fn entry_of(path: &Path) -> Result<ManifestEntry> {
    let mut file = std::fs::File::open(path).map_err(Error::io(path))?;
    let (mut hasher, mut buffer, mut bytes) = (Sha256::new(), vec![0; 1 << 20], 0);
    loop {
        let n = file.read(&mut buffer).map_err(Error::io(path))?;
        if n == 0 {
            break;
        }
        hasher.update(&buffer[..n]);
        bytes += n as u64;
    }
    let sha256 = hasher
        .finalize()
        .iter()
        .map(|byte| format!("{byte:02x}"))
        .collect();
    Ok(ManifestEntry { bytes, sha256 })
}
