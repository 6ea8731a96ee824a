//! A market written down at one version, so that a long history need not be read from its start.
//!
//! Events stay the truth: a snapshot that cannot be read, or whose digest does not fit, is passed over
//! and the market is folded from its first event.

use aion_types::{Format, MarketId};
use serde::{Deserialize, Serialize};

use super::MarketState;
use crate::Result;
use crate::error::Error;
use crate::store::StoreError;

/// A market at one version, in JSON.
///
/// `restore(Snapshot::of(state)) = state`, and the events after it give the same market as all events.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Snapshot {
    /// The market.
    pub market: MarketId,
    /// How many events it stands for.
    pub version: u64,
    /// The market in JSON.
    pub body: String,
    /// Hexadecimal digest of the body.
    pub digest: String,
}

#[derive(Serialize)]
struct Written<'a> {
    format: Format,
    state: &'a MarketState,
}

#[derive(Deserialize)]
struct Read {
    // Refuses a body of a newer program.
    #[serde(rename = "format")]
    _format: Format,
    state: MarketState,
}

impl Snapshot {
    /// Writes a market down.
    ///
    /// # Errors
    /// [`Error::Store`] if it cannot be written as JSON.
    pub fn of(state: &MarketState) -> Result<Self> {
        let format = Format::default();
        let body = serde_json::to_string(&Written { format, state }).map_err(StoreError::backend)?;
        Ok(Self {
            market: state.id(),
            version: state.version(),
            digest: digest(&body),
            body,
        })
    }

    /// Reads the market back.
    ///
    /// # Errors
    /// [`Error::Store`] with [`StoreError::Corrupt`] if the body cannot be read,
    /// [`Error::BadHistory`] if it is not the one that the digest, the id and the version say.
    pub fn restore(&self) -> Result<MarketState> {
        let bad = |reason| Error::BadHistory {
            seq: self.version,
            reason,
        };
        if digest(&self.body) != self.digest {
            return Err(bad("its snapshot is not the one that its digest was made of"));
        }
        let read: Read =
            serde_json::from_str(&self.body).map_err(|error| StoreError::corrupt("snapshot", error))?;
        if (read.state.id(), read.state.version()) != (self.market, self.version) {
            return Err(bad("its snapshot is one of another market or version"));
        }
        Ok(read.state)
    }
}

fn digest(body: &str) -> String {
    blake3::hash(body.as_bytes()).to_hex()[..32].to_owned()
}
