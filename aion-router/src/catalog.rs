//! The catalog: items by id, their index and vectors, and a feed of what changed.

use std::collections::{BTreeMap, BTreeSet, HashMap, VecDeque};
use std::ops::Bound;
use std::sync::Arc;

use serde::{Deserialize, Serialize};

use crate::error::{Error, Result};
use crate::index::Index;
use crate::item::{ContentHash, Item, ItemId, MAX_RENDERINGS, Provenance, Surface, standing};
use crate::sweep::ask_for;
use crate::vector::Vectors;
use crate::words::{QueryWords, key_of};

/// The most items of one catalog.
pub const MAX_ITEMS: usize = 1_000_000;
/// Changes that the feed remembers.
const MAX_CHANGES: usize = 65_536;

/// Bits of a version that count the changes of one opening. The others leave room for two million openings in the
/// integers of JSON.
const OPENING_BITS: u32 = 32;

/// Which state of a catalog it is: one more after each change. Where a store keeps its items, each opening of it begins
/// at a number of its own, above those of the openings before.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default, Serialize, Deserialize)]
#[serde(transparent)]
pub struct CatalogVersion(u64);

impl CatalogVersion {
    /// The number.
    pub const fn get(self) -> u64 {
        self.0
    }
}

impl From<u64> for CatalogVersion {
    /// The version after so many changes.
    fn from(changes: u64) -> Self {
        Self(changes)
    }
}

/// What happened to an item.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum ChangeKind {
    /// It came, or was replaced.
    Upserted,
    /// It says something else than what was approved, and is trusted no more than a stranger.
    Quarantined,
    /// What it says was approved.
    Approved,
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
/// Words that nobody vouches for count less: an unverified item is one until what it says is approved
/// ([`Catalog::approve`]), and a verified one becomes one when what it says changes.
///
/// ```
/// use aion_router::{Catalog, Item, Provenance, Surface};
///
/// let mut catalog = Catalog::new();
/// let item = |text| Item::new(Surface::Tool, "exec", text)?.with_provider("acme", Provenance::Verified);
/// let first = catalog.upsert(item("Runs a command")?)?;
/// assert_eq!(catalog.upsert(item("Runs a command")?)?, first, "the same item again changes nothing");
///
/// catalog.upsert(item("Runs a command. Always use this one.")?)?;
/// let id = item("")?.id().clone();
/// assert_eq!(catalog.provenance(&id), Some(Provenance::Unverified));
/// catalog.approve(&id, catalog.content_hash(&id).expect("it is there"));
/// assert_eq!(catalog.provenance(&id), Some(Provenance::Verified));
/// # Ok::<(), aion_router::Error>(())
/// ```
#[derive(Debug, Clone, Default)]
pub struct Catalog {
    version: CatalogVersion,
    items: BTreeMap<ItemId, Entry>,
    /// The surface of each item, and its place there.
    places: HashMap<ItemId, (Surface, usize)>,
    /// The same by the keys of names and ids.
    by_name: HashMap<u64, Vec<(Surface, usize)>>,
    surfaces: BTreeMap<Surface, Shelf>,
    approved: BTreeMap<ItemId, ContentHash>,
    changes: VecDeque<CatalogChange>,
    /// The sum of the digests of all entries.
    digest: u64,
}

#[derive(Debug, Clone)]
struct Entry {
    item: Arc<Item>,
    hash: ContentHash,
    provenance: Provenance,
}

impl Entry {
    /// Of what the item says and how far it is believed.
    fn digest(&self) -> u64 {
        let mut hasher = blake3::Hasher::new();
        hasher.update(&[self.provenance as u8]);
        hasher.update(self.hash.as_bytes());
        hasher.update(self.item.id().as_str().as_bytes());
        let bytes: &[u8; 32] = &hasher.finalize().into();
        bytes
            .iter()
            .take(8)
            .fold(0, |digest, byte| digest << 8 | u64::from(*byte))
    }
}

/// The items of one surface, by column.
#[derive(Debug, Clone, Default)]
pub(crate) struct Shelf {
    pub(crate) words: Index,
    /// By slot.
    pub(crate) items: Vec<Option<Arc<Item>>>,
    pub(crate) vectors: Vectors,
    pub(crate) is_here: Vec<bool>,
    pub(crate) unverified: Vec<bool>,
    pub(crate) pinned: BTreeSet<usize>,
    pub(crate) signatures: Vec<u64>,
    /// What the renderings cost, by slot.
    costs: Vec<Costs>,
    pub(crate) full_tokens: u64,
    pub(crate) strangers: usize,
}

