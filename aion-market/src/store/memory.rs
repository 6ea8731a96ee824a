//! The store in memory: for tests, examples and programs that keep nothing.

use std::cmp::Reverse;
use std::collections::BTreeMap;
use std::ops::Bound;
use std::sync::{Mutex, MutexGuard, PoisonError};

use aion_types::{ForecasterId, MarketId};
use async_trait::async_trait;

use super::{
    Batch, CursorMove, Logged, MarketFilter, MarketStore, MarketView, MarketWrite, ScoreOrder, ScorePlace,
    ScoreRow, Standing, StoreError,
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
    scores: BTreeMap<ForecasterId, BTreeMap<ScorePlace, ScoreRow>>,
    standings: BTreeMap<ForecasterId, Standing>,
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
        write.scores.iter().for_each(|score| self.score(score));
    }

    fn score(&mut self, score: &ScoreRow) {
        let who = &score.forecaster;
        let of_who = self.scores.entry(who.clone()).or_default();
        of_who.insert(score.place(), score.clone());
        let one = Standing::of(score);
        match self.standings.get_mut(who) {
            Some(standing) => add(standing, &one),
            None => drop(self.standings.insert(who.clone(), one)),
        }
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

    async fn scores(
        &self,
        forecaster: &ForecasterId,
        order: ScoreOrder,
        limit: usize,
    ) -> Result<Vec<ScoreRow>, StoreError> {
        let tables = self.tables();
        let Some(rows) = tables.scores.get(forecaster) else {
            return Ok(Vec::new());
        };
        let after = |place| (Bound::Excluded(place), Bound::Unbounded);
        let found: Box<dyn Iterator<Item = _>> = match order {
            ScoreOrder::Latest => Box::new(rows.values().rev()),
            ScoreOrder::Before(place) => Box::new(rows.range(..place).rev().map(|(_, row)| row)),
            ScoreOrder::Oldest => Box::new(rows.values()),
            ScoreOrder::After(place) => Box::new(rows.range(after(place)).map(|(_, row)| row)),
        };
        Ok(found.take(limit).cloned().collect())
    }

    async fn standing(&self, forecaster: &ForecasterId) -> Result<Option<Standing>, StoreError> {
        Ok(self.tables().standings.get(forecaster).cloned())
    }

    async fn standings(&self, after: Option<&Standing>, limit: usize) -> Result<Vec<Standing>, StoreError> {
        let tables = self.tables();
        let house = ForecasterId::house();
        let rank = |standing: &Standing| (Reverse(standing.gain), standing.forecaster.clone());
        let mut standings: Vec<&Standing> = tables.standings.values().collect();
        standings.retain(|standing| {
            standing.forecaster != house && after.is_none_or(|after| rank(standing) > rank(after))
        });
        standings.sort_by_key(|standing| rank(standing));
        Ok(standings.into_iter().take(limit).cloned().collect())
    }

    async fn cursor(&self, name: &str) -> Result<u64, StoreError> {
        Ok(self.tables().cursors.get(name).copied().unwrap_or(0))
    }
}

fn add(standing: &mut Standing, one: &Standing) {
    standing.gain = standing.gain + one.gain;
    standing.squared_bits += one.squared_bits;
    standing.baseline = standing.baseline + one.baseline;
    standing.markets += one.markets;
    standing.forecasts += one.forecasts;
}
