//! What goes over HTTP between a `RemoteMachine` (feature `client`) and a server.
//!
//! An operation is `POST /v1/workspace/{operation}` with one of the structs below as its body; what is not
//! answered by one of them is answered by the type that the [`Workspace`](crate::Workspace) returns. A refusal
//! is a problem document (RFC 9457) whose member `error` has what its `code` does not say.
//!
//! ```
//! use aion_machine::wire::{Content, Read};
//! let read: Read = serde_json::from_str(r#"{"path": "notes.txt", "range": {"lines": {"first": 2, "count": 5}}}"#)?;
//! assert_eq!(read.path.as_str(), "notes.txt");
//! assert_eq!(serde_json::to_string(&Content::of(b"milk"))?, r#"{"text":"milk"}"#);
//! assert_eq!(serde_json::to_string(&Content::of(b"\xFF"))?, r#"{"base64":"/w=="}"#);
//! # Ok::<(), serde_json::Error>(())
//! ```

mod errors;
mod executions;

use std::time::Duration;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde::{Deserialize, Serialize};

pub use self::errors::{error_members, error_of};
pub use self::executions::{Ended, Ends, Omitted, Start, Started, Wrote};

use crate::{
    Capabilities, Case, Durability, Edit, EditRequest, Encoding, Error, Etag, GlobRequest, GrepRequest,
    IgnoreRules, Parents, ReadOptions, ReadOutput, ReadRange, RelPath, RemoveMode, RenameMode, Result,
    SnapshotId, WalkLimits, WriteMode, WriteRequest,
};

/// The header with the key of an operator, who may see what all tasks do.
pub const OPERATOR_KEY_HEADER: &str = "x-operator-key";

/// What a request may ask for at most: bytes, entries, hits, lines of context, time.
const MAX_BYTES: usize = 16 << 20;
const MAX_ENTRIES: usize = 1_000_000;
const MAX_HITS: usize = 100_000;
const MAX_CONTEXT_LINES: usize = 100;
const MAX_WALK_MS: u64 = 60_000;
const MAX_DEPTH: usize = 256;

/// Bytes as text where they are UTF-8, and in base64 where not.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
#[cfg_attr(feature = "schema", derive(utoipa::ToSchema))]
pub enum Content {
    /// The text.
    Text(String),
    /// The bytes in base64, with padding.
    Base64(String),
}

impl Default for Content {
    fn default() -> Self {
        Self::Text(String::new())
    }
}

impl Content {
    /// The shorter form that says it.
    pub fn of(bytes: &[u8]) -> Self {
        match std::str::from_utf8(bytes) {
            Ok(text) => Self::Text(text.to_owned()),
            Err(_) => Self::Base64(STANDARD.encode(bytes)),
        }
    }

    /// The bytes.
    ///
    /// # Errors
    /// [`Error::Invalid`] if it is not base64.
    pub fn into_bytes(self) -> Result<Vec<u8>> {
        match self {
            Self::Text(text) => Ok(text.into_bytes()),
            Self::Base64(text) => STANDARD
                .decode(text)
                .map_err(|e| Error::invalid(format!("a content is not base64: {e}"))),
        }
    }
}

/// What a machine is.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(utoipa::ToSchema))]
pub struct About {
    /// A name for logs.
    pub id: String,
    /// What it can do.
    pub capabilities: Capabilities,
}

/// A path: of `stat` and `mkdir`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
#[cfg_attr(feature = "schema", derive(utoipa::ToSchema))]
pub struct At {
    /// Where.
    pub path: RelPath,
}

/// Done, and there is nothing to say.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(utoipa::ToSchema))]
pub struct Nothing {}

/// `read`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
#[cfg_attr(feature = "schema", derive(utoipa::ToSchema))]
pub struct Read {
    /// Which file.
    pub path: RelPath,
    /// Which part of it.
    #[serde(default)]
    pub range: ReadRange,
    /// At most so many bytes come back.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub max_bytes: Option<usize>,
}

impl Read {
    /// As the trait has it.
    pub fn options(&self) -> ReadOptions {
        let options = ReadOptions::default().with_range(self.range);
        match self.max_bytes {
            Some(max_bytes) => options.with_max_bytes(max_bytes.min(MAX_BYTES)),
            None => options,
        }
    }
}

/// The answer to `read`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(utoipa::ToSchema))]
pub struct ReadAnswer {
    /// The part.
    pub content: Content,
    /// What its bytes are as text.
    pub encoding: Encoding,
    /// Size of the whole file in bytes.
    pub size_bytes: u64,
    /// Whether there is more of the file.
    pub truncated: bool,
    /// The name of the whole content.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub etag: Option<Etag>,
}