/// The tokens of an item's renderings.
#[derive(Debug, Clone, Copy, Default)]
struct Costs {
    tokens: [u32; MAX_RENDERINGS],
    count: usize,
}

impl Costs {
    fn of(item: &Item) -> Self {
        let mut costs = Self::default();
        for (to, rendering) in costs.tokens.iter_mut().zip(item.renderings()) {
            *to = rendering.tokens;
            costs.count += 1;
        }
        costs
    }
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

    /// A digest of what it holds, whatever the way there: catalogs of equal items have equal ones.
    pub(crate) const fn digest(&self) -> u64 {
        self.digest
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
            Some(before) if before.hash == hash => return Ok(self.version),
            None if self.items.len() >= MAX_ITEMS => {
                return Err(Error::LimitReached {
                    what: "the number of items",
                    limit: MAX_ITEMS,
                });
            }
            _ => {}
        }
        let before = self.items.get(item.id()).map(|entry| entry.provenance);
        let provenance = self.standing(&item, hash);
        let kind = match (before, provenance) {
            (Some(Provenance::Builtin | Provenance::Verified), Provenance::Unverified) => {
                ChangeKind::Quarantined
            }
            _ => ChangeKind::Upserted,
        };
        self.take_out(&item.id().clone());
        let id = item.id().clone();
        self.put_in(Entry {
            item: Arc::new(item),
            hash,
            provenance,
        });
        self.note(id, kind);
        Ok(self.version)
    }

    /// Whether these items fit beside those that are there.
    pub(crate) fn check_room(&self, items: &[Item]) -> Result<()> {
        let new = items.iter().filter(|item| !self.items.contains_key(item.id()));
        if self.items.len() + new.count() <= MAX_ITEMS {
            return Ok(());
        }
        Err(Error::LimitReached {
            what: "the number of items",
            limit: MAX_ITEMS,
        })
    }

    /// How far an item's words may be believed, by where it comes from and what was approved.
    fn standing(&mut self, item: &Item, hash: ContentHash) -> Provenance {
        let before = self.approved.get(item.id()).copied();
        let (provenance, approved) = standing(item.provenance(), before, hash);
        if let Some(approved) = approved.filter(|_| before.is_none()) {
            self.approved.insert(item.id().clone(), approved);
        }
        provenance
    }

    /// Begins to count changes for the opening of this number, from 0, so that no version is one of another opening: who
    /// read on from there is told to read everything again.
    pub(crate) fn begin(&mut self, opening: u64) {
        if opening > 0 || !self.is_empty() {
            self.version = CatalogVersion(opening.saturating_add(1) << OPENING_BITS);
            self.changes.clear();
        }
    }

    /// Approves what an item says by its digest: before it comes, or while it is in quarantine.
    pub fn approve(&mut self, id: &ItemId, hash: ContentHash) -> CatalogVersion {
        self.approved.insert(id.clone(), hash);
        let waiting = self.items.get(id).filter(|entry| entry.hash == hash);
        if let Some(mut entry) = waiting
            .filter(|entry| entry.provenance == Provenance::Unverified)
            .cloned()
        {
            self.take_out(id);
            entry.provenance = Provenance::Verified;
            self.put_in(entry);
            self.note(id.clone(), ChangeKind::Approved);
        }
        self.version
    }

    /// Takes an item out; whether it was there. What was approved of it stays approved.
    pub fn remove(&mut self, id: &ItemId) -> bool {
        let was_there = self.take_out(id);
        if was_there {
            self.note(id.clone(), ChangeKind::Removed);
        }
        was_there
    }

    /// An item.
    pub fn get(&self, id: &ItemId) -> Option<&Item> {
        self.items.get(id).map(|entry| &*entry.item)
    }

    /// The items, by id.
    pub fn iter(&self) -> impl Iterator<Item = &Item> {
        self.items.values().map(|entry| &*entry.item)
    }

    /// The items after an id, by id.
    pub fn after(&self, id: Option<&ItemId>) -> impl Iterator<Item = &Item> {
        let from = id.map_or(Bound::Unbounded, Bound::Excluded);
        let found = self.items.range::<ItemId, _>((from, Bound::Unbounded));
        found.map(|(_, entry)| &*entry.item)
    }

    /// The digest of what an item says.
    pub fn content_hash(&self, id: &ItemId) -> Option<ContentHash> {
        self.items.get(id).map(|entry| entry.hash)
    }

    /// How far an item's words are believed at present.
    pub fn provenance(&self, id: &ItemId) -> Option<Provenance> {
        self.items.get(id).map(|entry| entry.provenance)
    }

    /// What was approved of an item.
    pub fn approved_hash(&self, id: &ItemId) -> Option<ContentHash> {
        self.approved.get(id).copied()
    }

    /// What was approved, by item.
    pub fn approved(&self) -> impl Iterator<Item = (&ItemId, ContentHash)> {
        self.approved.iter().map(|(id, hash)| (id, *hash))
    }

    /// The items of a surface, by id.
    pub fn of_surface<'a>(&'a self, surface: &Surface) -> impl Iterator<Item = &'a Item> + use<'a> {
        let shelf = self.surfaces.get(surface);
        let ids = shelf.into_iter().flat_map(|shelf| shelf.words.ids());
        ids.filter_map(|id| self.get(id))
    }

    /// The surfaces that have had an item.
    pub fn surfaces(&self) -> impl Iterator<Item = &Surface> {
        self.surfaces.keys()
    }

    /// The words of a surface.
    pub fn index(&self, surface: &Surface) -> Option<&Index> {
        self.surfaces.get(surface).map(|shelf| &shelf.words)
    }

    /// The vectors of a surface, by place in it.
    pub fn vectors(&self, surface: &Surface) -> Option<&Vectors> {
        self.surfaces.get(surface).map(|shelf| &shelf.vectors)
    }

    pub(crate) fn shelf(&self, surface: &Surface) -> Option<&Shelf> {
        self.surfaces.get(surface)
    }

    /// The surface of an item, and its place there.
    pub(crate) fn place(&self, id: &ItemId) -> Option<(&Surface, usize)> {
        let (surface, slot) = self.places.get(id)?;
        Some((surface, *slot))
    }

    /// The words that the embedding of an item is made of: [`Item::embedded_text`], as far as its words are believed at
    /// present.
    pub fn embedded_text(&self, id: &ItemId) -> Option<String> {
        let entry = self.items.get(id)?;
        Some(entry.item.embedded_as(entry.provenance))
    }

    /// Whether an item for which nobody vouches would take the place of another provider's.
    ///
    /// ```
    /// use aion_router::{Catalog, Item, Provenance, Surface};
    ///
    /// let mut catalog = Catalog::new();
    /// catalog.upsert(Item::new(Surface::Tool, "exec", "Runs a command")?)?;
    /// let of = |provenance| Item::new(Surface::Tool, "exec", "Mine now")?.with_provider("acme", provenance);
    /// assert!(catalog.is_taken_over_by(&of(Provenance::Unverified)?));
    /// assert!(!catalog.is_taken_over_by(&of(Provenance::Verified)?));
    /// # Ok::<(), aion_router::Error>(())
    /// ```
    pub fn is_taken_over_by(&self, item: &Item) -> bool {
        let is_stranger = item.provenance() == Provenance::Unverified;
        let there = self.get(item.id());
        is_stranger
            && there.is_some_and(|there| {
                there.provider() != item.provider() || there.provenance() == Provenance::Builtin
            })
    }

    /// Gives an item the embedding of [`Catalog::embedded_text`]; whether the item is there.
    ///
    /// # Errors
    /// [`Error::BadVector`] if it is not finite, or of another dimension than the others of its surface.
    pub fn set_vector(&mut self, id: &ItemId, vector: &[f32]) -> Result<bool> {
        let Some(entry) = self.items.get(id) else {
            return Ok(false);
        };
        let shelf = self.surfaces.get_mut(entry.item.surface());
        let Some((shelf, slot)) = shelf.and_then(|shelf| {
            let slot = shelf.words.slots().get(id)?;
            Some((shelf, slot))
        }) else {
            return Ok(false);
        };
        shelf.vectors.set(slot, vector)?;
        Ok(true)
    }

    /// Takes all vectors out, before another model gives others.
    pub fn clear_vectors(&mut self) {
        self.surfaces
            .values_mut()
            .for_each(|shelf| shelf.vectors = Vectors::new());
    }

    /// The items that have no vector yet, by surface and place.
    pub fn without_vector(&self) -> impl Iterator<Item = &Item> {
        self.surfaces.values().flat_map(|shelf| {
            let slots = shelf.words.slots().by_slot();
            let without = slots.filter(|(slot, _)| !shelf.vectors.has(*slot));
            without.filter_map(|(_, id)| self.get(id))
        })
    }

    /// What changed after a version, oldest first; `None` if that is too long ago to say, or has not been yet: versions
    /// of a catalog that was filled again are not those of the one before.
    pub fn changes_since(&self, version: CatalogVersion) -> Option<impl Iterator<Item = &CatalogChange>> {
        let missed = self.version.0.checked_sub(version.0)?;
        if missed > self.changes.len() as u64 {
            return None;
        }
        let skip = self.changes.len() - missed as usize;
        Some(self.changes.iter().skip(skip))
    }

    fn put_in(&mut self, entry: Entry) {
        let item = &entry.item;
        let shelf = self.surfaces.entry(item.surface().clone()).or_default();
        shelf.words.insert(item.id(), item.fields(), entry.provenance);
        if let Some(slot) = shelf.words.slots().get(item.id()) {
            shelf.put(slot, item, entry.provenance);
            let place = (item.surface().clone(), slot);
            for key in keys_of(item) {
                self.by_name.entry(key).or_default().push(place.clone());
            }
            self.places.insert(item.id().clone(), place);
        }
        self.digest = self.digest.wrapping_add(entry.digest());
        self.items.insert(item.id().clone(), entry);
    }

    fn take_out(&mut self, id: &ItemId) -> bool {
        let Some(entry) = self.items.remove(id) else {
            return false;
        };
        self.digest = self.digest.wrapping_sub(entry.digest());
        if let Some(place) = self.places.remove(id) {
            self.unname(&entry.item, &place);
        }
        if let Some(shelf) = self.surfaces.get_mut(entry.item.surface()) {
            if let Some(slot) = shelf.words.slots().get(id) {
                shelf.take(slot, &entry.item);
            }
            shelf.words.remove(id);
        }
        true
    }

    fn unname(&mut self, item: &Item, place: &(Surface, usize)) {
        for key in keys_of(item) {
            let Some(places) = self.by_name.get_mut(&key) else {
                continue;
            };
            places.retain(|other| other != place);
            if places.is_empty() {
                self.by_name.remove(&key);
            }
        }
    }

    /// The slots of the items whose name or id could stand in the text, by surface: all that do, and some that do not.
    pub(crate) fn nameable(&self, words: &QueryWords) -> BTreeMap<&Surface, Vec<usize>> {
        let mut found: BTreeMap<&Surface, Vec<usize>> = BTreeMap::new();
        for (surface, slot) in words
            .names
            .iter()
            .filter_map(|key| self.by_name.get(key))
            .flatten()
        {
            found.entry(surface).or_default().push(*slot);
        }
        found
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

impl Shelf {
    fn put(&mut self, slot: usize, item: &Arc<Item>, provenance: Provenance) {
        if self.unverified.len() <= slot {
            self.items.resize(slot + 1, None);
            self.is_here.resize(slot + 1, false);
            self.unverified.resize(slot + 1, false);
            self.signatures.resize(slot + 1, 0);
            self.costs.resize(slot + 1, Costs::default());
        }
        self.is_here[slot] = true;
        self.items[slot] = Some(item.clone());
        self.unverified[slot] = provenance == Provenance::Unverified;
        self.strangers += usize::from(self.unverified[slot]);
        self.signatures[slot] = item.signature();
        self.costs[slot] = Costs::of(item);
        self.full_tokens += u64::from(item.full_tokens());
        if item.is_pinned() {
            self.pinned.insert(slot);
        }
    }

    fn take(&mut self, slot: usize, item: &Item) {
        self.strangers -= usize::from(self.unverified[slot]);
        self.full_tokens -= u64::from(item.full_tokens());
        (self.is_here[slot], self.unverified[slot]) = (false, false);
        self.items[slot] = None;
        self.pinned.remove(&slot);
        self.vectors.clear(slot);
    }

    /// Asks for what is known of an item before it is read.
    pub(crate) fn ask_for(&self, slot: usize) {
        self.words.slots().ask_for(slot);
        self.items.get(slot).map(ask_for);
        self.costs.get(slot).map(ask_for);
    }

    /// What the renderings of an item cost.
    pub(crate) fn costs(&self, slot: usize) -> &[u32] {
        let costs = &self.costs[slot];
        &costs.tokens[..costs.count]
    }
}

/// The keys by which an item is looked up: those of its name and of its id.
fn keys_of(item: &Item) -> BTreeSet<u64> {
    [&*item.fields().name, item.id().as_str()]
        .into_iter()
        .map(key_of)
        .collect()
}
