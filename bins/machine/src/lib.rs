//! The machine as an HTTP service: files and processes under one directory, on port 9202.
//!
//! Seven operations, each `POST /v1/{operation}` with one flat JSON object, are the tools that the loop
//! gives to a model: `read_file`, `write_file`, `edit_file`, `list_files`, `glob`, `grep`, `exec`.
//! `X-Task-State` says which directory of the machine they work in; no path can leave it.
//!
//! ```no_run
//! # async fn run() -> Result<(), Box<dyn std::error::Error>> {
//! use aion_machine_server::{MachineOptions, service};
//! aion_machine::supervisor::run_if_requested(); // first in `main`, for `exec`
//! let service = service(MachineOptions::new("data/work").with_journal("data/machine"))?;
//! let options = aion_service::ServeOptions::loopback(service.default_port());
//! aion_service::run(service, options).await?;
//! # Ok(()) }
//! ```
//!
//! # Idempotency
//! Every operation takes `Idempotency-Key`. The reading ones change nothing, so they simply run again.
//! For the changing ones (`write_file`, `edit_file`, `exec`, `/v1/executions`, and those of `/v1/workspace`) the answer is kept: the same key with the same body gets the
//! stored answer, with another body 409 `idempotency_key_reused`, and while the first still runs 409
//! `idempotency_key_in_use`. A failure is not kept: the key is free again.
//!
//! With a journal ([`MachineOptions::with_journal`]) this survives the end of the process, however it
//! came. What was only begun is then settled by looking: a write or edit is done if the file has the
//! content that it would have got, and is done now if not. An `exec`, or a change of `/v1/workspace`, that was begun
//! and has no answer is never run again: 409 `outcome_unknown`. Entries are kept for a day, 10,000 of them, 32 MiB in all.
//! The journal survives a killed process; it is not forced to the disk, so the last moments before a
//! power cut may be missing.
//!
//! # Reading order
//! [`MachineOptions`], [`service`], [`mcp`], then `operations` (what is asked and answered), `task` (the header),
//! `journal` (the keys), `state` (what `GET /state` shows).

mod context;
mod executions;
mod journal;
pub mod mcp;
mod operations;
mod options;
mod problem;
mod state;
mod task;

pub use self::journal::JournalError;
pub use self::operations::{
    EditFile, Exec, Executed, FoundFiles, FoundLines, Glob, Grep, ListFiles, ListedFiles, ReadFile,
    ReadFileAnswer, WriteFile, WrittenFile,
};
pub use self::options::{ExecutionOptions, MachineOptions, OpenError, Unsigned};
pub use self::task::TaskState;

use std::sync::Arc;
use std::time::Duration;

use aion_service::{NoState, PathLimits, Service};

use self::context::Context;

/// The port of this service.
pub const PORT: u16 = 9202;

/// Bodies with a file content: 10 MiB of text, and what JSON adds to it.
const CONTENT_BODY_BYTES: usize = 24 << 20;
/// Longer than the longest execution.
const EXEC_TIMEOUT: Duration = Duration::from_secs(operations::MAX_TIMEOUT_S + 30);

/// Longer than the longest walk.
const WALK_TIMEOUT: Duration = Duration::from_secs(90);

/// The service over a directory.
///
/// # Errors
/// [`OpenError`] if the directory or the journal cannot be opened.
pub fn service(options: MachineOptions) -> Result<Service, OpenError> {
    let mcp_options = options.mcp.clone();
    let context = Arc::new(Context::open(options)?);
    let content = PathLimits::new().with_max_body_bytes(CONTENT_BODY_BYTES);
    let tools = mcp::McpTools::of(tools_only(&context));
    let mcp = mcp::http_routes(tools, &mcp_options, CONTENT_BODY_BYTES);
    let routes = operations::routes(Arc::clone(&context)).merge(mcp.into());
    let service = Service::new("machine", PORT, routes, Arc::new(state::FilesState::new(context)));
    Ok(with_limits(service).with_path_limits(mcp::PATH, content.without_timeout()))
}

/// The operations alone, which is what calls over MCP are requests to.
fn tools_only(context: &Arc<Context>) -> Service {
    let routes = operations::routes(Arc::clone(context));
    with_limits(Service::new("machine", PORT, routes, Arc::new(NoState)))
}

fn with_limits(service: Service) -> Service {
    let content = PathLimits::new().with_max_body_bytes(CONTENT_BODY_BYTES);
    service
        .with_path_limits("/v1/write_file", content)
        .with_path_limits("/v1/edit_file", content)
        .with_path_limits("/v1/exec", PathLimits::new().with_timeout(EXEC_TIMEOUT))
        .with_path_limits("/v1/workspace/write", content)
        .with_path_limits("/v1/workspace/edit", content)
        .with_path_limits("/v1/workspace/patch", content)
        .with_path_limits("/v1/workspace/grep", PathLimits::new().with_timeout(WALK_TIMEOUT))
        .with_path_limits("/v1/workspace/glob", PathLimits::new().with_timeout(WALK_TIMEOUT))
        .with_path_limits("/v1/executions", content)
}
