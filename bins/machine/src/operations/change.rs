//! `write_file` and `edit_file`.

use aion_machine::{
    Diff, Edit, EditRequest, Error, Etag, MAX_DIFF_BYTES, Occurrences, ReadOptions, RelPath, Workspace,
    WriteMode, WriteOutput, WriteRequest, apply_edits,
};
use aion_service::{Json, Problem};
use axum::extract::State;
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use super::{Answer, Shared};
use crate::context::{IdempotencyKey, Keyed, begin, blocking, settle};
use crate::journal::Claim;
use crate::problem::from_error;
use crate::task::TaskState;

/// A file to write.
#[derive(Debug, Clone, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
#[schema(example = json!({"path": "notes.txt", "content": "milk\nbread\n"}))]
pub struct WriteFile {
    /// The file, relative to the working directory, like `src/main.rs`. Missing directories are created.
    #[schema(value_type = String, max_length = 4096)]
    pub path: RelPath,
    /// The whole new content of the file.
    pub content: String,
    /// `upsert` replaces an existing file; `create_new` refuses to.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub mode: Option<WantedMode>,
    /// Write only if the file still has this etag.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Option<String>)]
    pub if_match: Option<Etag>,
}

/// Whether a file may be replaced.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum WantedMode {
    /// Create or replace.
    Upsert,
    /// Create; an existing file is an error.
    CreateNew,
}

/// What was written.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct WrittenFile {
    /// The file.
    #[schema(value_type = String)]
    pub path: RelPath,
    /// Whether the file is new.
    pub created: bool,
    /// Whether the content is another one than before.
    pub changed: bool,
    /// The size of the file in bytes.
    pub size_bytes: u64,
    /// The name of the new content, for `if_match`.
    #[schema(value_type = String)]
    pub etag: Etag,
    /// The change as a unified diff, cut where it is long.
    pub diff: String,
}

impl WrittenFile {
    fn from_output(path: &RelPath, output: WriteOutput) -> Self {
        Self {
            path: path.clone(),
            created: output.created,
            changed: output.changed,
            size_bytes: output.size_bytes,
            etag: output.etag,
            diff: output.diff.text,
        }
    }

    /// What will be answered if the new content goes over the old one.
    fn expected(path: &RelPath, old: Option<&[u8]>, new: &[u8]) -> Self {
        let before = old.unwrap_or_default();
        Self {
            path: path.clone(),
            created: old.is_none(),
            changed: old != Some(new),
            size_bytes: new.len() as u64,
            etag: Etag::of(new),
            diff: Diff::between(path.as_str(), before, new, MAX_DIFF_BYTES).text,
        }
    }
}

/// Writes a text file: creates it, or replaces its whole content.
#[utoipa::path(
    post,
    path = "/v1/write_file",
    tag = "tool",
    params(
        ("X-Task-State" = Option<String>, Header, description = "JSON {task_id, cwd} of the caller's task"),
        ("Idempotency-Key" = Option<String>, Header, description = "the same key and body get the same answer, once done"),
    ),
    request_body = WriteFile,
    responses(
        (status = 200, description = "What was written.", body = WrittenFile),
        (status = "4XX", description = "The request is not valid; nothing was written.", body = aion_service::Problem, content_type = "application/problem+json"),
        (status = "5XX", description = "The service cannot do it now.", body = aion_service::Problem, content_type = "application/problem+json"),
    )
)]
pub(crate) async fn write_file(
    State(context): Shared,
    task: TaskState,
    key: IdempotencyKey,
    Json(body): Json<WriteFile>,
) -> Answer<WrittenFile> {
    let work = context.workspace(&task).await?;
    let (mut claim, expected) = match context.claim(&key, "write_file", &task, &body)? {
        Keyed::Answered(answer) => return Ok(Json(answer)),
        Keyed::Run(claim, expected) => (claim, expected),
        Keyed::Unknown => (None, None),
    };
    if let Some(done) = already_done(&*work, expected).await? {
        return settle(claim, Ok(done)).await.map(Json);
    }
    let (path, mut content) = (body.path, body.content);
    if claim.is_some() {
        let old = current(&*work, &path, context.max_file_bytes)
            .await
            .map_err(|e| from_error(&e, "path"))?;
        let of = path.clone();
        let planned = blocking(move || {
            let expected = WrittenFile::expected(&of, old.as_deref(), content.as_bytes());
            (expected, content)
        });
        let expected;
        (expected, content) = planned.await?;
        begin_change(&mut claim, &expected).await?;
    }
    let mut request = WriteRequest::new(content);
    if body.mode == Some(WantedMode::CreateNew) {
        request = request.with_mode(WriteMode::CreateNew);
    }
    if let Some(etag) = body.if_match {
        request = request.with_if_match(etag);
    }
    let done = work.write(&path, request).await;
    settle(claim, answered(&path, done)).await.map(Json)
}

