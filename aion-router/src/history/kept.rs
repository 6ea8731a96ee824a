//! A history as bytes: CBOR, floats bit for bit, so that what is read back learns on as if it had never stopped.

use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};

use super::{History, HistoryOptions, ItemHistory, SurfaceHistory};
use crate::bytes::{Bytes, floats_of_bytes, floats_to_bytes};
use crate::error::{Error, Result};
use crate::feature::{FEATURES, Weights};
use crate::item::{ItemId, Surface};
use crate::past::{KeptQuery, Past};
use crate::profile::PROFILES;

/// The format of these bytes.
const FORMAT: u32 = 1;

#[derive(Serialize, Deserialize)]
struct Kept {
    format: u32,
    features: usize,
    profiles: usize,
    outcomes: u64,
    surfaces: Vec<(Surface, SurfaceHistory)>,
    items: Vec<KeptItem>,
    past: Vec<KeptQuery>,
    next: usize,
    #[serde(default)]
    model: Option<String>,
}

#[derive(Serialize, Deserialize)]
struct KeptItem {
    id: ItemId,
    uses: u32,
    sum: Bytes,
    followers: Vec<(ItemId, u32)>,
    followed: u32,
    #[serde(default)]
    last: u64,
}

impl History {
    /// What was learned, as bytes; without the options and the weights before any outcome.
    ///
    /// ```
    /// use aion_router::{History, HistoryOptions, Weights};
    ///
    /// let history = History::new(Weights::default(), HistoryOptions::default())?;
    /// let again = History::from_bytes(Weights::default(), HistoryOptions::default(), &history.to_bytes()?)?;
    /// assert_eq!(again, history);
    /// # Ok::<(), aion_router::Error>(())
    /// ```
    ///
    /// # Errors
    /// [`Error::BadState`], where memory ends.
    pub fn to_bytes(&self) -> Result<Vec<u8>> {
        let (past, next) = self.past.kept();
        let surfaces = self.surfaces.iter();
        let kept = Kept {
            format: FORMAT,
            features: FEATURES,
            profiles: PROFILES,
            outcomes: self.outcomes,
            surfaces: surfaces
                .map(|(name, history)| (name.clone(), history.clone()))
                .collect(),
            items: self.items.iter().map(|(id, history)| history.kept(id)).collect(),
            past,
            next,
            model: self.model.clone(),
        };
        let mut bytes = Vec::new();
        ciborium::into_writer(&kept, &mut bytes).map_err(|error| bad_state(&error))?;
        Ok(bytes)
    }

    /// The history that [`History::to_bytes`] wrote, which goes on under these options and weights.
    ///
    /// # Errors
    /// [`Error::BadState`] for bytes that are something else, or of another version; those of [`History::new`].
    pub fn from_bytes(start: Weights, options: HistoryOptions, bytes: &[u8]) -> Result<Self> {
        let kept: Kept = read(bytes)?;
        let made_for = (kept.format, kept.features, kept.profiles);
        if made_for != (FORMAT, FEATURES, PROFILES) {
            return Err(bad_state(&format!("it was made for {made_for:?}")));
        }
        let mut history = Self::new(start, options)?;
        for (name, surface) in kept.surfaces {
            history.surfaces.insert(name, surface.under(&options)?);
        }
        history.items = kept.items.into_iter().map(KeptItem::history).collect();
        history.past =
            Past::restored(options.past_queries, kept.past, kept.next).map_err(|error| bad_state(&error))?;
        history.outcomes = kept.outcomes;
        history.model = kept.model;
        Ok(history)
    }
}

fn read<T: DeserializeOwned>(bytes: &[u8]) -> Result<T> {
    ciborium::from_reader(bytes).map_err(|error| bad_state(&error))
}

fn bad_state(error: &dyn std::fmt::Display) -> Error {
    let reason = error.to_string();
    Error::BadState { reason }
}

impl SurfaceHistory {
    /// The same, learning on under these options.
    fn under(mut self, options: &HistoryOptions) -> Result<Self> {
        if self.mixture.weights().len() != PROFILES {
            return Err(bad_state(&"a mixture is of other profiles"));
        }
        self.learner = self.learner.with_options(options.learner);
        self.mixture = self.mixture.with_share(options.share)?;
        self.veto = self.veto.with_options(options.veto);
        Ok(self)
    }
}

impl ItemHistory {
    fn kept(&self, id: &ItemId) -> KeptItem {
        let followers = self.followers.iter();
        KeptItem {
            id: id.clone(),
            uses: self.uses,
            sum: Bytes(floats_to_bytes(&self.sum)),
            followers: followers.map(|(id, n)| (id.clone(), *n)).collect(),
            followed: self.followed,
            last: self.last,
        }
    }
}

impl KeptItem {
    fn history(self) -> (ItemId, ItemHistory) {
        let history = ItemHistory {
            uses: self.uses,
            sum: floats_of_bytes(&self.sum.0),
            followers: self.followers.into_iter().collect(),
            followed: self.followed,
            last: self.last,
        };
        (self.id, history)
    }
}
