//! What claims find: ready tasks, queues and places.

use std::collections::{HashMap, HashSet};

use aion_types::{Status, TaskId};

use super::codec::{self, storage, text};
use super::sql;
use super::tx::Tx;
use crate::engine::row::{Body, Rank, Row};
use crate::{ClaimReq, Result};

/// How many tasks are searched for at once, if that is more than is wanted.
const AHEAD: u32 = 512;
/// Bytes of texts that one list holds ready.
const BYTES: usize = 4 << 20;
/// Tasks in all lists together; then all are forgotten.
const ALL: usize = 4_096;
/// Lists at most; then all are forgotten.
const LISTS: usize = 256;

/// Queues and kinds that a claim asks for.
type Filter = (Vec<String>, Vec<String>);

/// The next ready tasks, so that many claims cost one search, also those of later transactions while nobody else
/// writes. Tasks that were taken are passed over.
#[derive(Debug, Default)]
pub(super) struct Shelf {
    /// How many tasks the claims of the transaction may want altogether.
    pub(super) wanted: u32,
    lists: HashMap<Filter, List>,
    /// Tasks that lie in lists and were not seen to be taken.
    ids: HashSet<TaskId>,
    /// What the texts of a task took when a filter's tasks were found last.
    bytes_each: HashMap<Filter, usize>,
}

#[derive(Debug, Default)]
struct List {
    /// Where each stood when it was found: one that has become ready anew stands elsewhere.
    tasks: Vec<(TaskId, Rank, Body)>,
    /// Where its last task stands.
    last: Option<Rank>,
    /// Tasks at the front that are known to be taken.
    taken: usize,
    /// Whether there were no more.
    whole: bool,
}

impl Shelf {
    /// Forgets what it holds.
    pub(super) fn clear(&mut self) {
        self.lists.clear();
        self.ids.clear();
    }

    /// A task has become ready: lists in the middle of which it belongs are forgotten.
    pub(super) fn arrive(&mut self, row: &Row) {
        let rank = row.rank();
        let before = self.lists.len();
        self.lists.retain(|_, list| {
            list.whole = false;
            list.last.is_none_or(|last| last < rank)
        });
        if self.lists.len() < before {
            self.count_again();
        }
    }

    /// Lists have gone: what lies only in those is not held any more.
    fn count_again(&mut self) {
        let left = self.lists.values().flat_map(|list| &list.tasks[list.taken..]);
        self.ids = left.map(|(id, ..)| *id).collect();
    }

    /// Whether a task may be handed out from here.
    pub(super) fn holds(&self, id: TaskId) -> bool {
        self.ids.contains(&id)
    }

    /// How many tasks to search for: more than is wanted as soon as it is known how large those of this filter are.
    fn ahead(&self, filter: &Filter, max: u32) -> u32 {
        let each = self.bytes_each.get(filter).copied().unwrap_or_default();
        let room = BYTES.checked_div(each).unwrap_or_default();
        let room = u32::try_from(room).unwrap_or(AHEAD);
        room.min(AHEAD).max(max).max(self.wanted)
    }

    fn add(&mut self, filter: Filter, list: List, bytes: usize) {
        if self.ids.len() + list.tasks.len() > ALL || self.lists.len() >= LISTS {
            self.clear();
        }
        if !list.tasks.is_empty() {
            if self.bytes_each.len() >= LISTS {
                self.bytes_each.clear();
            }
            let each = (bytes / list.tasks.len()).max(1);
            self.bytes_each.insert(filter.clone(), each);
        }
        self.ids.extend(list.tasks.iter().map(|(id, ..)| *id));
        if self.lists.insert(filter, list).is_some() {
            self.count_again();
        }
    }

    /// The next tasks of a list that has enough of them.
    fn next(
        &mut self,
        filter: &Filter,
        max: u32,
        known: &HashMap<TaskId, Option<Row>>,
    ) -> Option<Vec<(Row, Body)>> {
        let list = self.lists.get_mut(filter)?;
        let ready = |(id, at, _): &(TaskId, Rank, Body)| {
            let row = known.get(id).and_then(Option::as_ref);
            row.filter(|row| row.status == Status::Ready && !row.gated && row.rank() == *at)
        };
        while let Some(task) = list.tasks.get(list.taken).filter(|task| ready(task).is_none()) {
            let row = known.get(&task.0).and_then(Option::as_ref);
            // One that stands elsewhere by now may lie in another list.
            if row.is_none_or(|row| row.status != Status::Ready) {
                self.ids.remove(&task.0);
            }
            list.taken += 1;
        }
        let found: Vec<(Row, Body)> = list.tasks[list.taken..]
            .iter()
            .filter_map(|task| Some((ready(task)?.clone(), task.2.clone())))
            .take(max as usize)
            .collect();
        (list.whole || found.len() == max as usize).then_some(found)
    }
}

