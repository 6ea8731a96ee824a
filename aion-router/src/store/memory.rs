//! Everything in memory: for tests, examples and programs that keep nothing.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::ops::Bound;
use std::sync::{Mutex, MutexGuard, PoisonError};

use aion_types::DecisionId;
use async_trait::async_trait;

use super::{Known, LogPage, MAX_PAGE, Put, RouterStore, StoreError, judge};
use crate::engine::LogEntry;
use crate::item::{ContentHash, Item, ItemId};

/// A store in memory.
#[derive(Debug, Default)]
pub struct MemoryRouterStore(Mutex<Tables>);

#[derive(Debug, Default)]
struct Tables {
    items: BTreeMap<ItemId, Item>,
    approved: BTreeMap<ItemId, ContentHash>,
    /// What items said when they were taken out.
    gone: BTreeMap<ItemId, ContentHash>,
    openings: u64,
    embeddings: BTreeMap<[u8; 32], Vec<f32>>,
    log: VecDeque<LogEntry>,
    /// How many entries were taken out before those.
    cut: u64,
    learned: Option<(u64, Vec<u8>)>,
    decisions: BTreeSet<DecisionId>,
    outcomes: BTreeSet<DecisionId>,
}

impl MemoryRouterStore {
    /// An empty store.
    pub fn new() -> Self {
        Self::default()
    }

    fn tables(&self) -> MutexGuard<'_, Tables> {
        // A change is checked in full before it is made, so a poisoned lock guards whole tables.
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[async_trait]
impl RouterStore for MemoryRouterStore {
    async fn open_again(&self) -> Result<u64, StoreError> {
        let mut tables = self.tables();
        tables.openings += 1;
        Ok(tables.openings - 1)
    }

    async fn put_items(&self, items: &[Item]) -> Result<Put, StoreError> {
        let mut tables = self.tables();
        let known = items
            .iter()
            .map(|item| (item.id().clone(), tables.known(item.id())));
        let judged = judge(items, known.collect());
        let first = tables.cut + tables.log.len() as u64 + 1;
        let forgot = judged.forgot.iter().cloned();
        tables.log.extend(forgot.map(|item| LogEntry::Forgot { item }));
        tables.approved.extend(judged.pins.clone());
        let items = items.iter().map(|item| (item.id().clone(), item.clone()));
        tables.items.extend(items);
        Ok(Put::new(judged, first..))
    }

    async fn remove_item(&self, id: &ItemId) -> Result<bool, StoreError> {
        let mut tables = self.tables();
        let Some(item) = tables.items.remove(id) else {
            return Ok(false);
        };
        tables.gone.insert(id.clone(), item.content_hash());
        Ok(true)
    }

    async fn items(&self, after: Option<&ItemId>, limit: usize) -> Result<Vec<Item>, StoreError> {
        let from = after.map_or(Bound::Unbounded, Bound::Excluded);
        let tables = self.tables();
        let found = tables.items.range::<ItemId, _>((from, Bound::Unbounded));
        Ok(found
            .take(limit.min(MAX_PAGE))
            .map(|(_, item)| item.clone())
            .collect())
    }

    async fn approve(&self, id: &ItemId, hash: ContentHash) -> Result<(), StoreError> {
        self.tables().approved.insert(id.clone(), hash);
        Ok(())
    }

    async fn approved(&self) -> Result<Vec<(ItemId, ContentHash)>, StoreError> {
        Ok(self
            .tables()
            .approved
            .iter()
            .map(|(id, hash)| (id.clone(), *hash))
            .collect())
    }

    async fn put_embedding(&self, key: [u8; 32], vector: &[f32]) -> Result<(), StoreError> {
        self.tables().embeddings.insert(key, vector.to_vec());
        Ok(())
    }

    async fn embedding(&self, key: [u8; 32]) -> Result<Option<Vec<f32>>, StoreError> {
        Ok(self.tables().embeddings.get(&key).cloned())
    }

    async fn embedding_keys(
        &self,
        after: Option<[u8; 32]>,
        limit: usize,
    ) -> Result<Vec<[u8; 32]>, StoreError> {
        let from = after.map_or(Bound::Unbounded, Bound::Excluded);
        let tables = self.tables();
        let found = tables.embeddings.range((from, Bound::Unbounded));
        Ok(found.take(limit.min(MAX_PAGE)).map(|(key, _)| *key).collect())
    }

    async fn remove_embeddings(&self, keys: &[[u8; 32]]) -> Result<u64, StoreError> {
        let mut tables = self.tables();
        let gone = keys.iter().filter(|key| tables.embeddings.remove(*key).is_some());
        Ok(gone.count() as u64)
    }

    async fn append(&self, entry: &LogEntry) -> Result<u64, StoreError> {
        let mut tables = self.tables();
        match entry {
            LogEntry::Decided(decision) => {
                if !tables.decisions.insert(decision.id) {
                    return Err(StoreError::Twice);
                }
            }
            LogEntry::Recorded { decision, .. } => {
                if !tables.decisions.contains(decision) {
                    return Err(StoreError::UnknownDecision);
                }
                if !tables.outcomes.insert(*decision) {
                    return Err(StoreError::Twice);
                }
            }
            LogEntry::Forgot { .. } => {}
        }
        tables.log.push_back(entry.clone());
        Ok(tables.cut + tables.log.len() as u64)
    }

    async fn log(&self, after: u64, limit: usize) -> Result<LogPage, StoreError> {
        let tables = self.tables();
        let skip = usize::try_from(after.saturating_sub(tables.cut)).unwrap_or(usize::MAX);
        let numbered = (tables.cut + 1..).zip(&tables.log).skip(skip);
        let entries = numbered
            .take(limit.min(MAX_PAGE))
            .map(|(n, entry)| (n, entry.clone()));
        Ok(LogPage {
            entries: entries.collect(),
        })
    }

    async fn keep_learned(&self, at: u64, learned: &[u8], decisions: usize) -> Result<(), StoreError> {
        let mut tables = self.tables();
        if tables.learned.as_ref().is_none_or(|(before, _)| *before < at) {
            tables.learned = Some((at, learned.to_vec()));
        }
        tables.cut(at, decisions);
        Ok(())
    }

    async fn learned(&self) -> Result<Option<(u64, Vec<u8>)>, StoreError> {
        Ok(self.tables().learned.clone())
    }
}

impl Tables {
    fn known(&self, id: &ItemId) -> Known {
        let (gone, approved) = (self.gone.get(id), self.approved.get(id));
        Known::new(self.items.get(id), gone.copied(), approved.copied())
    }

    fn cut(&mut self, at: u64, decisions: usize) {
        let decided = |(_, entry): &(u64, &LogEntry)| matches!(entry, LogEntry::Decided(_));
        let numbered = (self.cut + 1..).zip(&self.log);
        let places: Vec<u64> = numbered.filter(decided).map(|(n, _)| n).collect();
        let Some(first) = places.len().checked_sub(decisions.max(1)) else {
            return;
        };
        while self.cut + 1 < places[first] && self.cut < at {
            match self.log.pop_front() {
                Some(LogEntry::Decided(decision)) => drop(self.decisions.remove(&decision.id)),
                Some(LogEntry::Recorded { decision, .. }) => drop(self.outcomes.remove(&decision)),
                _ => {}
            }
            self.cut += 1;
        }
    }
}
