//! What can go wrong in the command line, with what to do about it.

use std::io;
use std::path::{Path, PathBuf};

/// Shorthand for results of this crate.
pub type Result<T, E = Error> = std::result::Result<T, E>;

/// What can go wrong.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// No place for the cache.
    #[error("no cache directory: set AION_CACHE or HOME")]
    NoCacheDirectory,
    /// A file or directory could not be used.
    #[error("cannot {action} {}", path.display())]
    Io {
        /// What was tried.
        action: &'static str,
        /// On what.
        path: PathBuf,
        /// Why not.
        source: io::Error,
    },
    /// A model is not here.
    #[error("model {name} is not at {}: fetch it with `aion model pull`", looked_at.display())]
    ModelMissing {
        /// The model.
        name: String,
        /// Where it would lie.
        looked_at: PathBuf,
    },
    /// A model name that is no name.
    #[error("{0:?} names no model: use smollm2, a file of the cache, a path, org/repo or org/repo/file.gguf")]
    BadModelName(String),
    /// A file with other bytes than it should have.
    #[error("{} has {found}, expected {expected}: it is damaged or another file", path.display())]
    WrongDigest {
        /// The file.
        path: PathBuf,
        /// The size or digest that it should have.
        expected: String,
        /// What it has.
        found: String,
    },
    /// No Python to fetch a package with.
    #[error("python3 was not found: install Python 3 with pip, or set AION_PYTHON, or give --model PATH")]
    NoPython,
    /// Python is there but does not start.
    #[error("python could not be started")]
    PythonFailedToStart(#[source] io::Error),
    /// The package client failed.
    #[error("the Python package client ended with {status}: {said}")]
    PackageClient {
        /// Its exit status.
        status: String,
        /// The end of what it said.
        said: String,
    },
    /// The package holds no model.
    #[error("package {package} has no file {file}")]
    PackageWithoutModel {
        /// The package and version.
        package: String,
        /// The file that was expected.
        file: String,
    },
    /// The model hub failed.
    #[error("cannot fetch {repo} from the model hub")]
    Hub {
        /// The repository.
        repo: String,
        /// Why; nothing if its client broke down.
        source: Option<Box<hf_hub::api::sync::ApiError>>,
    },
    /// A directory that is larger than a copy may be.
    #[error("{} has more than {limit} {what}: give a smaller directory", dir.display())]
    TooMuchToCopy {
        /// The directory.
        dir: PathBuf,
        /// What there is too much of.
        what: &'static str,
        /// How much there may be.
        limit: u64,
    },
    /// The original of a changed file is not what was copied.
    #[error("{} was changed by somebody else since it was copied: nothing was applied", .0.display())]
    ChangedMeanwhile(PathBuf),
    /// The task store failed or is in use.
    #[error("the task store failed")]
    Tasks(#[from] aion_processor::Error),
    /// The market failed.
    #[error("the market failed")]
    Market(#[from] aion_market::Error),
    /// The market's store failed.
    #[error("the market's store failed")]
    MarketStore(#[from] aion_market::StoreError),
    /// The loop failed.
    #[error("the work broke off; `aion resume` goes on with it")]
    Loop(#[from] aion_loop::Error),
    /// The loop's store failed.
    #[error("the store of runs failed")]
    Runs(#[from] aion_loop::StoreError),
    /// The model cannot be used.
    #[error("the model cannot be used")]
    Model(#[from] aion_loop::ModelError),
    /// The model cannot be loaded.
    #[error("the model cannot be loaded")]
    Engine(#[from] aion_llm::Error),
    /// The machine service cannot be started.
    #[error("the sandbox cannot be opened")]
    Machine(#[from] aion_machine_server::OpenError),
    /// The sandbox refused.
    #[error("the sandbox refused")]
    Sandbox(#[from] aion_machine::Error),
    /// A network client cannot be made.
    #[error("no network client")]
    Network(#[from] aion_loop::TransportError),
    /// The server failed.
    #[error("cannot serve")]
    Serve(#[from] aion_service::ServeError),
    /// The language model of the market is named by halves.
    #[error("the language model that forecasts cannot be asked")]
    Forecaster(#[from] aion_market_server::HttpChatError),
    /// The router's catalog cannot be opened.
    #[error("the router's catalog cannot be opened")]
    Router(#[from] aion_router::LiveError),
    /// Webhooks cannot be sent.
    #[error("cannot send webhooks")]
    Webhooks(#[from] aion_processor_server::SenderError),
    /// A value that is out of its range.
    #[error("not a valid value")]
    Value(#[from] aion_types::Error),
    /// Trust could not be settled.
    #[error("the trust store failed")]
    Trust(#[from] aion_trust::Error),
    /// Something stored cannot be read.
    #[error("{} is not what this program wrote", path.display())]
    Unreadable {
        /// Which file.
        path: PathBuf,
        /// Why.
        source: serde_json::Error,
    },
    /// A goal, a check or another text that cannot be taken.
    #[error("{what} {problem}")]
    BadInput {
        /// Which input.
        what: &'static str,
        /// What is wrong with it.
        problem: String,
    },
    /// Nothing to go on with.
    #[error("no unfinished task: `aion run` starts one")]
    NothingToResume,
    /// A task that is not one of `aion run`.
    #[error("task {0} was not made by `aion run`")]
    NotOurs(aion_types::TaskId),
    /// A task that somebody else holds.
    #[error("task {0} is held by another process")]
    Held(aion_types::TaskId),
    /// A file whose digest the hub does not tell.
    #[error("{repo} names no SHA-256 or SHA-1 of {file}, so it cannot be checked")]
    HubDigest {
        /// The repository.
        repo: String,
        /// The file.
        file: String,
    },
    /// A repository without an obvious model file.
    #[error("{repo} has no single model file; name one as {repo}/FILE, out of: {found}")]
    HubChoice {
        /// The repository.
        repo: String,
        /// GGUF files that it has.
        found: String,
    },
}

impl Error {
    pub(crate) fn io(action: &'static str, path: &Path, source: io::Error) -> Self {
        Self::Io {
            action,
            path: path.to_owned(),
            source,
        }
    }
}