impl Tx<'_> {
    /// See [`Rows::ready`](crate::engine::rows::Rows::ready).
    pub(super) async fn find_ready(&mut self, claim: &ClaimReq) -> Result<Vec<(Row, Body)>> {
        if let Some(task) = claim.task {
            return self.ready_task(claim, task).await;
        }
        let filter = (claim.queues.clone(), claim.kinds.clone());
        if let Some(found) = self.shelf.next(&filter, claim.max, &self.known) {
            return Ok(found);
        }
        self.flush_tasks().await?;
        // The search sees who is waited for.
        self.flush_deps().await?;
        let wanted = self.shelf.ahead(&filter, claim.max);
        let (found, bytes) = self.search_ready(claim, wanted).await?;
        let list = List {
            whole: found.len() < wanted as usize,
            last: found.last().map(|(row, _)| row.rank()),
            tasks: found
                .into_iter()
                .map(|(row, body)| (row.id, row.rank(), body))
                .collect(),
            taken: 0,
        };
        self.shelf.add(filter.clone(), list, bytes);
        Ok(self
            .shelf
            .next(&filter, claim.max, &self.known)
            .unwrap_or_default())
    }

    /// The first ready tasks, and how many bytes their texts have.
    async fn search_ready(&mut self, claim: &ClaimReq, max: u32) -> Result<(Vec<(Row, Body)>, usize)> {
        let max = i64::from(max);
        let (mut found, mut bytes) = (Vec::new(), 0);
        for queue in &claim.queues {
            let kinds: Vec<String> = claim.kinds.iter().map(|kind| text(kind)).collect();
            let statement = sqlx::query(sql::READY_QUEUE).bind(text(queue)).bind(kinds);
            bytes += self.whole(statement.bind(max), &mut found).await?;
        }
        if claim.queues.is_empty() {
            for kind in &claim.kinds {
                let statement = sqlx::query(sql::READY_KIND).bind(text(kind));
                bytes += self.whole(statement.bind(max), &mut found).await?;
            }
            if claim.kinds.is_empty() {
                bytes += self.whole(sqlx::query(sql::READY).bind(max), &mut found).await?;
            }
        }
        found.sort_by_key(|(row, _)| row.rank());
        found.dedup_by_key(|(row, _)| row.ord);
        found.truncate(max.unsigned_abs() as usize);
        Ok((found, bytes))
    }

    /// See [`Rows::ready_queues`](crate::engine::rows::Rows::ready_queues).
    pub(super) async fn find_ready_queues(&mut self, from: &str, limit: u32) -> Result<Vec<String>> {
        self.flush_tasks().await?;
        let statement = sqlx::query_scalar::<_, String>(sql::READY_QUEUES)
            .bind(text(from))
            .bind(i64::from(limit));
        let found = statement.fetch_all(self.server().await?).await.map_err(storage)?;
        Ok(found.into_iter().map(codec::plain).collect())
    }

    async fn ready_task(&mut self, claim: &ClaimReq, task: TaskId) -> Result<Vec<(Row, Body)>> {
        use crate::engine::rows::Rows as _;
        let fits = |row: &Row| {
            row.status == Status::Ready
                && !row.gated
                && claim.max > 0
                && (claim.queues.is_empty() || claim.queues.contains(&row.queue))
                && (claim.kinds.is_empty() || claim.kinds.contains(&row.kind))
        };
        match self.find(task).await?.filter(fits) {
            Some(row) => {
                let body = self.body(&row).await?;
                Ok(vec![(row, body)])
            }
            None => Ok(Vec::new()),
        }
    }
}

#[cfg(test)]
mod tests {
    use aion_types::Timestamp;

    use super::*;
    use crate::NewTask;

    fn ready(priority: i32, ready_seq: u64) -> Row {
        let now = Timestamp::from_ms(1);
        let mut row = Row::new(&NewTask::new(TaskId::generate(now), "k", "t"), None, now);
        (row.status, row.priority, row.ready_seq) = (Status::Ready, priority, ready_seq);
        row
    }

    fn list(rows: &[Row]) -> List {
        List {
            last: rows.last().map(Row::rank),
            tasks: rows
                .iter()
                .map(|row| (row.id, row.rank(), Body::default()))
                .collect(),
            ..List::default()
        }
    }

    fn filter(queue: &str) -> Filter {
        (vec![queue.to_owned()], Vec::new())
    }

    /// What lies in no list any more is not held, and what lies in another one still is.
    #[test]
    fn what_is_forgotten_is_not_held() {
        let (first, shared, late) = (ready(0, 1), ready(0, 2), ready(0, 9));
        let mut shelf = Shelf::default();
        shelf.add(
            filter("a"),
            list(&[first.clone(), shared.clone(), late.clone()]),
            3,
        );
        shelf.add(filter("b"), list(std::slice::from_ref(&shared)), 1);
        // It belongs in the middle of the one list and behind the other.
        shelf.arrive(&ready(0, 5));
        let held = |shelf: &Shelf| [&first, &shared, &late].map(|row| shelf.holds(row.id));
        assert_eq!(held(&shelf), [false, true, false]);
        shelf.add(filter("b"), list(std::slice::from_ref(&late)), 1);
        assert_eq!(held(&shelf), [false, false, true]);
    }

    /// How far is read ahead follows the sizes of the same filter's tasks.
    #[test]
    fn small_tasks_are_read_ahead_and_large_ones_of_another_queue_are_not() {
        let mut shelf = Shelf::default();
        let (small, large) = (filter("small"), filter("large"));
        assert_eq!(shelf.ahead(&small, 3), 3);
        shelf.add(small.clone(), list(&[ready(0, 1)]), 100);
        shelf.add(large.clone(), list(&[ready(0, 2)]), 1 << 20);
        assert_eq!((shelf.ahead(&small, 3), shelf.ahead(&large, 1)), (AHEAD, 4));
    }
}
