//! Everything in memory: for tests, examples and programs that keep nothing.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::ops::Bound;
use std::sync::{Mutex, MutexGuard, PoisonError};

use aion_types::DecisionId;
use async_trait::async_trait;

use super::{LogPage, MAX_PAGE, RouterStore, StoreError};
use crate::engine::LogEntry;
use crate::item::{ContentHash, Item, ItemId};

/// A store in memory.
#[derive(Debug, Default)]
pub struct MemoryRouterStore(Mutex<Tables>);

#[derive(Debug, Default)]
struct Tables {
    items: BTreeMap<ItemId, Item>,
    approved: BTreeMap<ItemId, ContentHash>,
    embeddings: HashMap<[u8; 32], Vec<f32>>,
    log: Vec<LogEntry>,
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
    async fn put_items(&self, items: &[Item]) -> Result<(), StoreError> {
        let items = items.iter().map(|item| (item.id().clone(), item.clone()));
        self.tables().items.extend(items);
        Ok(())
    }

    async fn remove_item(&self, id: &ItemId) -> Result<bool, StoreError> {
        Ok(self.tables().items.remove(id).is_some())
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
        tables.log.push(entry.clone());
        Ok(tables.log.len() as u64)
    }

    async fn log(&self, after: u64, limit: usize) -> Result<LogPage, StoreError> {
        let tables = self.tables();
        let numbered = (1..)
            .zip(&tables.log)
            .skip(usize::try_from(after).unwrap_or(usize::MAX));
        let entries = numbered
            .take(limit.min(MAX_PAGE))
            .map(|(n, entry)| (n, entry.clone()));
        Ok(LogPage {
            entries: entries.collect(),
        })
    }
}
