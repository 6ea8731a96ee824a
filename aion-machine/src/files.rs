//! What is asked of files, and what comes back.

use std::fmt;

use serde::{Deserialize, Serialize};

use crate::{Diff, Encoding, RelPath};

/// A name of a content: the first 128 bits of its BLAKE3 hash, in hexadecimal.
///
/// ```
/// use aion_machine::Etag;
/// assert_eq!(Etag::of(b"abc"), Etag::of(b"abc"));
/// assert_ne!(Etag::of(b"abc"), Etag::of(b"abd"));
/// assert_eq!(Etag::of(b"").as_str(), "af1349b9f5f9a1a6a0404dea36dcc949");
/// ```
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(transparent)]
#[cfg_attr(feature = "schema", derive(utoipa::ToSchema))]
#[cfg_attr(feature = "schema", schema(value_type = String))]
pub struct Etag(String);

impl Etag {
    /// The etag of a content.
    pub fn of(content: &[u8]) -> Self {
        Self(blake3::hash(content).to_hex()[..32].to_owned())
    }

    /// An etag that was handed out before. It is only ever compared, so any text is accepted.
    pub fn given(text: impl Into<String>) -> Self {
        Self(text.into())
    }

    /// The text.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for Etag {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl fmt::Debug for Etag {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// Which part of a file to read.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
#[non_exhaustive]
#[cfg_attr(feature = "schema", derive(utoipa::ToSchema))]
pub enum ReadRange {
    /// From the beginning.
    #[default]
    All,
    /// Bytes `offset .. offset + len`.
    Bytes {
        /// Where to begin, from 0.
        offset: u64,
        /// How many at most.
        len: u64,
    },
    /// Lines `first .. first + count`.
    Lines {
        /// The first line, from 1.
        first: u64,
        /// How many at most.
        count: u64,
    },
}

/// Whether a read says the etag of the whole content, for which all of it must be read and hashed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Naming {
    /// It does, up to the size limit of the machine.
    #[default]
    Etag,
    /// It need not.
    Unnamed,
}

/// How to read a file.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[non_exhaustive]
pub struct ReadOptions {
    /// Which part.
    pub range: ReadRange,
    /// At most so many bytes come back; more is cut off and said.
    pub max_bytes: usize,
    /// Is the etag of the whole content wanted?
    pub naming: Naming,
}

impl Default for ReadOptions {
    fn default() -> Self {
        Self {
            range: ReadRange::All,
            max_bytes: 256 * 1024,
            naming: Naming::Etag,
        }
    }
}

impl ReadOptions {
    /// Reads this part only.
    #[must_use]
    pub fn with_range(mut self, range: ReadRange) -> Self {
        self.range = range;
        self
    }

    /// Returns at most this many bytes.
    #[must_use]
    pub fn with_max_bytes(mut self, max_bytes: usize) -> Self {
        self.max_bytes = max_bytes;
        self
    }

    /// Chooses whether the etag is said.
    #[must_use]
    pub fn with_naming(mut self, naming: Naming) -> Self {
        self.naming = naming;
        self
    }
}

/// A part of a file.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct ReadOutput {
    /// The bytes of the part, at most `max_bytes`.
    pub bytes: Vec<u8>,
    /// What they are as text.
    pub encoding: Encoding,
    /// Size of the whole file in bytes.
    pub size_bytes: u64,
    /// Whether there is more of the file than what came back.
    pub truncated: bool,
    /// The name of the whole content; absent where it was not asked for, and for files
    /// above the size limit of the machine.
    pub etag: Option<Etag>,
}

impl ReadOutput {
    /// The bytes as text in their encoding, with U+FFFD for what is none.
    pub fn text_lossy(&self) -> String {
        self.encoding.decode(&self.bytes)
    }
}

/// Whether a write may, must, or must not replace something.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
#[non_exhaustive]
#[cfg_attr(feature = "schema", derive(utoipa::ToSchema))]
pub enum WriteMode {
    /// Creates the file, or replaces its content.
    #[default]
    Upsert,
    /// Creates the file; an existing one is an error.
    CreateNew,
}

/// What to do about missing parent directories.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
#[cfg_attr(feature = "schema", derive(utoipa::ToSchema))]
pub enum Parents {
    /// Create them.
    #[default]
    Create,
    /// A missing one is an error.
    Require,
}

/// What a write survives.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
#[non_exhaustive]
#[cfg_attr(feature = "schema", derive(utoipa::ToSchema))]
pub enum Durability {
    /// The end of this process. The host may lose it, but never leaves half of it.
    #[default]
    None,
    /// The content survives a crash of the host, if its name does.
    File,
    /// Content and name survive a crash of the host.
    Full,
}

/// A content to write.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct WriteRequest {
    /// The whole new content.
    pub content: Vec<u8>,
    /// May it replace something?
    pub mode: WriteMode,
    /// Only write if the file now has this etag.
    pub if_match: Option<Etag>,
    /// What to do about missing directories.
    pub parents: Parents,
    /// What the write survives; the machine's choice if absent.
    pub durability: Option<Durability>,
}

impl WriteRequest {
    /// Creates or replaces a file with this content.
    pub fn new(content: impl Into<Vec<u8>>) -> Self {
        Self {
            content: content.into(),
            mode: WriteMode::Upsert,
            if_match: None,
            parents: Parents::Create,
            durability: None,
        }
    }

    /// Chooses whether something may be replaced.
    #[must_use]
    pub fn with_mode(mut self, mode: WriteMode) -> Self {
        self.mode = mode;
        self
    }

    /// Writes only over a content of this etag.
    #[must_use]
    pub fn with_if_match(mut self, etag: Etag) -> Self {
        self.if_match = Some(etag);
        self
    }

