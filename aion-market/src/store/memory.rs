//! The store in memory: for tests, examples and programs that keep nothing.

use std::collections::BTreeMap;
use std::sync::{Mutex, MutexGuard, PoisonError};

use aion_types::{ForecasterId, MarketId};
use async_trait::async_trait;

use super::{
    Batch, CursorMove, Logged, MarketFilter, MarketStore, MarketView, MarketWrite, ScoreRow, Standing,
    StoreError,
};
use crate::engine::Snapshot;
use crate::event::StoredEvent;
use crate::ledger::Entry;

/// Markets in memory.
#[derive(Debug, Default)]
pub struct MemoryMarketStore(Mutex<Tables>);

#[derive(Debug, Default)]
struct Tables {
    markets: BTreeMap<MarketId, Row>,
    scores: Vec<ScoreRow>,
    cursors: BTreeMap<String, u64>,
    /// Market and number of every event, in the order of the batches.
    log: Vec<(MarketId, u64)>,
}

#[derive(Debug)]
struct Row {
    view: MarketView,
    events: Vec<StoredEvent>,
    entries: Vec<Entry>,
    snapshot: Option<Snapshot>,
}

impl MemoryMarketStore {
    /// An empty store.
    pub fn new() -> Self {
        Self::default()
    }

    fn tables(&self) -> MutexGuard<'_, Tables> {
        // Every change is checked in full before it is made, so a poisoned lock guards whole tables.
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Tables {
    fn check(&self, write: &MarketWrite) -> Result<(), StoreError> {
        let (market, expected) = (write.view.id, write.expected);
        let found = self.markets.get(&market).map_or(0, |row| row.view.version);
        if found == expected {
            Ok(())
        } else {
            Err(StoreError::Conflict {
                market,
                expected,
                found,
            })
        }
    }

    fn check_cursor(&self, cursor: &CursorMove) -> Result<(), StoreError> {
        let found = self.cursors.get(&cursor.name).copied().unwrap_or(0);
        if found == cursor.from {
            return Ok(());
        }
        Err(StoreError::CursorConflict {
            name: cursor.name.clone(),
            expected: cursor.from,
            found,
        })
    }

    fn write(&mut self, write: &MarketWrite) {
        let row = self.markets.entry(write.view.id).or_insert_with(|| Row {
            view: write.view.clone(),
            events: Vec::new(),
            entries: Vec::new(),
            snapshot: None,
        });
        row.view = write.view.clone();
        let logged = write.events.iter().map(|stored| (write.view.id, stored.seq));
        self.log.extend(logged);
        row.events.extend(write.events.iter().cloned());
        row.entries.extend(write.entries.iter().cloned());
        if write.snapshot.is_some() {
            row.snapshot.clone_from(&write.snapshot);
        }
        self.scores.extend(write.scores.iter().cloned());
    }
}

#[async_trait]
impl MarketStore for MemoryMarketStore {
    async fn commit(&self, batch: &Batch) -> Result<(), StoreError> {
        batch.check_balance()?;
        let mut tables = self.tables();
        batch.writes.iter().try_for_each(|write| tables.check(write))?;
        batch
            .cursor
            .iter()
            .try_for_each(|cursor| tables.check_cursor(cursor))?;
        batch.writes.iter().for_each(|write| tables.write(write));
        if let Some(cursor) = &batch.cursor {
            tables.cursors.insert(cursor.name.clone(), cursor.to);
        }
        Ok(())
    }

    async fn events(
        &self,
        market: MarketId,
        after: u64,
        limit: usize,
    ) -> Result<Vec<StoredEvent>, StoreError> {
        let tables = self.tables();
        let events = tables.markets.get(&market).map_or(&[][..], |row| &row.events);
        let skip = usize::try_from(after).unwrap_or(usize::MAX);
        Ok(events.iter().skip(skip).take(limit).cloned().collect())
    }

    async fn log(&self, after: u64, limit: usize) -> Result<Vec<Logged>, StoreError> {
        let tables = self.tables();
        let skip = usize::try_from(after).unwrap_or(usize::MAX);
        let places = tables.log.iter().zip(1..).skip(skip).take(limit);
        let found = places.filter_map(|((market, seq), place)| {
            let events = &tables.markets.get(market)?.events;
            let stored = events.get(usize::try_from(*seq).ok()?.checked_sub(1)?)?.clone();
            let market = *market;
            Some(Logged {
                place,
                market,
                stored,
            })
        });
        Ok(found.collect())
    }

    async fn snapshot(&self, market: MarketId) -> Result<Option<Snapshot>, StoreError> {
        let tables = self.tables();
        Ok(tables.markets.get(&market).and_then(|row| row.snapshot.clone()))
    }

    async fn view(&self, market: MarketId) -> Result<Option<MarketView>, StoreError> {
        Ok(self.tables().markets.get(&market).map(|row| row.view.clone()))
    }

    async fn views(&self, filter: &MarketFilter, limit: usize) -> Result<Vec<MarketView>, StoreError> {
        let tables = self.tables();
        let fits = |view: &&MarketView| {
            filter.status.is_none_or(|status| view.status == status)
                && filter.kind.as_ref().is_none_or(|kind| view.spec.kind == *kind)
                && filter.before.is_none_or(|before| view.id < before)
        };
        let newest_first = tables.markets.values().rev().map(|row| &row.view);
        Ok(newest_first.filter(fits).take(limit).cloned().collect())
    }

    async fn entries(&self, market: MarketId, limit: usize) -> Result<Vec<Entry>, StoreError> {
        let tables = self.tables();
        let entries = tables.markets.get(&market).map_or(&[][..], |row| &row.entries);
        Ok(entries.iter().take(limit).cloned().collect())
    }

    async fn scores(&self, forecaster: &ForecasterId, limit: usize) -> Result<Vec<ScoreRow>, StoreError> {
        let tables = self.tables();
        let mut rows: Vec<&ScoreRow> = tables
            .scores
            .iter()
            .filter(|row| row.forecaster == *forecaster)
            .collect();
        rows.sort_by_key(|row| std::cmp::Reverse((row.resolved_at, row.market)));
        Ok(rows.into_iter().take(limit).cloned().collect())
    }

    async fn standings(&self, limit: usize) -> Result<Vec<Standing>, StoreError> {
        let tables = self.tables();
        let mut by_id: BTreeMap<&ForecasterId, Standing> = BTreeMap::new();
        for row in tables
            .scores
            .iter()
            .filter(|row| row.forecaster != ForecasterId::house())
        {
            let standing = by_id.entry(&row.forecaster).or_insert_with(|| Standing {
                forecaster: row.forecaster.clone(),
                gain: aion_types::MicroBits::ZERO,
                baseline: aion_types::MicroBits::ZERO,
                markets: 0,
                forecasts: 0,
            });
            standing.gain = standing.gain + row.gain;
            standing.baseline = standing.baseline + row.baseline;
            standing.markets += 1;
            standing.forecasts += row.forecasts;
        }
        let mut standings: Vec<Standing> = by_id.into_values().collect();
        standings.sort_by_key(|standing| std::cmp::Reverse(standing.gain));
        standings.truncate(limit);
        Ok(standings)
    }

    async fn cursor(&self, name: &str) -> Result<u64, StoreError> {
        Ok(self.tables().cursors.get(name).copied().unwrap_or(0))
    }
}
