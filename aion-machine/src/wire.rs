//! What goes over HTTP between [`RemoteMachine`](crate::RemoteMachine) (feature `client`) and a server.
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

use std::collections::BTreeMap;
use std::time::Duration;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

use crate::{
    Capabilities, Captured, Case, Durability, Edit, Encoding, Ending, Enforcement, Error, Etag, ExecLimits,
    ExecOutput, ExecRequest, GlobRequest, GrepRequest, IgnoreRules, NetworkDecision, NetworkRequest, Parents,
    ReadOptions, ReadOutput, ReadRange, RelPath, RemoveMode, RenameMode, Result, SnapshotId, Tier,
    WalkLimits, WriteMode, WriteRequest,
};

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

/// `POST /v1/executions`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
#[cfg_attr(feature = "schema", derive(utoipa::ToSchema))]
pub struct Start {
    /// The program and its arguments.
    pub argv: Vec<String>,
    /// The directory to start in, from the workspace root.
    #[serde(default = "RelPath::root")]
    pub cwd: RelPath,
    /// Variables to set.
    #[serde(default)]
    pub env: BTreeMap<String, String>,
    /// What the program reads on its standard input.
    #[serde(default)]
    pub stdin: Content,
    /// What it may use.
    #[serde(default)]
    pub limits: ExecLimits,
    /// How much of what it wrote last is kept for those who follow it; the server's choice if absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub replay_bytes: Option<usize>,
    /// What it wants of the network that the operator allows.
    #[serde(default)]
    pub network: NetworkRequest,
}

impl From<ExecRequest> for Start {
    fn from(request: ExecRequest) -> Self {
        Self {
            argv: request.argv,
            cwd: request.cwd,
            env: request.env,
            stdin: Content::of(&request.stdin),
            limits: request.limits,
            replay_bytes: Some(request.replay_bytes),
            network: request.network,
        }
    }
}

impl Start {
    /// As the trait has it.
    ///
    /// # Errors
    /// If the input is not base64.
    pub fn into_request(self) -> Result<ExecRequest> {
        let request = ExecRequest::new(self.argv)
            .with_cwd(self.cwd)
            .with_stdin(self.stdin.into_bytes()?)
            .with_limits(self.limits)
            .with_network(self.network);
        let request = match self.replay_bytes {
            Some(bytes) => request.with_replay_bytes(bytes),
            None => request,
        };
        let env = self.env.into_iter();
        Ok(env.fold(request, |request, (name, value)| request.with_env(name, value)))
    }
}

/// The answer to `POST /v1/executions`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(utoipa::ToSchema))]
pub struct Started {
    /// By which it is followed and killed.
    pub id: String,
}

/// An event `stdout` or `stderr` of a stream.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(utoipa::ToSchema))]
pub struct Wrote {
    /// How many bytes of that stream came before.
    pub offset: u64,
    /// What.
    #[serde(flatten)]
    pub content: Content,
}

/// An event `omitted` of a stream: these bytes cannot be had any more.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(utoipa::ToSchema))]
pub struct Omitted {
    /// Where to they were written.
    pub stream: crate::OutputStream,
    /// How many bytes of that stream came before.
    pub offset: u64,
    /// How many are missing.
    pub bytes: u64,
}

/// The ends of an output.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(utoipa::ToSchema))]
pub struct Ends {
    /// The first bytes.
    pub head: Content,
    /// The last bytes, as far as they are not in `head`.
    #[serde(default)]
    pub tail: Content,
    /// How many bytes there were in all.
    pub total_bytes: u64,
}

impl From<&Captured> for Ends {
    fn from(captured: &Captured) -> Self {
        Self {
            head: Content::of(&captured.head),
            tail: Content::of(&captured.tail),
            total_bytes: captured.total_bytes,
        }
    }
}

impl Ends {
    fn into_captured(self) -> Result<Captured> {
        let (head, tail) = (self.head.into_bytes()?, self.tail.into_bytes()?);
        if ((head.len() + tail.len()) as u64) > self.total_bytes {
            return Err(Error::invalid("an output has less bytes than its ends"));
        }
        Ok(Captured {
            head,
            tail,
            total_bytes: self.total_bytes,
        })
    }
}

