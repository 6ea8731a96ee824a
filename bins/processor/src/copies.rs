//! Trees as lines of JSON: out of this store, and into it.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use aion_processor::{Error, Piece, Processor};
use aion_service::{Json, Path, Problem, Query};
use aion_types::{MessageRecord, TaskId};
use axum::body::{Body, BodyDataStream};
use axum::extract::State;
use axum::response::{IntoResponse, Response};
use futures::stream::{self, Stream, StreamExt, TryStreamExt};
use http::{HeaderMap, StatusCode, header};
use http_body_util::LengthLimitError;

use crate::problem::{at_line, in_query};
use crate::wire::{ImportInto, Imported};

/// The media type of an export.
pub(crate) const LINES: &str = "application/x-ndjson";
/// What an import may call its lines.
const TYPES: [&str; 3] = [LINES, "application/jsonl", "application/octet-stream"];
/// Bytes of an import in one request.
pub(crate) const IMPORT_BYTES: usize = 256 << 20;
/// Bytes of one line of an import.
const LINE_BYTES: usize = 16 << 20;
/// Bytes of messages after which an export begins another line.
const MESSAGES_BYTES: usize = 1 << 20;

/// Streams a task and everything below it as lines of JSON, parents first, each task with its messages and steps. A
/// stream that breaks off is not the whole tree.
#[utoipa::path(
    get,
    path = "/v1/tasks/{task_id}/export",
    operation_id = "export_tree",
    tag = "trees",
    params(("task_id" = String, Path, description = "The top", format = "uuid")),
    responses(
        (status = 200, description = "Lines `{\"task\": ..}`, `{\"messages\": [..]}` and `{\"steps\": [..]}`", body = String, content_type = "application/x-ndjson"),
        (status = 404, description = "There is no such task", body = Problem, content_type = "application/problem+json"),
    ),
)]
pub(crate) async fn export_tree(
    State(processor): State<Processor>,
    Path(task_id): Path<TaskId>,
) -> Result<Response, Problem> {
    let mut pieces = processor.export(task_id).boxed();
    // Nothing is promised before it is known that the task is there.
    let first = pieces.next().await.transpose().map_err(in_query)?;
    let pieces = stream::iter(first.map(Ok)).chain(pieces);
    let body = Body::from_stream(pieces.and_then(async |piece| lines_of(piece)));
    Ok(([(header::CONTENT_TYPE, LINES)], body).into_response())
}

/// The lines of a piece, each with its end.
pub(crate) fn lines_of(piece: Piece) -> Result<Vec<u8>, Error> {
    let mut lines = Vec::new();
    match piece {
        Piece::Messages(messages) => {
            for part in parts(messages) {
                line(&Piece::Messages(part), &mut lines)?;
            }
        }
        task => line(&task, &mut lines)?,
    }
    Ok(lines)
}

fn line(piece: &Piece, lines: &mut Vec<u8>) -> Result<(), Error> {
    serde_json::to_writer(&mut *lines, piece).map_err(|error| Error::Corrupt(error.to_string()))?;
    lines.push(b'\n');
    Ok(())
}

/// Runs of messages that are each about as large as a line should be.
fn parts(messages: Vec<MessageRecord>) -> Vec<Vec<MessageRecord>> {
    let (mut parts, mut bytes) = (vec![Vec::new()], 0);
    for message in messages {
        let size = message.content.len() + 1_024;
        if bytes + size > MESSAGES_BYTES && bytes > 0 {
            parts.push(Vec::new());
            bytes = 0;
        }
        bytes += size;
        if let Some(part) = parts.last_mut() {
            part.push(message);
        }
    }
    parts
}

