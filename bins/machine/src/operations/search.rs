//! `glob` and `grep`.

use aion_machine::{Case, GlobRequest, GrepRequest, RelPath};
use aion_service::{Json, Problem};
use axum::extract::State;
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use super::{Answer, Shared};
use crate::problem::from_error;
use crate::task::TaskState;

const MAX_FILES: usize = 500;
const MAX_LINES: usize = 100;
const MAX_CONTEXT_LINES: u32 = 10;

/// Names to search for.
#[derive(Debug, Clone, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
#[schema(example = json!({"pattern": "**/*.rs"}))]
pub struct Glob {
    /// A glob like `*.txt` or `src/**/*.rs`. Without a slash it matches file names at any depth.
    #[schema(min_length = 1, max_length = 4096)]
    pub pattern: String,
    /// The directory to search in.
    #[serde(default = "RelPath::root")]
    #[schema(value_type = String, default = ".", max_length = 4096)]
    pub path: RelPath,
}

/// The files that match.
#[derive(Debug, Clone, Serialize, Deserialize, ToSchema)]
pub struct FoundFiles {
    /// Their paths, sorted.
    #[schema(value_type = Vec<String>)]
    pub paths: Vec<RelPath>,
    /// Whether there may be more.
    pub truncated: bool,
}

/// Finds files by name. Files named in .gitignore are left out.
#[utoipa::path(
    post,
    path = "/v1/glob",
    tag = "tool",
    params(
        ("X-Task-State" = Option<String>, Header, description = "JSON {task_id, cwd} of the caller's task"),
        ("Idempotency-Key" = Option<String>, Header, description = "accepted; searching again is harmless"),
    ),
    request_body = Glob,
    responses(
        (status = 200, description = "The files.", body = FoundFiles),
        (status = "4XX", description = "The request is not valid.", body = aion_service::Problem, content_type = "application/problem+json"),
        (status = "5XX", description = "The service cannot do it now.", body = aion_service::Problem, content_type = "application/problem+json"),
    )
)]
pub(crate) async fn glob(
    State(context): Shared,
    task: TaskState,
    Json(body): Json<Glob>,
) -> Answer<FoundFiles> {
    let work = context.workspace(&task).await?;
    let request = GlobRequest::new(body.pattern)
        .with_path(body.path)
        .with_max_hits(MAX_FILES);
    let found = work.glob(request).await.map_err(|e| from_error(&e, "path"))?;
    let paths = found.hits.into_iter().map(|stat| stat.path).collect();
    Ok(Json(FoundFiles {
        paths,
        truncated: found.truncated,
    }))
}

/// A text to search for.
#[derive(Debug, Clone, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
#[schema(example = json!({"pattern": "TODO"}))]
pub struct Grep {
    /// A regular expression that a line matches.
    #[schema(min_length = 1, max_length = 4096)]
    pub pattern: String,
    /// The directory to search in, or one file.
    #[serde(default = "RelPath::root")]
    #[schema(value_type = String, default = ".", max_length = 4096)]
    pub path: RelPath,
    /// Search only files that match this glob.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(min_length = 1, max_length = 4096)]
    pub glob: Option<String>,
    /// Whether `a` also finds `A`.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    #[schema(default = false)]
    pub ignore_case: bool,
    /// How many lines around each match to show.
    #[serde(default)]
    #[schema(default = 0, maximum = 10)]
    pub context_lines: u32,
}

/// The lines that match.
#[derive(Debug, Clone, Serialize, Deserialize, ToSchema)]
pub struct FoundLines {
    /// By path, then by line.
    pub hits: Vec<FoundLine>,
    /// How many files were searched.
    pub files_searched: u64,
    /// Whether there may be more.
    pub truncated: bool,
}

/// One matching line.
#[derive(Debug, Clone, Serialize, Deserialize, ToSchema)]
pub struct FoundLine {
    /// The file.
    #[schema(value_type = String)]
    pub path: RelPath,
    /// The number of the line, from 1.
    pub line: u64,
    /// The line.
    pub text: String,
    /// The lines before it, where they were asked for.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub before: Vec<String>,
    /// The lines after it.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub after: Vec<String>,
}

/// Finds lines of text files by a regular expression.
#[utoipa::path(
    post,
    path = "/v1/grep",
    tag = "tool",
    params(
        ("X-Task-State" = Option<String>, Header, description = "JSON {task_id, cwd} of the caller's task"),
        ("Idempotency-Key" = Option<String>, Header, description = "accepted; searching again is harmless"),
    ),
    request_body = Grep,
    responses(
        (status = 200, description = "The lines.", body = FoundLines),
        (status = "4XX", description = "The request is not valid.", body = aion_service::Problem, content_type = "application/problem+json"),
        (status = "5XX", description = "The service cannot do it now.", body = aion_service::Problem, content_type = "application/problem+json"),
    )
)]
pub(crate) async fn grep(
    State(context): Shared,
    task: TaskState,
    Json(body): Json<Grep>,
) -> Answer<FoundLines> {
    if body.context_lines > MAX_CONTEXT_LINES {
        let detail = format!("at most {MAX_CONTEXT_LINES} lines around a match are shown");
        return Err(Problem::unprocessable("invalid_request", detail).at("/context_lines"));
    }
    let work = context.workspace(&task).await?;
    let case = if body.ignore_case {
        Case::Insensitive
    } else {
        Case::Sensitive
    };
    let mut request = GrepRequest::new(body.pattern)
        .with_path(body.path)
        .with_case(case)
        .with_context_lines(body.context_lines as usize)
        .with_max_hits(MAX_LINES);
    if let Some(glob) = body.glob {
        request = request.with_glob(glob);
    }
    let found = work.grep(request).await.map_err(|e| from_error(&e, "path"))?;
    let line = |hit: aion_machine::GrepHit| FoundLine {
        path: hit.path,
        line: hit.line,
        text: hit.text,
        before: hit.before,
        after: hit.after,
    };
    let hits = found.hits.into_iter().map(line).collect();
    Ok(Json(FoundLines {
        hits,
        files_searched: found.files_searched,
        truncated: found.truncated,
    }))
}
