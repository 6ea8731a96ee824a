//! The catalog: items by id, their index, and a feed of what changed.

use std::collections::{BTreeMap, VecDeque};

use serde::{Deserialize, Serialize};

use crate::error::{Error, Result};
use crate::index::Index;
use crate::item::{ContentHash, Item, ItemId, Surface};

/// The most items of one catalog.
pub const MAX_ITEMS: usize = 1_000_000;
/// Changes that the feed remembers.
const MAX_CHANGES: usize = 65_536;

/// How often a catalog has changed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default, Serialize, Deserialize)]
#[serde(transparent)]
pub struct CatalogVersion(u64);

impl CatalogVersion {
    /// The number of changes.
    pub const fn get(self) -> u64 {
        self.0
    }
}

/// What happened to an item.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum ChangeKind {
    /// It came, or was replaced.
    Upserted,
    /// It went.
    Removed,
}

/// One change.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CatalogChange {
    /// The version that it made.
    pub version: CatalogVersion,
    /// The item.
    pub item: ItemId,
    /// What happened to it.
    pub kind: ChangeKind,
}

/// Items by id, ready to be ranked.
///
/// ```
/// use aion_router::{Catalog, Item, Surface};
///
/// let mut catalog = Catalog::new();
/// let item = Item::new(Surface::Tool, "exec", "Runs a command")?;
/// let first = catalog.upsert(item.clone())?;
/// assert_eq!(catalog.upsert(item)?, first, "the same item again changes nothing");
/// # Ok::<(), aion_router::Error>(())
/// ```
#[derive(Debug, Clone, Default)]
pub struct Catalog {
    version: CatalogVersion,
    items: BTreeMap<ItemId, (Item, ContentHash)>,
    surfaces: BTreeMap<Surface, Index>,
    changes: VecDeque<CatalogChange>,
}

impl Catalog {
    /// An empty catalog.
    pub fn new() -> Self {
        Self::default()
    }

    /// How often it has changed.
    pub const fn version(&self) -> CatalogVersion {
        self.version
    }

    /// How many items it has.
    pub fn len(&self) -> usize {
        self.items.len()
    }

    /// Whether it has none.
    pub fn is_empty(&self) -> bool {
        self.items.is_empty()
    }

    /// Adds an item or replaces the one of the same id; the version after it.
    ///
    /// # Errors
    /// [`Error::LimitReached`] for more than [`MAX_ITEMS`].
    pub fn upsert(&mut self, item: Item) -> Result<CatalogVersion> {
        let hash = item.content_hash();
        match self.items.get(item.id()) {
            Some((_, before)) if *before == hash => return Ok(self.version),
            None if self.items.len() >= MAX_ITEMS => {
                return Err(Error::LimitReached {
                    what: "the number of items",
                    limit: MAX_ITEMS,
                });
            }
            _ => {}
        }
        self.take_out(&item.id().clone());
        let index = self.surfaces.entry(item.surface().clone()).or_default();
        index.insert(item.id(), item.fields(), item.provenance());
        self.note(item.id().clone(), ChangeKind::Upserted);
        self.items.insert(item.id().clone(), (item, hash));
        Ok(self.version)
    }

    /// Takes an item out; whether it was there.
    pub fn remove(&mut self, id: &ItemId) -> bool {
        let was_there = self.take_out(id);
        if was_there {
            self.note(id.clone(), ChangeKind::Removed);
        }
        was_there
    }

    /// An item.
    pub fn get(&self, id: &ItemId) -> Option<&Item> {
        self.items.get(id).map(|(item, _)| item)
    }

    /// The digest of what an item says.
    pub fn content_hash(&self, id: &ItemId) -> Option<ContentHash> {
        self.items.get(id).map(|(_, hash)| *hash)
    }

    /// The items of a surface, by id.
    pub fn of_surface<'a>(&'a self, surface: &Surface) -> impl Iterator<Item = &'a Item> + use<'a> {
        let ids = self.surfaces.get(surface).into_iter().flat_map(Index::ids);
        ids.filter_map(|id| self.get(id))
    }

    /// The words of a surface.
    pub fn index(&self, surface: &Surface) -> Option<&Index> {
        self.surfaces.get(surface)
    }

    /// What changed after a version, oldest first; `None` if that is too long ago to say.
    pub fn changes_since(&self, version: CatalogVersion) -> Option<Vec<CatalogChange>> {
        let missed = self.version.0.saturating_sub(version.0);
        if missed > self.changes.len() as u64 {
            return None;
        }
        let skip = self.changes.len() - missed as usize;
        Some(self.changes.iter().skip(skip).cloned().collect())
    }

    fn take_out(&mut self, id: &ItemId) -> bool {
        let Some((item, _)) = self.items.remove(id) else {
            return false;
        };
        if let Some(index) = self.surfaces.get_mut(item.surface()) {
            index.remove(id);
        }
        true
    }

    fn note(&mut self, item: ItemId, kind: ChangeKind) {
        self.version.0 += 1;
        self.changes.push_back(CatalogChange {
            version: self.version,
            item,
            kind,
        });
        if self.changes.len() > MAX_CHANGES {
            self.changes.pop_front();
        }
    }
}
