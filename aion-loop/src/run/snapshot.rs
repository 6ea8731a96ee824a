//! The stored form of a run, with its version.

use serde::{Deserialize, Serialize};

use super::Core;
use crate::{Error, Result};

/// The newest format of a snapshot, and the one that is written.
pub const RUN_FORMAT: u32 = 1;

/// Format of a snapshot: read if known here, refused if newer.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(transparent)]
pub(super) struct RunFormat(u32);

impl Default for RunFormat {
    fn default() -> Self {
        Self(RUN_FORMAT)
    }
}

/// A run as it is stored: everything but the tools.
///
/// Its fields are private; [`RunSnapshot::from_json`] reads every format up to [`RUN_FORMAT`].
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(transparent)]
pub struct RunSnapshot(pub(super) Box<Core>);

#[derive(Deserialize)]
struct FormatOnly {
    format: u32,
}

impl RunSnapshot {
    /// The snapshot as JSON text.
    ///
    /// # Errors
    /// [`Error::BadSnapshot`] never in practice: a run has only text keys.
    pub fn to_json(&self) -> Result<String> {
        serde_json::to_string(&self.0).map_err(Error::BadSnapshot)
    }

    /// Reads a snapshot of this or an older format.
    ///
    /// # Errors
    /// [`Error::NewerFormat`] for a newer one, [`Error::BadSnapshot`] for something else.
    pub fn from_json(text: &str) -> Result<Self> {
        let FormatOnly { format } = serde_json::from_str(text).map_err(Error::BadSnapshot)?;
        if format > RUN_FORMAT {
            return Err(Error::NewerFormat {
                found: format,
                newest: RUN_FORMAT,
            });
        }
        serde_json::from_str(text).map_err(Error::BadSnapshot)
    }
}
