//! What can go wrong in the loop.

use crate::model::ModelError;
use crate::store::StoreError;
use crate::transport::TransportError;

/// Why something in the loop could not be done.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// An input came that the present phase of the run does not wait for.
    #[error("a run that is {phase} does not take {input}")]
    UnexpectedInput {
        /// What the run waits for.
        phase: &'static str,
        /// What it got.
        input: &'static str,
    },
    /// A snapshot written by a newer program.
    #[error("run format {found} is newer than the newest one known here, {newest}")]
    NewerFormat {
        /// The version in the snapshot.
        found: u32,
        /// The newest version that this program reads.
        newest: u32,
    },
    /// A snapshot that does not fit its own rules.
    #[error("not a run snapshot")]
    BadSnapshot(#[source] serde_json::Error),
    /// A run that is resumed waits for the result of a tool that is gone.
    #[error("the run waits for a call of the tool {0}, which no service offers any more")]
    ToolGone(String),
    /// Tools could not be derived or are not what they should be.
    #[error("the tools of {service} cannot be used")]
    Tools {
        /// The service.
        service: String,
        /// Why.
        #[source]
        source: crate::openapi::OpenApiError,
    },
    /// Two services offer tools of the same name.
    #[error("the tool {0} exists twice")]
    DuplicateTool(String),
    /// A service did not answer as a service does.
    #[error("the service {service} failed: {reason}")]
    Service {
        /// The service.
        service: String,
        /// What it did.
        reason: String,
    },
    /// The way to a service failed.
    #[error("the service {service} could not be reached")]
    Transport {
        /// The service.
        service: String,
        /// Why.
        #[source]
        source: TransportError,
    },
    /// The model could not be used.
    #[error("the model could not be used")]
    Model(#[from] ModelError),
    /// What the loop must remember could not be read or written.
    #[error("the run store failed")]
    Store(#[from] StoreError),
    /// The task store refused.
    #[error("the task store failed")]
    Processor(#[from] aion_processor::Error),
    /// The task's lease went to somebody else; nothing more may be written under it.
    #[error("the lease on the task was lost")]
    LeaseLost,
    /// A number or id is not what it should be.
    #[error("not a valid value")]
    Value(#[from] aion_types::Error),
    /// The judge could not decide.
    #[error("the judge could not decide: {0}")]
    Judge(String),
    /// A file could not be written.
    #[error("the trace files could not be written")]
    Io(#[from] std::io::Error),
}

/// A result whose error is the loop's.
pub type Result<T, E = Error> = std::result::Result<T, E>;
