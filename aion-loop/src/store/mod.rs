//! What the loop must not forget: runs, the intent behind every call, the steps.

mod memory;
#[cfg(feature = "sqlite")]
mod sqlite;

use std::fmt::Debug;

use aion_types::{AgentId, RunId, TaskId, Timestamp};
use async_trait::async_trait;
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

pub use memory::MemoryLoopStore;
#[cfg(feature = "sqlite")]
pub use sqlite::SqliteLoopStore;

use crate::agent::AgentType;
use crate::report::StepReport;
use crate::run::{CallStatus, PlannedCall, RunSnapshot};

/// Why a store failed.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum StoreError {
    /// The storage did not answer, or refused.
    #[error("the storage failed")]
    Storage(#[source] Box<dyn std::error::Error + Send + Sync>),
    /// Something stored cannot be read.
    #[error("the storage holds something unreadable: {0}")]
    Corrupt(String),
    /// A newer program wrote the database.
    #[error("the database has schema {found}, newer than the newest known here, {newest}")]
    NewerDatabase {
        /// The version in the file.
        found: u32,
        /// The newest version that this program reads.
        newest: u32,
    },
    /// The file is a database of something else.
    #[error("the file is no database of the loop: its application id is {found:#x}")]
    ForeignDatabase {
        /// The application id of the file.
        found: i64,
    },
    /// No such thing.
    #[error("there is no {what} {id}")]
    NotFound {
        /// What was looked for.
        what: &'static str,
        /// Its id.
        id: String,
    },
    /// An intent that says something else under the same key.
    #[error("the key of a call was used for another call")]
    KeyReused,
}

#[cfg(feature = "sqlite")]
impl From<aion_sql::OpenError> for StoreError {
    fn from(error: aion_sql::OpenError) -> Self {
        match error {
            aion_sql::OpenError::Newer { found, newest } => Self::NewerDatabase { found, newest },
            aion_sql::OpenError::Foreign { found } => Self::ForeignDatabase { found },
            other => Self::Storage(Box::new(other)),
        }
    }
}

/// Where a run stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum RunStatus {
    /// Somebody works on it, or nobody does and it may be taken up again.
    Active,
    /// It was asked to rest.
    Paused,
    /// It waits for a decision about calls of unknown outcome.
    Parked,
    /// It ended.
    Done,
}

impl RunStatus {
    /// The name on the wire.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Active => "active",
            Self::Paused => "paused",
            Self::Parked => "parked",
            Self::Done => "done",
        }
    }
}

/// A stored run.
#[derive(Debug, Clone, PartialEq)]
pub struct RunRecord {
    /// Its id.
    pub run: RunId,
    /// The task that it works on.
    pub task: TaskId,
    /// The type of agent.
    pub agent: AgentId,
    /// Where it stands.
    pub status: RunStatus,
    /// Everything else.
    pub snapshot: RunSnapshot,
    /// When it changed last.
    pub updated_at: Timestamp,
}

/// What is written down before a call leaves, and completed when it came back.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Intent {
    /// The idempotency key.
    pub key: String,
    /// The run.
    pub run: RunId,
    /// Counts the calls of the run.
    pub ordinal: u64,
    /// The tool.
    pub tool: String,
    /// The arguments.
    pub arguments: Map<String, Value>,
    /// What is known of the outcome; none while the call is under way.
    pub outcome: Option<IntentOutcome>,
    /// When it was written.
    pub at: Timestamp,
}

/// What is known of a call's outcome.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct IntentOutcome {
    /// How it ended.
    pub status: CallStatus,
    /// What the service said.
    pub answer: String,
}

impl Intent {
    /// The intent of a planned call.
    pub fn of(run: RunId, call: &PlannedCall, at: Timestamp) -> Self {
        Self {
            key: call.key.clone(),
            run,
            ordinal: call.ordinal,
            tool: call.tool.clone(),
            arguments: call.arguments.clone(),
            outcome: None,
            at,
        }
    }

    /// This intent, if `other` says the same.
    pub(crate) fn same_call(&self, other: &Self) -> Result<Self, StoreError> {
        if self.tool == other.tool && self.arguments == other.arguments && self.ordinal == other.ordinal {
            Ok(self.clone())
        } else {
            Err(StoreError::KeyReused)
        }
    }
}

/// Keeps runs, intents and steps. Every method is one transaction, durable when it returns.
#[async_trait]
pub trait LoopStore: Debug + Send + Sync + 'static {
    /// Writes a run, new or not.
    ///
    /// # Errors
    /// [`StoreError`]
    async fn save_run(&self, record: &RunRecord) -> Result<(), StoreError>;

    /// Reads a run.
    ///
    /// # Errors
    /// [`StoreError`]
    async fn run(&self, run: RunId) -> Result<Option<RunRecord>, StoreError>;

    /// The newest run on a task.
    ///
    /// # Errors
    /// [`StoreError`]
    async fn run_of_task(&self, task: TaskId) -> Result<Option<RunRecord>, StoreError>;

    /// Runs older than `before`, newest first.
    ///
    /// # Errors
    /// [`StoreError`]
    async fn runs(&self, before: Option<RunId>, limit: u32) -> Result<Vec<RunRecord>, StoreError>;

    /// Writes an intent unless its key is known; gives what is stored under the key before the write.
    ///
    /// # Errors
    /// [`StoreError::KeyReused`] if the key stands for another call.
    async fn intend(&self, intent: &Intent) -> Result<Option<Intent>, StoreError>;

    /// Writes the outcome of an intent.
    ///
    /// # Errors
    /// [`StoreError::NotFound`] without the intent.
    async fn settle(&self, key: &str, outcome: &IntentOutcome) -> Result<(), StoreError>;

    /// The intents of a run, in the order of their calls.
    ///
    /// # Errors
    /// [`StoreError`]
    async fn intents(&self, run: RunId) -> Result<Vec<Intent>, StoreError>;

    /// Writes the report of a step; the same step again replaces it.
    ///
    /// # Errors
    /// [`StoreError`]
    async fn save_step(&self, step: &StepReport) -> Result<(), StoreError>;

    /// Steps of a run after step `after`, in order.
    ///
    /// # Errors
    /// [`StoreError`]
    async fn steps(&self, run: RunId, after: u32, limit: u32) -> Result<Vec<StepReport>, StoreError>;

    /// Writes a type of agent, new or not.
    ///
    /// # Errors
    /// [`StoreError`]
    async fn save_agent_type(&self, agent: &AgentType) -> Result<(), StoreError>;

    /// Reads a type of agent.
    ///
    /// # Errors
    /// [`StoreError`]
    async fn agent_type(&self, id: &AgentId) -> Result<Option<AgentType>, StoreError>;

    /// Types of agent after `after`, by name.
    ///
    /// # Errors
    /// [`StoreError`]
    async fn agent_types(&self, after: Option<&AgentId>, limit: u32) -> Result<Vec<AgentType>, StoreError>;
}