/// A text to replace in a file.
#[derive(Debug, Clone, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
#[schema(example = json!({"path": "notes.txt", "old": "milk", "new": "oat milk"}))]
pub struct EditFile {
    /// The file, relative to the working directory.
    #[schema(value_type = String, max_length = 4096)]
    pub path: RelPath,
    /// The text to replace, exactly as it is in the file. It must occur once.
    #[schema(min_length = 1)]
    pub old: String,
    /// The text to put in its place.
    pub new: String,
    /// Replace every occurrence instead of the only one.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    #[schema(default = false)]
    pub every: bool,
    /// Edit only if the file still has this etag.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Option<String>)]
    pub if_match: Option<Etag>,
}

/// Replaces a text in a file by another one.
#[utoipa::path(
    post,
    path = "/v1/edit_file",
    tag = "tool",
    params(
        ("X-Task-State" = Option<String>, Header, description = "JSON {task_id, cwd} of the caller's task"),
        ("Idempotency-Key" = Option<String>, Header, description = "the same key and body get the same answer, once done"),
    ),
    request_body = EditFile,
    responses(
        (status = 200, description = "What was written.", body = WrittenFile),
        (status = "4XX", description = "The request is not valid; nothing was written.", body = aion_service::Problem, content_type = "application/problem+json"),
        (status = "5XX", description = "The service cannot do it now.", body = aion_service::Problem, content_type = "application/problem+json"),
    )
)]
pub(crate) async fn edit_file(
    State(context): Shared,
    task: TaskState,
    key: IdempotencyKey,
    Json(body): Json<EditFile>,
) -> Answer<WrittenFile> {
    let work = context.workspace(&task).await?;
    let (mut claim, expected) = match context.claim(&key, "edit_file", &task, &body)? {
        Keyed::Answered(answer) => return Ok(Json(answer)),
        Keyed::Run(claim, expected) => (claim, expected),
        Keyed::Unknown => (None, None),
    };
    if let Some(done) = already_done(&*work, expected).await? {
        return settle(claim, Ok(done)).await.map(Json);
    }
    let occurrences = if body.every {
        Occurrences::Every
    } else {
        Occurrences::One
    };
    let edits = [Edit::new(body.old, body.new).with_occurrences(occurrences)];
    if claim.is_some() {
        let max_bytes = context.max_file_bytes;
        let old = current(&*work, &body.path, max_bytes).await;
        let (path, edits) = (body.path.clone(), edits.clone());
        match blocking(move || planned(&path, old, &edits, max_bytes)).await? {
            Ok(expected) => begin_change(&mut claim, &expected).await?,
            Err(error) => {
                let refused = Err(from_error(&error, "path"));
                return settle(claim, refused).await.map(Json);
            }
        }
    }
    let mut request = EditRequest::new(edits);
    request.if_match = body.if_match;
    let done = work.edit(&body.path, request).await;
    settle(claim, answered(&body.path, done)).await.map(Json)
}

fn answered(path: &RelPath, done: Result<WriteOutput, Error>) -> Result<WrittenFile, Problem> {
    done.map(|output| WrittenFile::from_output(path, output))
        .map_err(|e| from_error(&e, "path"))
}

/// What an edit will be answered with.
fn planned(
    path: &RelPath,
    old: Result<Option<Vec<u8>>, Error>,
    edits: &[Edit],
    max_bytes: usize,
) -> Result<WrittenFile, Error> {
    let old = old?.ok_or_else(|| Error::NotFound { path: path.clone() })?;
    let text = std::str::from_utf8(&old).map_err(|_| Error::NotText { path: path.clone() })?;
    let new = apply_edits(path, text, edits, max_bytes as u64)?;
    Ok(WrittenFile::expected(path, Some(&old), new.as_bytes()))
}

/// The content that a file has now, if it is there.
async fn current(work: &dyn Workspace, path: &RelPath, max_bytes: usize) -> Result<Option<Vec<u8>>, Error> {
    match work
        .read(path, ReadOptions::default().with_max_bytes(max_bytes))
        .await
    {
        Ok(read) => Ok(Some(read.bytes)),
        Err(Error::NotFound { .. }) => Ok(None),
        Err(error) => Err(error),
    }
}

/// Whether a change that was begun before a restart had happened: then the file is what it made of it.
async fn already_done(
    work: &dyn Workspace,
    expected: Option<WrittenFile>,
) -> Result<Option<WrittenFile>, Problem> {
    let Some(expected) = expected else { return Ok(None) };
    match work.read(&expected.path, ReadOptions::default()).await {
        Ok(read) => Ok((read.etag.as_ref() == Some(&expected.etag)).then_some(expected)),
        Err(Error::NotFound { .. }) => Ok(None),
        Err(error) => Err(from_error(&error, "path")),
    }
}

async fn begin_change(claim: &mut Option<Claim>, expected: &WrittenFile) -> Result<(), Problem> {
    let expected = serde_json::to_value(expected).map_err(Problem::internal)?;
    begin(claim, Some(expected)).await
}
