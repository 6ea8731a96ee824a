//! Typed access to the small things by name.

use aion_types::Timestamp;
use serde::Serialize;
use serde::de::DeserializeOwned;

use super::apply::Engine;
use super::rows::{Rows, Space};
use crate::{Error, Result};

impl<R: Rows> Engine<'_, R> {
    /// What is stored under a name.
    pub(super) async fn find<T: DeserializeOwned>(&mut self, space: Space, name: &str) -> Result<Option<T>> {
        let text = self.rows.named(space, name).await?;
        text.as_deref().map(read).transpose()
    }

    /// Stores a thing under a name, due at a time.
    pub(super) async fn store(
        &mut self,
        space: Space,
        name: &str,
        due: Option<Timestamp>,
        thing: &impl Serialize,
    ) -> Result<()> {
        let text = serde_json::to_string(thing).map_err(|error| Error::Corrupt(error.to_string()))?;
        self.rows.put_named(space, name, due, &text).await
    }
}

/// A stored thing.
pub(crate) fn read<T: DeserializeOwned>(text: &str) -> Result<T> {
    serde_json::from_str(text).map_err(|error| Error::Corrupt(error.to_string()))
}
