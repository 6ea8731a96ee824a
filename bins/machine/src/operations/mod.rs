//! The operations: what is asked, what is answered, how one becomes the other.

mod about;
mod change;
mod exec;
mod executions;
mod look;
mod once;
mod recorded;
mod search;
mod workspace;

use std::sync::Arc;

use aion_service::{Json, Problem};
use axum::extract::State;
use axum::middleware::from_fn_with_state;
use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;

pub use self::change::{EditFile, WriteFile, WrittenFile};
pub(crate) use self::exec::MAX_TIMEOUT_S;
pub use self::exec::{Exec, Executed};
pub use self::look::{ListFiles, ListedFiles, ReadFile, ReadFileAnswer};
pub(crate) use self::recorded::{is_of, is_recorded};
pub use self::search::{FoundFiles, FoundLines, Glob, Grep};
use crate::context::Context;
use crate::problem::Refusal;

/// What every handler gets.
type Shared = State<Arc<Context>>;
/// What every handler gives.
type Answer<T> = Result<Json<T>, Problem>;

/// The routes of all operations.
pub(crate) fn routes(context: Arc<Context>) -> OpenApiRouter {
    OpenApiRouter::new()
        .routes(routes!(look::read_file))
        .routes(routes!(change::write_file))
        .routes(routes!(change::edit_file))
        .routes(routes!(look::list_files))
        .routes(routes!(search::glob))
        .routes(routes!(search::grep))
        .routes(routes!(exec::exec))
        .routes(routes!(exec::enforcement))
        .routes(routes!(about::machine))
        .routes(routes!(about::audit))
        .merge(workspace::routes())
        .merge(executions::routes())
        .layer(from_fn_with_state(Arc::clone(&context), recorded::record))
        .with_state(context)
}

/// What those handlers give that a client of the library calls.
type Reply<T> = Result<Json<T>, Refusal>;