/// Takes over what `export_tree` of this or another server gave, with the same ids. Tasks that ran or waited over there
/// are ready here; stop their old holders first. An import that was cut off is simply repeated. A tree that is larger
/// than one request may be comes in parts: each names, as `under`, the parent of its first task.
#[utoipa::path(
    post,
    path = "/v1/import",
    operation_id = "import_tree",
    tag = "trees",
    params(ImportInto),
    request_body(
        content((String = "application/x-ndjson"), (String = "application/octet-stream")),
        description = "The lines of an export",
    ),
    responses(
        (status = 200, description = "How many tasks it named", body = Imported),
        (status = 400, description = "A line is not JSON", body = Problem, content_type = "application/problem+json"),
        (status = 404, description = "There is no such task to come below", body = Problem, content_type = "application/problem+json"),
        (status = 409, description = "An id or a key belongs to another task, or the task was made or claimed here; what came before that line is there", body = Problem, content_type = "application/problem+json"),
        (status = 413, description = "The body, a line or a text is too large", body = Problem, content_type = "application/problem+json"),
        (status = 415, description = "The body is of another type", body = Problem, content_type = "application/problem+json"),
        (status = 422, description = "A line is no piece of an export", body = Problem, content_type = "application/problem+json"),
        (status = 507, description = "The storage is full", body = Problem, content_type = "application/problem+json"),
    ),
)]
pub(crate) async fn import_tree(
    State(processor): State<Processor>,
    Query(into): Query<ImportInto>,
    headers: HeaderMap,
    body: Body,
) -> Result<Json<Imported>, Problem> {
    require_lines(&headers)?;
    let line = Arc::new(AtomicU64::new(0));
    let pieces = Lines::new(body, Arc::clone(&line)).pieces();
    let tasks = processor
        .import(pieces, into.under)
        .await
        .map_err(|error| at_line(&error, line.load(Ordering::Relaxed)))?;
    Ok(Json(Imported { tasks }))
}

fn require_lines(headers: &HeaderMap) -> Result<(), Problem> {
    let given = headers
        .get(header::CONTENT_TYPE)
        .and_then(|value| value.to_str().ok());
    let essence = given
        .and_then(|value| value.split(';').next())
        .unwrap_or_default()
        .trim();
    if TYPES.iter().any(|known| essence.eq_ignore_ascii_case(known)) {
        return Ok(());
    }
    let detail = format!("this operation takes {LINES}, not {}", given.unwrap_or("none"));
    Err(Problem::new(
        StatusCode::UNSUPPORTED_MEDIA_TYPE,
        "unsupported_media_type",
        detail,
    ))
}

/// A body, line by line; no more than one line and what the network gave with it is in memory.
struct Lines {
    body: BodyDataStream,
    rest: Vec<u8>,
    /// Bytes of `rest` in which there is no end of a line.
    looked: usize,
    ended: bool,
    /// The line that was read last, from 1.
    line: Arc<AtomicU64>,
}

impl Lines {
    fn new(body: Body, line: Arc<AtomicU64>) -> Self {
        Self {
            body: body.into_data_stream(),
            rest: Vec::new(),
            looked: 0,
            ended: false,
            line,
        }
    }

    fn pieces(self) -> impl Stream<Item = Result<Piece, Error>> + Send {
        stream::try_unfold(self, |mut lines| async move {
            let piece = lines.piece().await?;
            Ok(piece.map(|piece| (piece, lines)))
        })
    }

    /// The next piece; empty lines are passed over.
    async fn piece(&mut self) -> Result<Option<Piece>, Error> {
        while let Some(text) = self.text().await? {
            self.line.fetch_add(1, Ordering::Relaxed);
            if !text.trim_ascii().is_empty() {
                return serde_json::from_slice(&text)
                    .map(Some)
                    .map_err(|error| Error::Invalid {
                        what: if error.is_data() { "piece" } else { "json" },
                        why: error.to_string(),
                    });
            }
        }
        Ok(None)
    }

    async fn text(&mut self) -> Result<Option<Vec<u8>>, Error> {
        loop {
            if let Some(end) = self.rest[self.looked..].iter().position(|byte| *byte == b'\n') {
                let tail = self.rest.split_off(self.looked + end + 1);
                self.looked = 0;
                return Ok(Some(std::mem::replace(&mut self.rest, tail)));
            }
            self.looked = self.rest.len();
            if self.looked > LINE_BYTES {
                return Err(too_large("line", LINE_BYTES, self.looked));
            }
            match self.body.next().await {
                Some(chunk) => self
                    .rest
                    .extend_from_slice(&chunk.map_err(|error| unread(&error))?),
                None if self.ended || self.rest.is_empty() => return Ok(None),
                None => {
                    self.ended = true;
                    self.looked = 0;
                    return Ok(Some(std::mem::take(&mut self.rest)));
                }
            }
        }
    }
}

fn too_large(what: &'static str, limit: usize, got: usize) -> Error {
    Error::Limit {
        what,
        limit: limit as u64,
        got: got as u64,
    }
}

/// The body is larger than it may be, or its sender went away.
fn unread(error: &axum::Error) -> Error {
    let mut cause: Option<&(dyn std::error::Error + 'static)> = Some(error);
    while let Some(error) = cause {
        if error.is::<LengthLimitError>() {
            return too_large("import", IMPORT_BYTES, IMPORT_BYTES + 1);
        }
        cause = error.source();
    }
    Error::Invalid {
        what: "import",
        why: error.to_string(),
    }
}