impl From<ReadOutput> for ReadAnswer {
    fn from(read: ReadOutput) -> Self {
        Self {
            content: Content::of(&read.bytes),
            encoding: read.encoding,
            size_bytes: read.size_bytes,
            truncated: read.truncated,
            etag: read.etag,
        }
    }
}

impl ReadAnswer {
    /// As the trait has it.
    ///
    /// # Errors
    /// If the content is not base64.
    pub fn into_output(self) -> Result<ReadOutput> {
        Ok(ReadOutput {
            bytes: self.content.into_bytes()?,
            encoding: self.encoding,
            size_bytes: self.size_bytes,
            truncated: self.truncated,
            etag: self.etag,
        })
    }
}

/// `write`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
#[cfg_attr(feature = "schema", derive(utoipa::ToSchema))]
pub struct Write {
    /// Which file.
    pub path: RelPath,
    /// Its whole new content.
    pub content: Content,
    /// May it replace something?
    #[serde(default)]
    pub mode: WriteMode,
    /// Only write over a content of this etag.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub if_match: Option<Etag>,
    /// What to do about missing directories.
    #[serde(default)]
    pub parents: Parents,
    /// What the write survives; the machine's choice if absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub durability: Option<Durability>,
}

impl Write {
    /// As it is sent.
    pub fn new(path: RelPath, request: WriteRequest) -> Self {
        Self {
            path,
            content: Content::of(&request.content),
            mode: request.mode,
            if_match: request.if_match,
            parents: request.parents,
            durability: request.durability,
        }
    }

    /// As the trait has it.
    ///
    /// # Errors
    /// If the content is not base64.
    pub fn into_request(self) -> Result<(RelPath, WriteRequest)> {
        let request = WriteRequest {
            content: self.content.into_bytes()?,
            mode: self.mode,
            if_match: self.if_match,
            parents: self.parents,
            durability: self.durability,
        };
        Ok((self.path, request))
    }
}

/// `edit`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
#[cfg_attr(feature = "schema", derive(utoipa::ToSchema))]
pub struct Edits {
    /// Which file.
    pub path: RelPath,
    /// The replacements, all or none of which happen.
    pub edits: Vec<Edit>,
    /// Only make them in a content of this etag.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub if_match: Option<Etag>,
    /// What the write survives; the machine's choice if absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub durability: Option<Durability>,
}

impl Edits {
    /// As the trait has it.
    pub fn into_request(self) -> (RelPath, EditRequest) {
        let mut request = EditRequest::new(self.edits);
        (request.if_match, request.durability) = (self.if_match, self.durability);
        (self.path, request)
    }
}

/// `patch`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
#[cfg_attr(feature = "schema", derive(utoipa::ToSchema))]
pub struct Patch {
    /// Which file.
    pub path: RelPath,
    /// A unified diff of it.
    pub patch: String,
    /// Only apply it to a content of this etag.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub if_match: Option<Etag>,
    /// What the write survives; the machine's choice if absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub durability: Option<Durability>,
}

/// `list`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
#[cfg_attr(feature = "schema", derive(utoipa::ToSchema))]
pub struct List {
    /// Which directory.
    #[serde(default = "RelPath::root")]
    pub path: RelPath,
    /// At most so many entries come back.
    #[serde(default = "default_entries")]
    pub max_entries: usize,
}

fn default_entries() -> usize {
    1000
}

impl List {
    /// How many entries may come back.
    pub fn limit(&self) -> usize {
        self.max_entries.min(MAX_HITS)
    }
}

/// `remove`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
#[cfg_attr(feature = "schema", derive(utoipa::ToSchema))]
pub struct Remove {
    /// What.
    pub path: RelPath,
    /// Whether a directory goes with all that is in it.
    #[serde(default)]
    pub mode: RemoveMode,
}

/// `move`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
#[cfg_attr(feature = "schema", derive(utoipa::ToSchema))]
pub struct Move {
    /// Its name now.
    pub from: RelPath,
    /// Its name then.
    pub to: RelPath,
    /// Whether something at the new name is replaced.
    #[serde(default)]
    pub mode: RenameMode,
}

/// Where a walk stops.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
#[cfg_attr(feature = "schema", derive(utoipa::ToSchema))]
pub struct Walk {
    /// How many entries are looked at.
    pub max_entries: usize,
    /// How long it may take, in milliseconds.
    pub time_ms: u64,
    /// How deep directories are entered.
    pub max_depth: usize,
}