/// How a program ended.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(utoipa::ToSchema))]
pub struct Ended {
    /// The exit code, unless a signal ended it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub exit_code: Option<i32>,
    /// The signal that ended it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub signal: Option<i32>,
    /// Who or what ended it.
    pub ending: Ending,
    /// How long it took, in milliseconds.
    pub duration_ms: u64,
    /// Standard output.
    pub stdout: Ends,
    /// Standard error.
    pub stderr: Ends,
    /// The tier that held.
    pub tier: Tier,
    /// What held it in.
    pub enforcement: Enforcement,
    /// What it asked of the network.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub network: Vec<NetworkDecision>,
}

impl From<&ExecOutput> for Ended {
    fn from(output: &ExecOutput) -> Self {
        Self {
            exit_code: output.exit_code,
            signal: output.signal,
            ending: output.ending,
            duration_ms: output.duration_ms,
            stdout: (&output.stdout).into(),
            stderr: (&output.stderr).into(),
            tier: output.enforcement.tier(),
            enforcement: output.enforcement.clone(),
            network: output.network.clone(),
        }
    }
}

impl Ended {
    /// As the trait has it.
    ///
    /// # Errors
    /// If an output is not as it can be.
    pub fn into_output(self) -> Result<ExecOutput> {
        Ok(ExecOutput {
            exit_code: self.exit_code,
            signal: self.signal,
            ending: self.ending,
            stdout: self.stdout.into_captured()?,
            stderr: self.stderr.into_captured()?,
            duration_ms: self.duration_ms,
            enforcement: self.enforcement,
            network: self.network,
        })
    }
}

/// The member `error` of a problem document: what its code does not say.
pub fn error_members(error: &Error) -> Value {
    match error {
        Error::Escapes { path }
        | Error::NotFound { path }
        | Error::Exists { path }
        | Error::Denied { path }
        | Error::NotText { path }
        | Error::NoSpace { path } => json!({"path": path}),
        Error::WrongKind { path, found, needed } => json!({"path": path, "found": found, "needed": needed}),
        Error::TooLarge {
            path,
            size_bytes,
            limit_bytes,
        } => {
            json!({"path": path, "size_bytes": size_bytes, "limit_bytes": limit_bytes})
        }
        Error::Conflict {
            path,
            expected,
            found,
        } => json!({"path": path, "expected": expected, "found": found}),
        Error::EditNotFound { path, index } | Error::EditAmbiguous { path, index } => {
            json!({"path": path, "index": index})
        }
        Error::PatchInvalid { line, reason } => json!({"line": line, "reason": reason}),
        Error::PatchRejected { path, hunk, reason } => json!({"path": path, "hunk": hunk, "reason": reason}),
        Error::HardLinked { path, links } => json!({"path": path, "links": links}),
        Error::Pattern { pattern, reason } => json!({"pattern": pattern, "reason": reason}),
        Error::Invalid { reason } | Error::Supervisor { reason } => json!({"reason": reason}),
        Error::Program { program, reason } => json!({"program": program, "reason": reason}),
        Error::EnvDenied { name } => json!({"name": name}),
        Error::ConfinementUnavailable { gaps } => json!({"gaps": gaps}),
        Error::Busy { limit } => json!({"limit": limit}),
        Error::TooManyWatches { what, limit } => json!({"what": what, "limit": limit}),
        Error::UnknownSnapshot { id } => json!({"id": id}),
        Error::Unsupported { what } => json!({"what": what}),
        _ => json!({}),
    }
}

/// The error of a code and the members above; [`Error::Refused`] where they say nothing that is known here.
pub fn error_of(code: &str, members: &Value, detail: &str) -> Error {
    known(code, members).unwrap_or_else(|| Error::Refused {
        code: code.to_owned(),
        detail: detail.to_owned(),
    })
}

