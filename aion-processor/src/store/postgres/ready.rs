//! What claims find: ready tasks, queues and places.

use std::collections::HashMap;

use aion_types::{Status, TaskId};

use super::codec::{self, storage, text};
use super::sql;
use super::tx::Tx;
use crate::engine::row::{Body, Row};
use crate::{ClaimReq, Result};

/// The first ready tasks for the claims of one transaction, so that many claims cost one search. It holds until
/// a task becomes ready; tasks that were taken from it are passed over.
#[derive(Debug, Default)]
pub(super) struct Shelf {
    /// How many tasks the claims of the transaction may want altogether.
    pub(super) wanted: u32,
    lists: HashMap<(Vec<String>, Vec<String>), List>,
}

#[derive(Debug, Default)]
struct List {
    tasks: Vec<(TaskId, Body)>,
    /// Tasks at the front that are known to be taken.
    taken: usize,
    /// Whether there were no more.
    whole: bool,
}

impl Shelf {
    /// Forgets what it holds, for something has become ready.
    pub(super) fn clear(&mut self) {
        self.lists.clear();
    }
}

impl Tx<'_> {
    /// See [`Rows::ready`](crate::engine::rows::Rows::ready).
    pub(super) async fn find_ready(&mut self, claim: &ClaimReq) -> Result<Vec<(Row, Body)>> {
        if let Some(task) = claim.task {
            return self.ready_task(claim, task).await;
        }
        let filter = (claim.queues.clone(), claim.kinds.clone());
        if let Some(found) = self.shelved(&filter, claim.max) {
            return Ok(found);
        }
        self.flush_tasks().await?;
        let wanted = claim.max.max(self.shelf.wanted);
        let found = self.search_ready(claim, wanted).await?;
        let list = List {
            whole: found.len() < wanted as usize,
            tasks: found.into_iter().map(|(row, body)| (row.id, body)).collect(),
            taken: 0,
        };
        self.shelf.lists.insert(filter.clone(), list);
        Ok(self.shelved(&filter, claim.max).unwrap_or_default())
    }

    /// The next tasks of a list that has enough of them.
    fn shelved(&mut self, filter: &(Vec<String>, Vec<String>), max: u32) -> Option<Vec<(Row, Body)>> {
        let list = self.shelf.lists.get_mut(filter)?;
        let known = &self.known;
        let ready = |id: &TaskId| {
            let row = known.get(id).and_then(Option::as_ref);
            row.filter(|row| row.status == Status::Ready && !row.gated)
        };
        let taken = list.tasks[list.taken..]
            .iter()
            .take_while(|(id, _)| ready(id).is_none());
        list.taken += taken.count();
        let found: Vec<(Row, Body)> = list.tasks[list.taken..]
            .iter()
            .filter_map(|(id, body)| Some((ready(id)?.clone(), body.clone())))
            .take(max as usize)
            .collect();
        (list.whole || found.len() == max as usize).then_some(found)
    }

    async fn search_ready(&mut self, claim: &ClaimReq, max: u32) -> Result<Vec<(Row, Body)>> {
        let max = i64::from(max);
        let mut found = Vec::new();
        for queue in &claim.queues {
            let kinds: Vec<String> = claim.kinds.iter().map(|kind| text(kind)).collect();
            let statement = sqlx::query(sql::READY_QUEUE).bind(text(queue)).bind(kinds);
            found.extend(self.whole(statement.bind(max)).await?);
        }
        if claim.queues.is_empty() {
            for kind in &claim.kinds {
                let statement = sqlx::query(sql::READY_KIND).bind(text(kind));
                found.extend(self.whole(statement.bind(max)).await?);
            }
            if claim.kinds.is_empty() {
                found = self.whole(sqlx::query(sql::READY).bind(max)).await?;
            }
        }
        found.sort_by_key(|(row, _)| (std::cmp::Reverse(row.priority), row.ready_seq));
        found.dedup_by_key(|(row, _)| row.ord);
        found.truncate(max.unsigned_abs() as usize);
        Ok(found)
    }

    /// See [`Rows::ready_queues`](crate::engine::rows::Rows::ready_queues).
    pub(super) async fn find_ready_queues(&mut self, limit: u32) -> Result<Vec<String>> {
        self.flush_tasks().await?;
        let statement = sqlx::query_scalar::<_, String>(sql::READY_QUEUES).bind(i64::from(limit));
        let found = statement.fetch_all(&mut *self.conn).await.map_err(storage)?;
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
