//! A model from a hub, by `org/repo` or `org/repo/file.gguf`.
//!
//! What arrived stays in the staging directory when a connection breaks for good, so the next pull goes on where this
//! one ended. Every file is checked against the digest that the hub names it by.

use std::fs;
use std::path::{Path, PathBuf};

use hf_hub::api::sync::{Api, ApiBuilder, ApiError, ApiRepo};
use indicatif::ProgressBar;

use super::{Progress, digest};
use crate::{Error, Result};

/// The files that make up a model in safetensors form.
const SAFETENSORS_FILES: [&str; 3] = ["config.json", "tokenizer.json", "model.safetensors"];
/// Files that are taken along where they are.
const SIDE_FILES: [&str; 3] = [
    "tokenizer_config.json",
    "generation_config.json",
    "chat_template.jinja",
];
const SHARD_INDEX: &str = "model.safetensors.index.json";
const MAX_FILES: usize = 1_024;
/// Times that a broken connection is taken up again where it broke.
const RETRIES: usize = 5;

/// Fetches a file, or a whole model, into `staging`; gives the file or its directory.
///
/// The work runs on a thread of its own: a panic in the client becomes an error.
pub(super) fn fetch(repo: &str, file: Option<&str>, staging: &Path, progress: &Progress) -> Result<PathBuf> {
    std::thread::scope(|scope| scope.spawn(|| fetch_here(repo, file, staging, progress)).join())
        .unwrap_or_else(|_panic| {
            Err(Error::Hub {
                repo: repo.to_owned(),
                source: None,
            })
        })
}

fn fetch_here(repo: &str, file: Option<&str>, staging: &Path, progress: &Progress) -> Result<PathBuf> {
    let hub = Hub::open(repo, staging, progress)?;
    if let Some(file) = file {
        return hub.download(file, staging);
    }
    let info = hub.repo.info().map_err(|error| hub.failed(error))?;
    let names: Vec<_> = info
        .siblings
        .into_iter()
        .map(|sibling| sibling.rfilename)
        .collect();
    match choose(repo, &names)? {
        Choice::File(name) => hub.download(&name, staging),
        Choice::Files(files) => {
            let dir = staging.join("model");
            fs::create_dir_all(&dir).map_err(|e| Error::io("create", &dir, e))?;
            for name in files {
                hub.download(&name, &dir)?;
            }
            Ok(dir)
        }
    }
}

struct Hub<'a> {
    name: &'a str,
    api: Api,
    repo: ApiRepo,
    progress: &'a Progress,
}

impl<'a> Hub<'a> {
    fn open(name: &'a str, staging: &Path, progress: &'a Progress) -> Result<Self> {
        let api = ApiBuilder::from_env()
            .with_cache_dir(staging.join("hub"))
            .with_retries(RETRIES)
            .build();
        let api = api.map_err(|source| failed(name, source))?;
        Ok(Self {
            name,
            repo: api.model(name.to_owned()),
            api,
            progress,
        })
    }

    fn failed(&self, source: ApiError) -> Error {
        failed(self.name, source)
    }

    /// Fetches one file into `dir`, unless an earlier pull that broke off has put it there.
    fn download(&self, name: &str, dir: &Path) -> Result<PathBuf> {
        let flat = dir.join(name.replace('/', "--"));
        if flat.exists() {
            return Ok(flat);
        }
        let metadata = self.api.metadata(&self.repo.url(name));
        let metadata = metadata.map_err(|error| self.failed(error))?;
        plain(metadata.etag())?;
        plain(metadata.commit_hash())?;
        let bar = self.progress.bar(0, "downloading");
        let link = self.repo.download_with_progress(name, Bar(bar));
        let link = link.map_err(|error| self.failed(error))?;
        let blob = fs::canonicalize(&link).map_err(|e| Error::io("read", &link, e))?;
        verify(&blob, metadata.etag(), metadata.size() as u64, self.progress)?;
        fs::rename(&blob, &flat).map_err(|e| Error::io("move", &blob, e))?;
        Ok(flat)
    }
}

fn failed(repo: &str, source: ApiError) -> Error {
    Error::Hub {
        repo: repo.to_owned(),
        source: Some(Box::new(source)),
    }
}

/// A digest or a revision becomes a part of a path.
fn plain(name: &str) -> Result<()> {
    super::source::checked_part(name).map(drop)
}