impl Default for Walk {
    fn default() -> Self {
        WalkLimits::default().into()
    }
}

impl From<WalkLimits> for Walk {
    fn from(limits: WalkLimits) -> Self {
        Self {
            max_entries: limits.max_entries,
            time_ms: u64::try_from(limits.time.as_millis()).unwrap_or(u64::MAX),
            max_depth: limits.max_depth,
        }
    }
}

impl From<Walk> for WalkLimits {
    fn from(walk: Walk) -> Self {
        Self {
            max_entries: walk.max_entries.min(MAX_ENTRIES),
            time: Duration::from_millis(walk.time_ms.min(MAX_WALK_MS)),
            max_depth: walk.max_depth.min(MAX_DEPTH),
        }
    }
}

/// `glob`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
#[cfg_attr(feature = "schema", derive(utoipa::ToSchema))]
pub struct FindNames {
    /// The pattern.
    pub pattern: String,
    /// The directory to search below.
    #[serde(default = "RelPath::root")]
    pub path: RelPath,
    /// At most so many matches come back.
    #[serde(default = "default_entries")]
    pub max_hits: usize,
    /// Are ignore files honoured?
    #[serde(default)]
    pub ignore: IgnoreRules,
    /// Where the walk stops.
    #[serde(default)]
    pub limits: Walk,
}

impl From<GlobRequest> for FindNames {
    fn from(request: GlobRequest) -> Self {
        Self {
            pattern: request.pattern,
            path: request.path,
            max_hits: request.max_hits,
            ignore: request.ignore,
            limits: request.limits.into(),
        }
    }
}

impl From<FindNames> for GlobRequest {
    fn from(find: FindNames) -> Self {
        Self::new(find.pattern)
            .with_path(find.path)
            .with_max_hits(find.max_hits.min(MAX_HITS))
            .with_ignore(find.ignore)
            .with_limits(find.limits.into())
    }
}

/// `grep`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
#[cfg_attr(feature = "schema", derive(utoipa::ToSchema))]
pub struct FindLines {
    /// The regular expression.
    pub pattern: String,
    /// The directory to search below, or one file.
    #[serde(default = "RelPath::root")]
    pub path: RelPath,
    /// Only files whose path matches.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub glob: Option<String>,
    /// How letters are compared.
    #[serde(default)]
    pub case: Case,
    /// How many lines around a match come back.
    #[serde(default)]
    pub context_lines: usize,
    /// At most so many matching lines come back.
    #[serde(default = "default_entries")]
    pub max_hits: usize,
    /// Longer lines are cut; the machine's choice if absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub max_line_bytes: Option<usize>,
    /// Larger files are not searched; the machine's choice if absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub max_file_bytes: Option<u64>,
    /// Are ignore files honoured?
    #[serde(default)]
    pub ignore: IgnoreRules,
    /// Where the walk stops.
    #[serde(default)]
    pub limits: Walk,
}

impl From<GrepRequest> for FindLines {
    fn from(request: GrepRequest) -> Self {
        Self {
            pattern: request.pattern,
            path: request.path,
            glob: request.glob,
            case: request.case,
            context_lines: request.context_lines,
            max_hits: request.max_hits,
            max_line_bytes: Some(request.max_line_bytes),
            max_file_bytes: Some(request.max_file_bytes),
            ignore: request.ignore,
            limits: request.limits.into(),
        }
    }
}

impl From<FindLines> for GrepRequest {
    fn from(find: FindLines) -> Self {
        let mut request = Self::new(find.pattern)
            .with_path(find.path)
            .with_case(find.case)
            .with_context_lines(find.context_lines.min(MAX_CONTEXT_LINES))
            .with_max_hits(find.max_hits.min(MAX_HITS))
            .with_ignore(find.ignore)
            .with_limits(find.limits.into());
        request.glob = find.glob;
        if let Some(bytes) = find.max_line_bytes {
            request.max_line_bytes = bytes.min(MAX_BYTES);
        }
        if let Some(bytes) = find.max_file_bytes {
            request.max_file_bytes = bytes;
        }
        request
    }
}

/// The answer to `snapshot`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(utoipa::ToSchema))]
pub struct Snapshot {
    /// Its number, of this workspace and this process of the server.
    pub snapshot: SnapshotId,
}

/// `diff`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
#[cfg_attr(feature = "schema", derive(utoipa::ToSchema))]
pub struct Compare {
    /// The snapshot before.
    pub from: SnapshotId,
    /// The snapshot after.
    pub to: SnapshotId,
}
