//! What the service needs to be told.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use aion_machine::audit::AuditOptions;
use aion_machine::{LocalOptions, MAX_OUTPUT_BYTES, Machine, TaskKeys};
use aion_service::ApiKey;

use crate::JournalError;
use crate::mcp::McpOptions;

/// Whether a task state is believed that nobody signed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
#[non_exhaustive]
pub enum Unsigned {
    /// If there are no keys, and then everybody who may call the service at all may name any directory.
    #[default]
    WithoutKeys,
    /// Always: signed ones are checked, the others believed.
    Accept,
    /// Never.
    Refuse,
}

/// How executions are kept and bounded.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct ExecutionOptions {
    /// How many run at once for one task, that is in one directory.
    pub max_per_task: usize,
    /// How long one that has ended can still be asked for.
    pub keep: Duration,
    /// How many are remembered, running or ended.
    pub max_kept: usize,
    /// How much of an output is kept for followers at most, in bytes.
    pub max_replay_bytes: usize,
}

impl Default for ExecutionOptions {
    /// 8 at once for a task, 5 minutes after the end, 128 of them, 1 MiB each.
    fn default() -> Self {
        Self {
            max_per_task: 8,
            keep: Duration::from_secs(300),
            max_kept: 128,
            max_replay_bytes: 1 << 20,
        }
    }
}

impl ExecutionOptions {
    /// Bounds how many run at once for one task.
    #[must_use]
    pub fn with_max_per_task(mut self, max_per_task: usize) -> Self {
        self.max_per_task = max_per_task;
        self
    }

    /// Chooses how long ended ones can be asked for.
    #[must_use]
    pub fn with_keep(mut self, keep: Duration) -> Self {
        self.keep = keep;
        self
    }

    /// Bounds how many are remembered.
    #[must_use]
    pub fn with_max_kept(mut self, max_kept: usize) -> Self {
        self.max_kept = max_kept;
        self
    }

    /// Bounds what is kept of an output for followers.
    #[must_use]
    pub fn with_max_replay_bytes(mut self, max_replay_bytes: usize) -> Self {
        self.max_replay_bytes = max_replay_bytes;
        self
    }
}

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
    /// Another machine than this host; then of `local` only the size limits are used, and `data_root`, unless it is empty, is only the
    /// directory that the journal and the audit log must be outside of.
    pub machine: Option<Arc<dyn Machine>>,
    /// Who may call over MCP, and how many at once.
    pub mcp: McpOptions,
    /// Where the audit log is kept, outside of `data_root`; without it nothing is recorded.
    pub audit: Option<PathBuf>,
    /// How much of it is kept.
    pub audit_options: AuditOptions,
    /// The keys that sign task states.
    pub task_keys: Option<Arc<TaskKeys>>,
    /// Whether a task state is believed that nobody signed.
    pub unsigned: Unsigned,
    /// The key of who may see what all tasks do: the audit log and what holds programs in. Without one everybody may
    /// who may call at all, unless there are task keys: then nobody may.
    pub operator_key: Option<ApiKey>,
    /// How executions are kept and bounded.
    pub executions: ExecutionOptions,
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
            audit: None,
            audit_options: AuditOptions::default(),
            task_keys: None,
            unsigned: Unsigned::default(),
            operator_key: None,
            executions: ExecutionOptions::default(),
        }
    }

    /// Records what is asked for, and what comes of it, in this directory.
    #[must_use]
    pub fn with_audit(mut self, dir: impl Into<PathBuf>) -> Self {
        self.audit = Some(dir.into());
        self
    }

    /// Chooses how much of the audit log is kept.
    #[must_use]
    pub fn with_audit_options(mut self, options: AuditOptions) -> Self {
        self.audit_options = options;
        self
    }

    /// Believes task states that one of these keys signed, and by default no others any more.
    #[must_use]
    pub fn with_task_keys(mut self, keys: Arc<TaskKeys>) -> Self {
        self.task_keys = Some(keys);
        self
    }

    /// Chooses whether a task state is believed that nobody signed.
    #[must_use]
    pub fn with_unsigned(mut self, unsigned: Unsigned) -> Self {
        self.unsigned = unsigned;
        self
    }

    /// Shows what all tasks do only to who has this key, in `X-Operator-Key`.
    #[must_use]
    pub fn with_operator_key(mut self, key: ApiKey) -> Self {
        self.operator_key = Some(key);
        self
    }

    /// Chooses how executions are kept and bounded.
    #[must_use]
    pub fn with_executions(mut self, executions: ExecutionOptions) -> Self {
        self.executions = executions;
        self
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
    /// A task could change what it was recorded to have done.
    #[error("the audit log {} lies inside the data root", path.display())]
    AuditInside {
        /// The directory of the log.
        path: PathBuf,
    },
    /// The audit log cannot be used.
    #[error("the audit log {} cannot be used", path.display())]
    Audit {
        /// The directory of the log.
        path: PathBuf,
        /// Why.
        #[source]
        source: std::io::Error,
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
    let elsewhere = options.machine.is_some() && options.data_root.as_os_str().is_empty();
    let root = if elsewhere {
        None
    } else {
        Some(create(&options.data_root)?)
    };
    let is_inside = |path: &Path| Ok(root.as_ref().is_some_and(|root| path.starts_with(root)));
    let inside = |path: &Path| create(path).and_then(|path| is_inside(&path));
    match &options.journal {
        Some(path) if inside(path)? => return Err(OpenError::JournalInside { path: path.clone() }),
        _ => {}
    }
    match &options.audit {
        Some(path) if inside(path)? => return Err(OpenError::AuditInside { path: path.clone() }),
        _ => {}
    }
    Ok(())
}