    /// Chooses what happens when directories are missing.
    #[must_use]
    pub fn with_parents(mut self, parents: Parents) -> Self {
        self.parents = parents;
        self
    }

    /// Chooses what the write survives.
    #[must_use]
    pub fn with_durability(mut self, durability: Durability) -> Self {
        self.durability = Some(durability);
        self
    }
}

/// What a write or an edit did.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[non_exhaustive]
#[cfg_attr(feature = "schema", derive(utoipa::ToSchema))]
pub struct WriteOutput {
    /// The etag of the content that the file has now.
    pub etag: Etag,
    /// Its size in bytes.
    pub size_bytes: u64,
    /// Whether the file was not there before.
    pub created: bool,
    /// Whether the content is another one than before; `false` means that nothing was written.
    pub changed: bool,
    /// From the old to the new content.
    pub diff: Diff,
}

impl WriteOutput {
    /// What a write answers that puts a content in the place of another one, or of none.
    pub fn between(path: &RelPath, old: Option<&[u8]>, new: &[u8], max_diff_bytes: usize) -> Self {
        let before = old.unwrap_or_default();
        Self {
            etag: Etag::of(new),
            size_bytes: new.len() as u64,
            created: old.is_none(),
            changed: old != Some(new),
            diff: Diff::between(path.as_str(), before, new, max_diff_bytes),
        }
    }
}

/// One exact replacement.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
#[cfg_attr(feature = "schema", derive(utoipa::ToSchema))]
pub struct Edit {
    /// The text to be replaced, exactly as it is in the file.
    pub old: String,
    /// The text to put there.
    pub new: String,
    /// Which occurrences are meant.
    #[serde(default)]
    pub occurrences: Occurrences,
}

impl Edit {
    /// Replaces the one occurrence of `old`.
    pub fn new(old: impl Into<String>, new: impl Into<String>) -> Self {
        Self {
            old: old.into(),
            new: new.into(),
            occurrences: Occurrences::One,
        }
    }

    /// Chooses which occurrences are meant.
    #[must_use]
    pub fn with_occurrences(mut self, occurrences: Occurrences) -> Self {
        self.occurrences = occurrences;
        self
    }
}

/// Replacements in one file, all or none of which happen. Later ones see what earlier ones did.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct EditRequest {
    /// The replacements, in order.
    pub edits: Vec<Edit>,
    /// Only if the file now has this etag.
    pub if_match: Option<Etag>,
    /// What the write survives; the machine's choice if absent.
    pub durability: Option<Durability>,
}

impl EditRequest {
    /// Makes these replacements.
    pub fn new(edits: impl IntoIterator<Item = Edit>) -> Self {
        Self {
            edits: edits.into_iter().collect(),
            if_match: None,
            durability: None,
        }
    }

    /// Makes them only in a content of this etag.
    #[must_use]
    pub fn with_if_match(mut self, etag: Etag) -> Self {
        self.if_match = Some(etag);
        self
    }

    /// Chooses what the write survives.
    #[must_use]
    pub fn with_durability(mut self, durability: Durability) -> Self {
        self.durability = Some(durability);
        self
    }
}

impl From<Edit> for EditRequest {
    fn from(edit: Edit) -> Self {
        Self::new([edit])
    }
}

/// Which occurrences of a text an edit replaces.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
#[cfg_attr(feature = "schema", derive(utoipa::ToSchema))]
pub enum Occurrences {
    /// The only one; more than one is an error.
    #[default]
    One,
    /// All of them.
    Every,
}

/// What an entry of a directory is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
#[non_exhaustive]
#[cfg_attr(feature = "schema", derive(utoipa::ToSchema))]
pub enum EntryKind {
    /// A regular file.
    File,
    /// A directory.
    Directory,
    /// A symbolic link.
    Symlink,
    /// A pipe, a socket, a device.
    Other,
}

impl EntryKind {
    /// A word for it.
    pub fn name(self) -> &'static str {
        match self {
            Self::File => "file",
            Self::Directory => "directory",
            Self::Symlink => "symbolic link",
            Self::Other => "device, pipe or socket",
        }
    }
}

/// What is known of an entry without reading it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[non_exhaustive]
#[cfg_attr(feature = "schema", derive(utoipa::ToSchema))]
pub struct Stat {
    /// Where it is, from the workspace root.
    pub path: RelPath,
    /// What it is.
    pub kind: EntryKind,
    /// Its size in bytes; 0 for what is not a file.
    pub size_bytes: u64,
    /// When it was last changed, in milliseconds since the epoch.
    pub modified_ms: i64,
}

impl Stat {
    /// An entry of this kind, empty and as old as the epoch.
    pub fn new(path: RelPath, kind: EntryKind) -> Self {
        Self {
            path,
            kind,
            size_bytes: 0,
            modified_ms: 0,
        }
    }
}

/// The entries of a directory.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[non_exhaustive]
#[cfg_attr(feature = "schema", derive(utoipa::ToSchema))]
pub struct Listing {
    /// In byte order of their names.
    pub entries: Vec<Stat>,
    /// Whether there are more.
    pub truncated: bool,
    /// How many entries have a name that no [`RelPath`] can say.
    pub unnamable: u64,
}

/// What [`Workspace::remove`](crate::Workspace::remove) may remove.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
#[non_exhaustive]
#[cfg_attr(feature = "schema", derive(utoipa::ToSchema))]
pub enum RemoveMode {
    /// A file, a link, or an empty directory.
    #[default]
    One,
    /// A directory with all that is in it.
    Tree,
}

/// Whether a rename may replace something.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
#[cfg_attr(feature = "schema", derive(utoipa::ToSchema))]
pub enum RenameMode {
    /// Something at the new name is an error.
    #[default]
    NoReplace,
    /// A file at the new name is replaced.
    Replace,
}
