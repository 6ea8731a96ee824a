//! A model from a hub, by `org/repo` or `org/repo/file.gguf`.
//!
//! All files are of the one revision that the repository had when the pull began. What arrived stays in the staging
//! directory when a connection breaks for good, so the next pull goes on where this one ended, unless the repository has
//! changed. Every file is checked against the digest that the hub names it by.

use std::fs;
use std::path::{Path, PathBuf};
use std::time::Duration;

use hf_hub::api::sync::{Api, ApiBuilder, ApiError, ApiRepo, Metadata};
use hf_hub::{Cache, Repo, RepoType};
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
const RETRIES: u32 = 5;
/// How long to wait before the first of them; each of the others waits as long again.
const PAUSE: Duration = Duration::from_millis(300);

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
        return hub.download(file, &hub.arrived);
    }
    match choose(repo, &hub.names)? {
        Choice::File(name) => hub.download(&name, &hub.arrived),
        Choice::Files(files) => {
            let dir = hub.arrived.join("model");
            fs::create_dir_all(&dir).map_err(|e| Error::io("create", &dir, e))?;
            for name in files {
                hub.download(&name, &dir)?;
            }
            Ok(dir)
        }
    }
}

/// A repository at one revision.
struct Hub<'a> {
    name: &'a str,
    api: Api,
    repo: ApiRepo,
    /// The files of the repository.
    names: Vec<String>,
    /// Where files go that have arrived whole.
    arrived: PathBuf,
    /// Where the client keeps what arrives.
    blobs: PathBuf,
    progress: &'a Progress,
}

impl<'a> Hub<'a> {
    /// Asks which revision is the newest, and stays with it.
    fn open(name: &'a str, staging: &Path, progress: &'a Progress) -> Result<Self> {
        let cache = staging.join("hub");
        let api = ApiBuilder::from_env()
            .with_cache_dir(cache.clone())
            .with_retries(0)
            .build();
        let api = api.map_err(|source| failed(name, source))?;
        let info = api.model(name.to_owned()).info();
        let info = info.map_err(|source| failed(name, source))?;
        plain(&info.sha)?;
        let arrived = staging.join(format!("at-{}", info.sha));
        forget_others(staging, &arrived)?;
        fs::create_dir_all(&arrived).map_err(|e| Error::io("create", &arrived, e))?;
        let repo = Repo::with_revision(name.to_owned(), RepoType::Model, info.sha);
        let blobs = Cache::new(cache).repo(repo.clone()).blob_path("blob");
        Ok(Self {
            name,
            repo: api.repo(repo),
            api,
            names: info.siblings.into_iter().map(|file| file.rfilename).collect(),
            arrived,
            blobs,
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
        plain(metadata.commit_hash())?;
        let digest = Digest::of(metadata.etag()).ok_or_else(|| Error::HubDigest {
            repo: self.name.to_owned(),
            file: name.chars().take(80).collect(),
        })?;
        let blob = self.whole(name, &metadata)?;
        if let Err(error) = verify(&blob, digest, metadata.size() as u64, self.progress) {
            fs::remove_file(&blob).map_err(|e| Error::io("remove", &blob, e))?;
            return Err(error);
        }
        fs::rename(&blob, &flat).map_err(|e| Error::io("move", &blob, e))?;
        Ok(flat)
    }

    /// All of a file: what an earlier pull left of it, and the rest over as many connections as it takes.
    ///
    /// The client's own retries go by a position that is 0 until a byte arrives, and then append the whole file to its
    /// part: each connection here is a download of its own, which goes by the length of the part.
    fn whole(&self, name: &str, metadata: &Metadata) -> Result<PathBuf> {
        let mut broken = 0;
        loop {
            if let Some(part) = self.whole_part(metadata)? {
                return Ok(part);
            }
            match self.fetch(name) {
                Err(Error::Hub { .. }) if broken < RETRIES => broken += 1,
                ended => return ended,
            }
            std::thread::sleep(PAUSE * broken);
        }
    }

    fn fetch(&self, name: &str) -> Result<PathBuf> {
        let bar = self.progress.bar(0, "downloading");
        let link = self.repo.download_with_progress(name, Bar(bar));
        let link = link.map_err(|error| self.failed(error))?;
        let blob = fs::canonicalize(&link).map_err(|e| Error::io("read", &link, e))?;
        // The file itself is moved away from behind the link.
        fs::remove_file(&link).map_err(|e| Error::io("remove", &link, e))?;
        Ok(blob)
    }

    /// What an earlier pull left of a file, if nothing of it is missing: a hub has no range behind its end. One that is
    /// too long is no part of it.
    fn whole_part(&self, metadata: &Metadata) -> Result<Option<PathBuf>> {
        let part = self.blobs.with_file_name(metadata.etag()).with_extension("part");
        let size = metadata.size() as u64;
        match fs::metadata(&part).map(|found| found.len()) {
            Ok(found) if found == size => Ok(Some(part)),
            Ok(found) if found > size => {
                fs::remove_file(&part).map_err(|e| Error::io("remove", &part, e))?;
                Ok(None)
            }
            _ => Ok(None),
        }
    }
}

/// Removes what arrived of other revisions.
fn forget_others(staging: &Path, arrived: &Path) -> Result<()> {
    let entries = fs::read_dir(staging).map_err(|e| Error::io("read", staging, e))?;
    for path in entries.flatten().map(|entry| entry.path()) {
        let name = path.file_name().unwrap_or_default().to_string_lossy();
        if name.starts_with("at-") && path != arrived {
            fs::remove_dir_all(&path).map_err(|e| Error::io("remove", &path, e))?;
        }
    }
    Ok(())
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

/// What the hub names a file by.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Digest<'a> {
    /// Large files: their SHA-256.
    Sha256(&'a str),
    /// Small ones: the SHA-1 that git gives them.
    Git(&'a str),
}

impl<'a> Digest<'a> {
    /// None of anything else: a file that cannot be checked is not taken.
    fn of(etag: &'a str) -> Option<Self> {
        let is_hex = etag.chars().all(|c| c.is_ascii_hexdigit());
        match etag.len() {
            64 if is_hex => Some(Self::Sha256(etag)),
            40 if is_hex => Some(Self::Git(etag)),
            _ => None,
        }
    }
}

fn verify(blob: &Path, digest: Digest<'_>, bytes: u64, progress: &Progress) -> Result<()> {
    let found = fs::metadata(blob).map_err(|e| Error::io("read", blob, e))?.len();
    if found != bytes {
        return Err(Error::WrongDigest {
            path: blob.to_owned(),
            expected: format!("{bytes}"),
            found: format!("{found} bytes"),
        });
    }
    match digest {
        Digest::Sha256(expected) => digest::verify(blob, expected, progress),
        Digest::Git(expected) => digest::verify_git(blob, expected, progress),
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
