//! The ledger in memory: for tests, examples and programs that keep nothing.

use std::collections::BTreeMap;
use std::sync::{Mutex, MutexGuard, PoisonError};

use aion_types::{ForecasterId, MarketId};
use async_trait::async_trait;

use super::{Change, LedgerStore, Revision, StoreError};
use crate::ledger::{Account, Settlement};

/// Trust in memory.
#[derive(Debug, Default)]
pub struct MemoryLedgerStore(Mutex<Tables>);

#[derive(Debug, Default)]
struct Tables {
    revision: u64,
    accounts: BTreeMap<ForecasterId, Account>,
    settlements: BTreeMap<MarketId, Settlement>,
}

impl MemoryLedgerStore {
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
impl LedgerStore for MemoryLedgerStore {
    async fn accounts(&self, ids: &[ForecasterId]) -> Result<(Revision, Vec<Account>), StoreError> {
        let tables = self.tables();
        let found = ids
            .iter()
            .filter_map(|id| tables.accounts.get(id).cloned())
            .collect();
        Ok((Revision::new(tables.revision), found))
    }

    async fn list(&self, limit: usize) -> Result<Vec<Account>, StoreError> {
        let mut all: Vec<Account> = self.tables().accounts.values().cloned().collect();
        all.sort_by_key(|account| std::cmp::Reverse(account.balance));
        all.truncate(limit);
        Ok(all)
    }

    async fn settlement(&self, market: MarketId) -> Result<Option<Settlement>, StoreError> {
        Ok(self.tables().settlements.get(&market).cloned())
    }

    async fn commit(&self, expected: Revision, change: &Change) -> Result<(), StoreError> {
        let mut tables = self.tables();
        let settled = tables.settlements.contains_key(&change.settlement.market);
        if tables.revision != expected.get() || settled {
            return Err(StoreError::Conflict {
                expected: expected.get(),
                found: tables.revision,
            });
        }
        tables.revision += 1;
        tables
            .settlements
            .insert(change.settlement.market, change.settlement.clone());
        for account in &change.accounts {
            tables.accounts.insert(account.id.clone(), account.clone());
        }
        Ok(())
    }
}
