//! A model from a hub, by `org/repo` or `org/repo/file.gguf`.

use std::fs;
use std::path::{Path, PathBuf};

use hf_hub::api::sync::{ApiBuilder, ApiError, ApiRepo};
use indicatif::ProgressBar;

use super::{Progress, digest};
use crate::{Error, Result};

/// The files that make up a model in safetensors form.
const SAFETENSORS_FILES: [&str; 3] = ["config.json", "tokenizer.json", "model.safetensors"];

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
    let hub = |source: ApiError| Error::Hub {
        repo: repo.to_owned(),
        source: Some(Box::new(source)),
    };
    let api = ApiBuilder::from_env()
        .with_cache_dir(staging.join("hub"))
        .with_retries(2)
        .build()
        .map_err(hub)?
        .model(repo.to_owned());
    if let Some(file) = file {
        return download(&api, file, staging, progress).map_err(|e| e.unwrap_or_hub(repo));
    }
    let names: Vec<_> = api
        .info()
        .map_err(hub)?
        .siblings
        .into_iter()
        .map(|sibling| sibling.rfilename)
        .collect();
    match choose(repo, &names)? {
        Choice::File(name) => download(&api, &name, staging, progress).map_err(|e| e.unwrap_or_hub(repo)),
        Choice::Safetensors => {
            let dir = staging.join("model");
            fs::create_dir_all(&dir).map_err(|e| Error::io("create", &dir, e))?;
            for name in SAFETENSORS_FILES {
                download(&api, name, &dir, progress).map_err(|e| e.unwrap_or_hub(repo))?;
            }
            Ok(dir)
        }
    }
}

/// Either kind of trouble of a download.
enum Trouble {
    Ours(Error),
    Hub(Box<ApiError>),
}

impl Trouble {
    fn unwrap_or_hub(self, repo: &str) -> Error {
        match self {
            Self::Ours(error) => error,
            Self::Hub(source) => Error::Hub {
                repo: repo.to_owned(),
                source: Some(source),
            },
        }
    }
}

fn download(
    api: &ApiRepo,
    name: &str,
    dir: &Path,
    progress: &Progress,
) -> std::result::Result<PathBuf, Trouble> {
    let bar = progress.bar(0, "downloading");
    let link = api
        .download_with_progress(name, Bar(bar))
        .map_err(|e| Trouble::Hub(Box::new(e)))?;
    let blob = fs::canonicalize(&link).map_err(|e| Trouble::Ours(Error::io("read", &link, e)))?;
    verify(&blob, progress).map_err(Trouble::Ours)?;
    let flat = dir.join(name.replace('/', "--"));
    fs::rename(&blob, &flat).map_err(|e| Trouble::Ours(Error::io("move", &blob, e)))?;
    Ok(flat)
}

/// The hub names large files by their SHA-256; small ones by another digest, which is not checked.
fn verify(blob: &Path, progress: &Progress) -> Result<()> {
    match blob.file_name().and_then(|name| name.to_str()) {
        Some(name) if name.len() == 64 && name.chars().all(|c| c.is_ascii_hexdigit()) => {
            digest::verify(blob, name, progress)
        }
        _ => Ok(()),
    }
}

#[derive(Debug, PartialEq, Eq)]
enum Choice {
    File(String),
    Safetensors,
}

/// What to take of a repository: its only GGUF file, else its safetensors.
fn choose(repo: &str, names: &[String]) -> Result<Choice> {
    let ggufs: Vec<_> = names.iter().filter(|n| n.ends_with(".gguf")).collect();
    if let [only] = ggufs.as_slice() {
        return Ok(Choice::File((*only).clone()));
    }
    if ggufs.is_empty() && SAFETENSORS_FILES.iter().all(|f| names.iter().any(|n| n == f)) {
        return Ok(Choice::Safetensors);
    }
    let found = ggufs.iter().take(20).map(|n| n.as_str()).collect::<Vec<_>>();
    Err(Error::HubChoice {
        repo: repo.to_owned(),
        found: found.join(", "),
    })
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
        assert_eq!(whole, Choice::Safetensors);
        let error = choose("o/r", &names(&["a.gguf", "b.gguf"])).unwrap_err();
        assert!(error.to_string().contains("a.gguf, b.gguf"), "{error}");
        assert!(choose("o/r", &names(&["README.md"])).is_err());
    }
}