/// The hub names large files by their SHA-256 and small ones by the SHA-1 that git gives them.
fn verify(blob: &Path, etag: &str, bytes: u64, progress: &Progress) -> Result<()> {
    let found = fs::metadata(blob).map_err(|e| Error::io("read", blob, e))?.len();
    if found != bytes {
        return Err(Error::WrongDigest {
            path: blob.to_owned(),
            expected: format!("{bytes}"),
            found: format!("{found} bytes"),
        });
    }
    let is_hex = etag.chars().all(|c| c.is_ascii_hexdigit());
    match etag.len() {
        64 if is_hex => digest::verify(blob, etag, progress),
        40 if is_hex => digest::verify_git(blob, etag),
        _ => Ok(()),
    }
}

#[derive(Debug, PartialEq, Eq)]
enum Choice {
    File(String),
    Files(Vec<String>),
}

/// What to take of a repository: its only GGUF file, else its safetensors.
fn choose(repo: &str, names: &[String]) -> Result<Choice> {
    if let Some(bad) = names.iter().find(|name| plain_path(name).is_err()) {
        let shown: String = bad.chars().take(80).collect();
        tracing::debug!(
            name = shown,
            "a file of the repository is not taken: its name is no plain path"
        );
    }
    let names: Vec<_> = names.iter().filter(|name| plain_path(name).is_ok()).collect();
    let ggufs: Vec<_> = names.iter().filter(|n| n.ends_with(".gguf")).collect();
    if let [only] = ggufs.as_slice() {
        return Ok(Choice::File((**only).clone()));
    }
    let has = |file: &str| names.iter().any(|name| *name == file);
    if ggufs.is_empty() && has(SAFETENSORS_FILES[0]) && has(SAFETENSORS_FILES[1]) {
        let side = SIDE_FILES.into_iter().filter(|file| has(file)).map(str::to_owned);
        let both = SAFETENSORS_FILES[..2].iter().map(|file| (*file).to_owned());
        let files: Vec<_> = both.chain(side).chain(weights(&names)).collect();
        if files.iter().any(|file| file.ends_with(".safetensors")) && files.len() <= MAX_FILES {
            return Ok(Choice::Files(files));
        }
    }
    let found = ggufs.iter().take(20).map(|n| n.as_str()).collect::<Vec<_>>();
    Err(Error::HubChoice {
        repo: repo.to_owned(),
        found: found.join(", "),
    })
}

/// The one file of weights, or the shards with their index.
fn weights(names: &[&String]) -> Vec<String> {
    let single = SAFETENSORS_FILES[2];
    if names.iter().any(|name| *name == single) {
        return vec![single.to_owned()];
    }
    let shard = |name: &&&String| {
        **name == SHARD_INDEX || (name.starts_with("model-") && name.ends_with(".safetensors"))
    };
    if !names.iter().any(|name| *name == SHARD_INDEX) {
        return Vec::new();
    }
    names.iter().filter(shard).map(|name| (*name).clone()).collect()
}

fn plain_path(name: &str) -> Result<()> {
    name.split('/').try_for_each(plain)
}

struct Bar(ProgressBar);

impl hf_hub::api::Progress for Bar {
    fn init(&mut self, size: usize, _filename: &str) {
        self.0.set_length(size as u64);
    }

    fn update(&mut self, size: usize) {
        self.0.inc(size as u64);
    }

    fn finish(&mut self) {
        self.0.finish_and_clear();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn names(list: &[&str]) -> Vec<String> {
        list.iter().map(|&n| n.to_owned()).collect()
    }

    #[test]
    fn the_only_gguf_is_taken_and_several_need_a_choice() {
        let one = choose("o/r", &names(&["a.gguf", "README.md"])).unwrap();
        assert_eq!(one, Choice::File("a.gguf".into()));
        let whole = choose("o/r", &names(&SAFETENSORS_FILES)).unwrap();
        assert_eq!(whole, Choice::Files(names(&SAFETENSORS_FILES)));
        let shards = [
            "model-00001-of-00002.safetensors",
            "model-00002-of-00002.safetensors",
            SHARD_INDEX,
        ];
        let files = ["config.json", "tokenizer.json", "tokenizer_config.json"];
        let all: Vec<_> = files.iter().chain(&shards).copied().collect();
        assert_eq!(choose("o/r", &names(&all)).unwrap(), Choice::Files(names(&all)));
        let error = choose("o/r", &names(&["a.gguf", "b.gguf"])).unwrap_err();
        assert!(error.to_string().contains("a.gguf, b.gguf"), "{error}");
        assert!(choose("o/r", &names(&["README.md"])).is_err());
        assert!(choose("o/r", &names(&["../../evil.gguf"])).is_err());
        assert!(choose("o/r", &names(&["config.json", "tokenizer.json", shards[0]])).is_err());
    }
}
