//! Places of items in the columns of a surface: small numbers that stay while the item does.

use std::collections::BTreeMap;

use crate::item::ItemId;
use crate::sweep::ask_for;

/// Items and their places; a place that is left is given away again.
#[derive(Debug, Clone, Default)]
pub(crate) struct Slots {
    by_id: BTreeMap<ItemId, u32>,
    ids: Vec<Option<ItemId>>,
    free: Vec<u32>,
}

impl Slots {
    pub(crate) fn len(&self) -> usize {
        self.by_id.len()
    }

    /// How long a column must be.
    pub(crate) fn capacity(&self) -> usize {
        self.ids.len()
    }

    pub(crate) fn get(&self, id: &ItemId) -> Option<usize> {
        self.by_id.get(id).map(|slot| *slot as usize)
    }

    pub(crate) fn id(&self, slot: usize) -> Option<&ItemId> {
        self.ids.get(slot).and_then(Option::as_ref)
    }

    /// Asks for the id of an item before it is read.
    pub(crate) fn ask_for(&self, slot: usize) {
        self.ids.get(slot).map(ask_for);
    }

    /// The items by id, each with its place.
    pub(crate) fn iter(&self) -> impl Iterator<Item = (&ItemId, usize)> {
        self.by_id.iter().map(|(id, slot)| (id, *slot as usize))
    }

    /// The items by place.
    pub(crate) fn by_slot(&self) -> impl Iterator<Item = (usize, &ItemId)> {
        let ids = self.ids.iter().enumerate();
        ids.filter_map(|(slot, id)| id.as_ref().map(|id| (slot, id)))
    }

    /// The place of an item, given to it if it has none.
    pub(crate) fn take(&mut self, id: &ItemId) -> usize {
        if let Some(slot) = self.get(id) {
            return slot;
        }
        let slot = self.free.pop().unwrap_or(self.ids.len() as u32);
        if slot as usize == self.ids.len() {
            self.ids.push(None);
        }
        self.ids[slot as usize] = Some(id.clone());
        self.by_id.insert(id.clone(), slot);
        slot as usize
    }

    /// Frees the place of an item.
    pub(crate) fn leave(&mut self, id: &ItemId) -> Option<usize> {
        let slot = self.by_id.remove(id)?;
        self.ids[slot as usize] = None;
        self.free.push(slot);
        Some(slot as usize)
    }
}
