//! What a writer knows of the database from one of its transactions to the next.
//!
//! Every transaction that writes changes the row `state`, so the number of the transaction that wrote it last (its
//! `xmin`) tells whether anybody else has written since. While nobody has, the rows that were read or written before are
//! as they were, and a group that needs no others is one journey to the server.

use std::collections::{HashMap, HashSet};
use std::time::{Duration, Instant};

use aion_types::{Status, TaskId, Timestamp};

use super::ready::Shelf;
use super::tx::Tx;
use crate::engine::row::Row;

/// Rows that are kept at most; then all are forgotten.
const MOST: usize = 8_192;
/// For how long the server's clock is reckoned from its last answer.
const FRESH: Duration = Duration::from_secs(1);

/// The server as its last answer left it.
#[derive(Debug, Clone, Copy)]
pub(super) struct Turn {
    /// The transaction that wrote last.
    pub(super) number: i64,
    /// The server's clock then, in milliseconds.
    pub(super) ms: i64,
    pub(super) heard: Instant,
}

impl Turn {
    pub(super) fn new(number: i64, ms: i64) -> Self {
        Self {
            number,
            ms,
            heard: Instant::now(),
        }
    }

    /// The server's clock by now, never ahead of it.
    pub(super) fn now(self) -> Timestamp {
        let since = i64::try_from(self.heard.elapsed().as_millis()).unwrap_or(i64::MAX);
        Timestamp::from_ms(self.ms).plus_ms(since)
    }

    pub(super) fn is_fresh(self) -> bool {
        self.heard.elapsed() < FRESH
    }
}

/// What a transaction left, which holds until somebody else writes.
#[derive(Debug)]
pub(super) struct Known {
    pub(super) turn: Turn,
    pub(super) last_seq: u64,
    pub(super) last_ord: u64,
    pub(super) rows: HashMap<TaskId, Option<Row>>,
    pub(super) lonely: HashSet<u64>,
    pub(super) shelf: Shelf,
}

impl Known {
    /// What is worth keeping of a transaction that has ended: tasks that are at work, that wait for others, or that
    /// are next.
    pub(super) fn of(tx: Tx<'_>, turn: Turn) -> Option<Self> {
        let mut known = Self {
            turn,
            last_seq: tx.last_seq,
            last_ord: tx.last_ord,
            rows: tx.known,
            lonely: tx.lonely,
            shelf: tx.shelf,
        };
        for id in tx.met {
            known.settle(id);
        }
        (known.rows.len() <= MOST && known.lonely.len() <= MOST).then_some(known)
    }

    fn settle(&mut self, id: TaskId) {
        let row = self.rows.get(&id).and_then(Option::as_ref);
        let (ord, stays) = match row {
            Some(row) => {
                let at_work = matches!(row.status, Status::Running | Status::Blocked);
                (Some(row.ord), at_work || self.shelf.holds(id))
            }
            None => (None, false),
        };
        if !stays {
            self.rows.remove(&id);
            ord.map(|ord| self.lonely.remove(&ord));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_clock_goes_on_from_the_last_answer() {
        let turn = Turn::new(7, 1_000);
        assert!(turn.is_fresh());
        assert!(turn.now() >= Timestamp::from_ms(1_000));
        let old = Turn {
            heard: Instant::now().checked_sub(FRESH).unwrap(),
            ..turn
        };
        assert!(!old.is_fresh());
        assert!(old.now() >= Timestamp::from_ms(2_000));
    }
}
