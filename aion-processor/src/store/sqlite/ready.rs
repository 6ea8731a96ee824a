//! What claims find: ready tasks, queues and places.

use aion_types::{Status, TaskId};

use super::codec::{Columns as _, to_text};
use super::native::query;
use super::sql;
use super::tx::Tx;
use crate::engine::row::{Body, Row};
use crate::engine::rows::Rows;
use crate::{ClaimReq, Result};

impl Tx<'_> {
    /// See [`Rows::ready`].
    pub(super) async fn find_ready(&mut self, claim: &ClaimReq) -> Result<Vec<(Row, Body)>> {
        let mut found = match (claim.task, claim.queues.is_empty(), claim.kinds.is_empty()) {
            (Some(task), ..) => self.ready_task(claim, task).await?,
            (None, false, _) => self.ready_in_queues(claim)?,
            (None, true, false) => self.ready_of_kinds(claim)?,
            (None, true, true) => self.whole(&query(sql::READY).bind(i64::from(claim.max)))?,
        };
        found.sort_by_key(|(row, _)| (std::cmp::Reverse(row.priority), row.ready_seq));
        found.dedup_by_key(|(row, _)| row.ord);
        found.truncate(claim.max as usize);
        Ok(found)
    }

    /// See [`Rows::ready_queues`].
    pub(super) fn find_ready_queues(&mut self, limit: u32) -> Result<Vec<String>> {
        let statement = query(sql::READY_QUEUES).bind(i64::from(limit));
        self.all(&statement, |row| row.text(0))
    }

    fn ready_in_queues(&mut self, claim: &ClaimReq) -> Result<Vec<(Row, Body)>> {
        let kinds = to_text(&claim.kinds)?;
        let mut found = Vec::new();
        for queue in &claim.queues {
            let statement = query(sql::READY_QUEUE).bind(queue.clone()).bind(kinds.clone());
            found.extend(self.whole(&statement.bind(i64::from(claim.max)))?);
        }
        Ok(found)
    }

    fn ready_of_kinds(&mut self, claim: &ClaimReq) -> Result<Vec<(Row, Body)>> {
        let mut found = Vec::new();
        for kind in &claim.kinds {
            let statement = query(sql::READY_KIND)
                .bind(kind.clone())
                .bind(i64::from(claim.max));
            found.extend(self.whole(&statement)?);
        }
        Ok(found)
    }

    async fn ready_task(&mut self, claim: &ClaimReq, task: TaskId) -> Result<Vec<(Row, Body)>> {
        let fits = |row: &Row| {
            row.status == Status::Ready
                && !row.gated
                && claim.max > 0
                && (claim.queues.is_empty() || claim.queues.contains(&row.queue))
                && (claim.kinds.is_empty() || claim.kinds.contains(&row.kind))
        };
        match self.row(task).await?.filter(fits) {
            Some(row) => Ok(vec![(row.clone(), self.body(&row).await?)]),
            None => Ok(Vec::new()),
        }
    }
}