fn known(code: &str, members: &Value) -> Option<Error> {
    let text = |name: &str| Some(members.get(name)?.as_str()?.to_owned());
    let number = |name: &str| members.get(name)?.as_u64();
    let size = |name: &str| usize::try_from(number(name)?).ok();
    let path = || RelPath::parse(members.get("path")?.as_str()?).ok();
    let list = |name: &str| serde_json::from_value(members.get(name)?.clone()).ok();
    let word = |name: &str| Some(word(members.get(name)?.as_str()?));
    Some(match code {
        "path_escapes" => Error::Escapes { path: path()? },
        "not_found" => Error::NotFound { path: path()? },
        "already_exists" => Error::Exists { path: path()? },
        "wrong_kind" => Error::WrongKind {
            path: path()?,
            found: word("found")?,
            needed: word("needed")?,
        },
        "access_denied" => Error::Denied { path: path()? },
        "too_large" => Error::TooLarge {
            path: path()?,
            size_bytes: number("size_bytes")?,
            limit_bytes: number("limit_bytes")?,
        },
        "not_text" => Error::NotText { path: path()? },
        "conflict" => Error::Conflict {
            path: path()?,
            expected: text("expected")?,
            found: text("found")?,
        },
        "edit_not_found" => Error::EditNotFound {
            path: path()?,
            index: size("index")?,
        },
        "edit_ambiguous" => Error::EditAmbiguous {
            path: path()?,
            index: size("index")?,
        },
        "invalid_patch" => Error::PatchInvalid {
            line: size("line")?,
            reason: text("reason")?,
        },
        "patch_rejected" => Error::PatchRejected {
            path: path()?,
            hunk: size("hunk")?,
            reason: text("reason")?,
        },
        "hard_linked" => Error::HardLinked {
            path: path()?,
            links: number("links")?,
        },
        "no_space" => Error::NoSpace { path: path()? },
        "invalid_pattern" => Error::Pattern {
            pattern: text("pattern")?,
            reason: text("reason")?,
        },
        "invalid_request" => Error::Invalid {
            reason: text("reason")?,
        },
        "program_not_found" => Error::Program {
            program: text("program")?,
            reason: text("reason")?,
        },
        "env_denied" => Error::EnvDenied { name: text("name")? },
        "confinement_unavailable" => Error::ConfinementUnavailable { gaps: list("gaps")? },
        "no_supervisor" => Error::NoSupervisor,
        "supervisor_failed" => Error::Supervisor {
            reason: text("reason")?,
        },
        "busy" | "task_busy" => Error::Busy {
            limit: size("limit")?,
        },
        "too_many_watches" => Error::TooManyWatches {
            what: word("what")?,
            limit: size("limit")?,
        },
        "unknown_snapshot" => Error::UnknownSnapshot { id: number("id")? },
        "unsupported" => Error::Unsupported { what: word("what")? },
        "audit_no_space" => Error::Audit(std::io::ErrorKind::StorageFull.into()),
        "audit_unavailable" => Error::Audit(std::io::Error::other("of the remote machine")),
        _ => return None,
    })
}

/// The words that errors use, since they are not kept as text.
const WORDS: [&str; 16] = [
    "file",
    "directory",
    "symbolic link",
    "device, pipe or socket",
    "device or pipe",
    "directory with entries",
    "file or directory",
    "file or empty directory",
    "workspace root",
    "execute programs",
    "watch for changes",
    "take snapshots",
    "watches",
    "directories",
    "watched directories",
    "entries",
];

fn word(text: &str) -> &'static str {
    WORDS
        .into_iter()
        .find(|word| *word == text)
        .unwrap_or("something else")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn errors_come_back_as_they_were() {
        let path = || RelPath::parse("a/b").unwrap();
        let errors = [
            Error::NotFound { path: path() },
            Error::WrongKind {
                path: path(),
                found: "directory",
                needed: "file",
            },
            Error::TooLarge {
                path: path(),
                size_bytes: 9,
                limit_bytes: 8,
            },
            Error::Conflict {
                path: path(),
                expected: "x".into(),
                found: "nothing".into(),
            },
            Error::EditAmbiguous {
                path: path(),
                index: 3,
            },
            Error::PatchRejected {
                path: path(),
                hunk: 2,
                reason: "r".into(),
            },
            Error::Program {
                program: "p".into(),
                reason: "r".into(),
            },
            Error::ConfinementUnavailable {
                gaps: vec!["g".into()],
            },
            Error::Busy { limit: 4 },
            Error::UnknownSnapshot { id: 7 },
            Error::Unsupported {
                what: "execute programs",
            },
            Error::NoSupervisor,
        ];
        for error in errors {
            let back = error_of(error.code(), &error_members(&error), "detail");
            assert_eq!((back.code(), back.to_string()), (error.code(), error.to_string()));
        }
        let foreign = error_of("brand_new", &Value::Null, "it is new");
        assert_eq!(
            foreign.to_string(),
            "the remote machine refused (brand_new): it is new"
        );
        assert_eq!(
            error_of("not_found", &json!({"path": "../x"}), "").code(),
            "refused"
        );
    }

    #[test]
    fn contents_and_captures_are_checked() {
        assert!(Content::Base64("?".into()).into_bytes().is_err());
        assert_eq!(Content::of(b"\xFFa").into_bytes().unwrap(), b"\xFFa");
        let ends = Ends {
            head: Content::of(b"abc"),
            tail: Content::default(),
            total_bytes: 2,
        };
        assert!(ends.into_captured().is_err());
    }
}
