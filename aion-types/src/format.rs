//! The version that every stored record carries.

use serde::{Deserialize, Serialize};

use crate::{Error, Result};

/// Format version of a record: read if it is known here, refused if it is newer.
///
/// ```
/// use aion_types::Format;
///
/// assert!(Format::try_from(1).is_ok());
/// assert!(Format::try_from(Format::NEWEST + 1).is_err());
/// ```
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "u32", into = "u32")]
pub struct Format(u32);

impl Format {
    /// The newest version that this crate reads, and the one that it writes.
    pub const NEWEST: u32 = 1;
}

impl Default for Format {
    fn default() -> Self {
        Self(Self::NEWEST)
    }
}

impl TryFrom<u32> for Format {
    type Error = Error;

    fn try_from(found: u32) -> Result<Self> {
        match found {
            1..=Self::NEWEST => Ok(Self(found)),
            _ => Err(Error::NewerFormat {
                found,
                newest: Self::NEWEST,
            }),
        }
    }
}

impl From<Format> for u32 {
    fn from(format: Format) -> Self {
        format.0
    }
}
