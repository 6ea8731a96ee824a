//! `read_file` and `list_files`.

use aion_machine::{Encoding, EntryKind, Etag, ReadOptions, ReadRange, RelPath};
use aion_service::{Json, Problem};
use axum::extract::State;
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use super::{Answer, Shared};
use crate::problem::from_error;
use crate::task::TaskState;

/// The longest content in an answer, in bytes.
const MAX_READ_BYTES: usize = 256 << 10;
const MAX_LISTED: usize = 1000;

/// A file to read.
#[derive(Debug, Clone, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
#[schema(example = json!({"path": "notes.txt"}))]
pub struct ReadFile {
    /// The file, relative to the working directory, like `src/main.rs`.
    #[schema(value_type = String, max_length = 4096)]
    pub path: RelPath,
    /// The first line to read, from 1.
    #[serde(
        default,
        skip_serializing_if = "Option::is_none",
        deserialize_with = "aion_service::whole::maybe"
    )]
    #[schema(minimum = 1)]
    pub first_line: Option<u64>,
    /// How many lines to read.
    #[serde(
        default,
        skip_serializing_if = "Option::is_none",
        deserialize_with = "aion_service::whole::maybe"
    )]
    #[schema(minimum = 1)]
    pub max_lines: Option<u64>,
    /// How to answer bytes that are not UTF-8 text: `text` replaces them, `base64` keeps them.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub encoding: Option<WantedEncoding>,
}

/// How to answer a content.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "lowercase")]
pub enum WantedEncoding {
    /// As text, with U+FFFD for what is none.
    Text,
    /// In base64.
    Base64,
}

/// How a content is answered.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "lowercase")]
pub enum AnswerEncoding {
    /// The content is the text.
    Utf8,
    /// The content is the text that the file has in UTF-16.
    Utf16,
    /// The content is the text if the file is in Latin-1, which is a guess.
    Latin1,
    /// The content is the text with U+FFFD for bytes that are none.
    Lossy,
    /// The content is base64 of the bytes.
    Base64,
}

/// A content.
#[derive(Debug, Clone, Serialize, Deserialize, ToSchema)]
pub struct ReadFileAnswer {
    /// The file.
    #[schema(value_type = String)]
    pub path: RelPath,
    /// The content, or the wanted lines of it.
    pub content: String,
    /// How `content` is to be understood.
    pub encoding: AnswerEncoding,
    /// The size of the whole file in bytes.
    pub size_bytes: u64,
    /// Whether the file goes on after what is here.
    pub truncated: bool,
    /// The name of this content, for `if_match`; absent for very large files.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(value_type = String, nullable = false)]
    pub etag: Option<Etag>,
}

/// Reads a text file, or some lines of it.
#[utoipa::path(
    post,
    path = "/v1/read_file",
    tag = "tool",
    params(
        ("X-Task-State" = Option<String>, Header, description = "JSON {task_id, cwd} of the caller's task"),
        ("Idempotency-Key" = Option<String>, Header, description = "accepted; reading again is harmless"),
    ),
    request_body = ReadFile,
    responses(
        (status = 200, description = "The content.", body = ReadFileAnswer),
        (status = "4XX", description = "The request is not valid.", body = aion_service::Problem, content_type = "application/problem+json"),
        (status = "5XX", description = "The service cannot do it now.", body = aion_service::Problem, content_type = "application/problem+json"),
    )
)]
pub(crate) async fn read_file(
    State(context): Shared,
    task: TaskState,
    Json(body): Json<ReadFile>,
) -> Answer<ReadFileAnswer> {
    for (number, place) in [(body.first_line, "/first_line"), (body.max_lines, "/max_lines")] {
        if number == Some(0) {
            return Err(Problem::unprocessable("invalid_request", "lines are counted from 1").at(place));
        }
    }
    let work = context.workspace(&task).await?;
    let range = match (body.first_line, body.max_lines) {
        (None, None) => ReadRange::All,
        (first, count) => ReadRange::Lines {
            first: first.unwrap_or(1),
            count: count.unwrap_or(u64::MAX),
        },
    };
    let options = ReadOptions::default()
        .with_range(range)
        .with_max_bytes(MAX_READ_BYTES);
    let read = work
        .read(&body.path, options)
        .await
        .map_err(|e| from_error(&e, "path"))?;
    let (content, encoding) = match (std::str::from_utf8(&read.bytes), body.encoding) {
        (_, Some(WantedEncoding::Base64)) => (STANDARD.encode(&read.bytes), AnswerEncoding::Base64),
        (Ok(text), _) => (text.to_owned(), AnswerEncoding::Utf8),
        (Err(_), _) => (read.text_lossy(), named(read.encoding)),
    };
    Ok(Json(ReadFileAnswer {
        path: body.path,
        content,
        encoding,
        size_bytes: read.size_bytes,
        truncated: read.truncated,
        etag: read.etag,
    }))
}

fn named(encoding: Encoding) -> AnswerEncoding {
    match encoding {
        Encoding::Utf16Le | Encoding::Utf16Be => AnswerEncoding::Utf16,
        Encoding::Latin1 => AnswerEncoding::Latin1,
        _ => AnswerEncoding::Lossy,
    }
}

/// A directory to list.
#[derive(Debug, Clone, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
#[schema(example = json!({"path": "."}))]
pub struct ListFiles {
    /// The directory, relative to the working directory; `.` is the working directory itself.
    #[serde(default = "RelPath::root")]
    #[schema(value_type = String, default = ".", max_length = 4096)]
    pub path: RelPath,
}

/// The entries of a directory.
#[derive(Debug, Clone, Serialize, Deserialize, ToSchema)]
pub struct ListedFiles {
    /// The entries, sorted by path.
    pub entries: Vec<ListedEntry>,
    /// Whether there are more.
    pub truncated: bool,
}

/// One entry of a directory.
#[derive(Debug, Clone, Serialize, Deserialize, ToSchema)]
pub struct ListedEntry {
    /// Where it is, relative to the working directory.
    #[schema(value_type = String)]
    pub path: RelPath,
    /// `file`, `directory`, `symlink` or `other`.
    #[schema(value_type = String)]
    pub kind: EntryKind,
    /// Its size in bytes.
    pub size_bytes: u64,
}

/// Lists the files and directories in a directory.
#[utoipa::path(
    post,
    path = "/v1/list_files",
    tag = "tool",
    params(
        ("X-Task-State" = Option<String>, Header, description = "JSON {task_id, cwd} of the caller's task"),
        ("Idempotency-Key" = Option<String>, Header, description = "accepted; listing again is harmless"),
    ),
    request_body = ListFiles,
    responses(
        (status = 200, description = "The entries.", body = ListedFiles),
        (status = "4XX", description = "The request is not valid.", body = aion_service::Problem, content_type = "application/problem+json"),
        (status = "5XX", description = "The service cannot do it now.", body = aion_service::Problem, content_type = "application/problem+json"),
    )
)]
pub(crate) async fn list_files(
    State(context): Shared,
    task: TaskState,
    Json(body): Json<ListFiles>,
) -> Answer<ListedFiles> {
    let work = context.workspace(&task).await?;
    let listing = work
        .list(&body.path, MAX_LISTED)
        .await
        .map_err(|e| from_error(&e, "path"))?;
    let entry = |stat: aion_machine::Stat| ListedEntry {
        path: stat.path,
        kind: stat.kind,
        size_bytes: stat.size_bytes,
    };
    let entries = listing.entries.into_iter().map(entry).collect();
    Ok(Json(ListedFiles {
        entries,
        truncated: listing.truncated,
    }))
}
