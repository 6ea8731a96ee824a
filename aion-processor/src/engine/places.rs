//! Concurrency keys: so many tasks with one key may be ready to be claimed or running.
//!
//! A READY task without a place is gated: no claim sees it, so that claims never step over tasks.
//! Of the ready tasks with one key, those with a place are always the first by priority and age.

use aion_types::Status;
use serde::{Deserialize, Serialize};

use super::apply::{Before, Engine};
use super::row::Row;
use super::rows::{Rows, Space};
use crate::{Concurrency, Error, Result};

/// Places that one change fills at most; the next change goes on.
const FILL: u32 = 256;

/// How a key stands.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
struct KeyState {
    max: u32,
    /// Tasks with a place.
    placed: u32,
    /// Ready tasks without one.
    gated: u32,
}

impl<R: Rows> Engine<'_, R> {
    /// Writes a row that has a concurrency key, and gives free places to whoever comes first.
    pub(super) async fn place(&mut self, row: &mut Row, before: Before) -> Result<()> {
        let Some(Concurrency { key, max }) = row.concurrency.clone() else {
            return self.rows.put(row, before.status).await;
        };
        let mut state: KeyState = self.find(Space::Key, &key).await?.unwrap_or_default();
        state.placed -= u32::from(before.had_place).min(state.placed);
        state.gated -= u32::from(before.gated).min(state.gated);
        row.gated = false;
        match row.status {
            Status::Ready => {
                state.max = max;
                row.gated = state.gated > 0 || state.placed >= state.max;
                state.gated += u32::from(row.gated);
                state.placed += u32::from(!row.gated);
            }
            Status::Running => state.placed += 1,
            _ => {}
        }
        self.rows.put(row, before.status).await?;
        self.fill(&key, &mut state, row).await?;
        if row.gated {
            self.overtake(&key, row).await?;
        }
        self.keep(&key, state).await
    }

    async fn fill(&mut self, key: &str, state: &mut KeyState, row: &mut Row) -> Result<()> {
        for _ in 0..FILL {
            if state.placed >= state.max || state.gated == 0 {
                break;
            }
            let first = self.rows.first_gated(key).await?;
            let mut first = first.ok_or_else(|| Error::Corrupt(format!("nobody waits for the key {key}")))?;
            first.gated = false;
            self.rows.put_gated(&first).await?;
            state.gated -= 1;
            state.placed += 1;
            row.gated &= first.id != row.id;
        }
        Ok(())
    }

    /// A task that comes before one with a place takes that place, unless the other runs already.
    async fn overtake(&mut self, key: &str, row: &mut Row) -> Result<()> {
        let Some(mut last) = self.rows.last_placed(key).await? else {
            return Ok(());
        };
        if last.rank() <= row.rank() {
            return Ok(());
        }
        last.gated = true;
        self.rows.put_gated(&last).await?;
        row.gated = false;
        self.rows.put_gated(row).await
    }

    async fn keep(&mut self, key: &str, state: KeyState) -> Result<()> {
        if state.placed == 0 && state.gated == 0 {
            return self.rows.drop_named(Space::Key, key).await;
        }
        self.store(Space::Key, key, None, &state).await
    }
}
