//! Relative paths that were checked once, at the door.

use std::fmt;
use std::path::Path;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

/// Longest path accepted, in bytes.
pub const MAX_PATH_BYTES: usize = 4096;
/// Longest component accepted, in bytes.
pub const MAX_COMPONENT_BYTES: usize = 255;

/// Why a text is not a [`RelPath`].
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum PathError {
    /// It begins at the root of the file system.
    #[error("the path is absolute; paths are relative to the workspace, like `src/main.rs`")]
    Absolute,
    /// It has a `..` component.
    #[error("the path has a `..` component; name the file from the workspace root")]
    ParentDir,
    /// It is not UTF-8.
    #[error("the path is not UTF-8")]
    NotUtf8,
    /// It has a NUL byte.
    #[error("the path has a NUL byte")]
    Nul,
    /// It has a control or text-direction character, which would show as something else.
    #[error("the path has the invisible character U+{code:04X}")]
    Invisible {
        /// The code point.
        code: u32,
    },
    /// It, or one of its components, is too long.
    #[error("the path or one of its parts is too long ({len} bytes)")]
    TooLong {
        /// The length in bytes.
        len: usize,
    },
}

/// A path below a workspace root: UTF-8, no leading `/`, no `..`, no NUL, no invisible characters.
///
/// `.` components and doubled or trailing slashes are dropped, so equal paths compare equal.
/// The empty text and `.` are the root itself. The check is lexical: what a symbolic link on the
/// way does is for the backend to decide, at the moment of opening.
///
/// ```
/// use aion_machine::{PathError, RelPath};
/// assert_eq!(RelPath::parse("./src//main.rs")?.as_str(), "src/main.rs");
/// assert_eq!(RelPath::parse("a/../../etc/passwd"), Err(PathError::ParentDir));
/// assert_eq!(RelPath::parse("/etc/passwd"), Err(PathError::Absolute));
/// # Ok::<(), PathError>(())
/// ```
#[derive(Clone, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
#[cfg_attr(feature = "schema", derive(utoipa::ToSchema))]
#[cfg_attr(feature = "schema", schema(value_type = String))]
pub struct RelPath(String);

impl RelPath {
    /// The workspace itself.
    pub fn root() -> Self {
        Self(String::new())
    }

    /// Checks and normalises a path.
    ///
    /// # Errors
    /// A [`PathError`] that says which rule it breaks.
    pub fn parse(text: &str) -> Result<Self, PathError> {
        check_characters(text)?;
        let mut parts = Vec::new();
        for part in text.split('/').filter(|p| !p.is_empty() && *p != ".") {
            if part == ".." {
                return Err(PathError::ParentDir);
            }
            if part.len() > MAX_COMPONENT_BYTES {
                return Err(PathError::TooLong { len: part.len() });
            }
            parts.push(part);
        }
        Ok(Self(parts.join("/")))
    }

    /// The same for bytes, as the system or a URL has them.
    ///
    /// ```
    /// use aion_machine::{PathError, RelPath};
    /// assert_eq!(RelPath::from_bytes(b"a/b")?.as_str(), "a/b");
    /// assert_eq!(RelPath::from_bytes(b"a/\xFF"), Err(PathError::NotUtf8));
    /// # Ok::<(), PathError>(())
    /// ```
    ///
    /// # Errors
    /// A [`PathError`] that says which rule it breaks.
    pub fn from_bytes(bytes: &[u8]) -> Result<Self, PathError> {
        Self::parse(std::str::from_utf8(bytes).map_err(|_| PathError::NotUtf8)?)
    }

    /// The normalised text; empty for the root.
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// Whether this is the workspace itself.
    pub fn is_root(&self) -> bool {
        self.0.is_empty()
    }

    /// The last component, or `None` for the root.
    pub fn file_name(&self) -> Option<&str> {
        self.0.rsplit('/').next().filter(|name| !name.is_empty())
    }

    /// The path without its last component, or `None` for the root.
    pub fn parent(&self) -> Option<Self> {
        if self.is_root() {
            return None;
        }
        Some(Self(
            self.0
                .rsplit_once('/')
                .map_or(String::new(), |(parent, _)| parent.to_owned()),
        ))
    }

    /// This path and a relative one below it.
    ///
    /// # Errors
    /// [`PathError::TooLong`] if the whole is too long.
    pub fn join(&self, below: &Self) -> Result<Self, PathError> {
        let text = match (self.is_root(), below.is_root()) {
            (true, _) => below.0.clone(),
            (_, true) => self.0.clone(),
            _ => format!("{}/{}", self.0, below.0),
        };
        if text.len() > MAX_PATH_BYTES {
            return Err(PathError::TooLong { len: text.len() });
        }
        Ok(Self(text))
    }

    /// Whether a name is one component of a path.
    pub(crate) fn is_name(name: &str) -> bool {
        let plain = name.bytes().all(|b| matches!(b, b' '..=b'~') && b != b'/');
        !matches!(name, "" | "." | "..")
            && name.len() <= MAX_COMPONENT_BYTES
            && (plain || !name.contains('/') && check_characters(name).is_ok())
    }

    /// How long a name may be so that the path below it is not too long.
    pub(crate) fn room_for_child(&self) -> usize {
        MAX_PATH_BYTES.saturating_sub(self.0.len() + 1)
    }

    /// The path of a name in this directory, for which there must be room.
    pub(crate) fn child(&self, name: &str) -> Self {
        if self.is_root() {
            return Self(name.to_owned());
        }
        let mut text = String::with_capacity(self.0.len() + 1 + name.len());
        text.push_str(&self.0);
        text.push('/');
        text.push_str(name);
        Self(text)
    }

    /// What is handed to the system: `.` for the root.
    pub(crate) fn as_path(&self) -> &Path {
        Path::new(if self.is_root() { "." } else { &self.0 })
    }
}

fn check_characters(text: &str) -> Result<(), PathError> {
    if text.len() > MAX_PATH_BYTES {
        return Err(PathError::TooLong { len: text.len() });
    }
    if text.contains('\0') {
        return Err(PathError::Nul);
    }
    if let Some(c) = text.chars().find(|c| is_invisible(*c)) {
        return Err(PathError::Invisible { code: u32::from(c) });
    }
    if text.starts_with('/') {
        return Err(PathError::Absolute);
    }
    Ok(())
}

/// Control characters and those that change the direction of text or take no room.
fn is_invisible(c: char) -> bool {
    c.is_control()
        || matches!(c, '\u{AD}' | '\u{61C}' | '\u{180E}' | '\u{200B}'..='\u{200F}' | '\u{2028}'..='\u{202E}')
        || matches!(c, '\u{2060}'..='\u{206F}' | '\u{FEFF}' | '\u{FFF9}'..='\u{FFFB}' | '\u{E0000}'..='\u{E007F}')
}

impl fmt::Display for RelPath {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(if self.is_root() { "." } else { &self.0 })
    }
}

impl fmt::Debug for RelPath {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:?}", self.to_string())
    }
}

impl FromStr for RelPath {
    type Err = PathError;
    fn from_str(text: &str) -> Result<Self, PathError> {
        Self::parse(text)
    }
}

impl TryFrom<String> for RelPath {
    type Error = PathError;
    fn try_from(text: String) -> Result<Self, PathError> {
        Self::parse(&text)
    }
}

impl From<RelPath> for String {
    fn from(path: RelPath) -> Self {
        path.to_string()
    }
}
