//! What the service needs to be told.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use aion_machine::{LocalOptions, MAX_OUTPUT_BYTES, Machine};

use crate::JournalError;
use crate::mcp::McpOptions;

/// How the service works.
#[derive(Debug, Clone)]
#[non_exhaustive]
pub struct MachineOptions {
    /// The directory under which everything happens; it is created if it is missing.
    pub data_root: PathBuf,
    /// Where idempotency keys are kept, outside of `data_root`; without it they are kept in memory.
    pub journal: Option<PathBuf>,
    /// How files are written and programs executed.
    pub local: LocalOptions,
    /// How much of the beginning, and of the end, of an output is answered, in bytes, at most
    /// [`MAX_OUTPUT_BYTES`].
    pub output_bytes: usize,
    /// Another machine than this host; then `data_root` is not used, and of `local` only the size limits.
    pub machine: Option<Arc<dyn Machine>>,
    /// Who may call over MCP, and how many at once.
    pub mcp: McpOptions,
}

impl MachineOptions {
    /// Serves a machine of another kind than a directory of this host, keeping keys in memory.
    pub fn over(machine: Arc<dyn Machine>) -> Self {
        Self {
            machine: Some(machine),
            ..Self::new(PathBuf::new())
        }
    }

    /// Chooses who may call over MCP.
    #[must_use]
    pub fn with_mcp(mut self, mcp: McpOptions) -> Self {
        self.mcp = mcp;
        self
    }

    /// Serves this directory, keeping keys in memory.
    pub fn new(data_root: impl Into<PathBuf>) -> Self {
        Self {
            data_root: data_root.into(),
            journal: None,
            local: LocalOptions::default(),
            output_bytes: 8 << 10,
            machine: None,
            mcp: McpOptions::default(),
        }
    }

    /// Keeps idempotency keys in this directory.
    #[must_use]
    pub fn with_journal(mut self, dir: impl Into<PathBuf>) -> Self {
        self.journal = Some(dir.into());
        self
    }

    /// Chooses how files are written and programs executed.
    #[must_use]
    pub fn with_local(mut self, local: LocalOptions) -> Self {
        self.local = local;
        self
    }

    /// Answers this much of the beginning and of the end of an output.
    #[must_use]
    pub fn with_output_bytes(mut self, output_bytes: usize) -> Self {
        self.output_bytes = output_bytes;
        self
    }
}

/// Why the service cannot be made.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum OpenError {
    /// The directory cannot be created or opened.
    #[error("the data root {} cannot be opened", path.display())]
    Root {
        /// Which directory.
        path: PathBuf,
        /// Why.
        #[source]
        source: std::io::Error,
    },
    /// A task could change what it was recorded to have done.
    #[error("the journal {} lies inside the data root", path.display())]
    JournalInside {
        /// The directory of the journal.
        path: PathBuf,
    },
    /// More of an output is to be answered than can be kept.
    #[error("{output_bytes} bytes of an output cannot be kept; the limit is {MAX_OUTPUT_BYTES}")]
    OutputBytes {
        /// What was asked for.
        output_bytes: usize,
    },
    /// The journal cannot be used.
    #[error("the journal cannot be used")]
    Journal(#[from] JournalError),
}

/// Creates both directories and checks that one is not in the other, and that limits are kept to.
pub(crate) fn prepare(options: &MachineOptions) -> Result<(), OpenError> {
    let output_bytes = options.output_bytes;
    if output_bytes > MAX_OUTPUT_BYTES {
        return Err(OpenError::OutputBytes { output_bytes });
    }
    let create = |path: &Path| {
        let made = std::fs::create_dir_all(path).and_then(|()| path.canonicalize());
        made.map_err(|source| OpenError::Root {
            path: path.to_owned(),
            source,
        })
    };
    let root = match &options.machine {
        None => Some(create(&options.data_root)?),
        Some(_) => None,
    };
    let Some(journal) = &options.journal else {
        return Ok(());
    };
    let journal_path = create(journal)?;
    if root.is_some_and(|root| journal_path.starts_with(root)) {
        return Err(OpenError::JournalInside {
            path: journal.clone(),
        });
    }
    Ok(())
}
