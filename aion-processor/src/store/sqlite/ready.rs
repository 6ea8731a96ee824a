//! What claims find: ready tasks, queues and places.

use std::collections::{HashMap, HashSet, VecDeque};

use aion_types::{Status, TaskId};

use super::codec::{Columns as _, to_text};
use super::native::query;
use super::sql;
use super::tx::Tx;
use crate::engine::row::{Body, Row};
use crate::engine::rows::Rows;
use crate::store::group::Unit;
use crate::{ClaimOrder, ClaimReq, Op, Result};

/// Queues and kinds.
type Filter = (Vec<String>, Vec<String>);

/// The first ready tasks for the claims of one transaction, so that many claims cost one search. It holds until
/// a task becomes ready; tasks that were taken from it are passed over.
#[derive(Debug, Default)]
pub(super) struct Shelf {
    /// How many tasks the claims that are still to come may take.
    wanted: HashMap<Filter, u32>,
    lists: HashMap<Filter, List>,
    /// Tasks that are not ready any more, by place of creation.
    gone: HashSet<u64>,
}

#[derive(Debug, Default)]
struct List {
    tasks: VecDeque<(Row, Body)>,
    /// Whether there were no more.
    whole: bool,
}

impl Shelf {
    /// For what the units of a transaction claim.
    pub(super) fn of(units: &[Unit<'_>]) -> Self {
        let mut shelf = Self::default();
        for claim in units.iter().filter_map(claim_of) {
            if claim.task.is_none() && claim.order == ClaimOrder::Priority {
                *shelf.wanted.entry(filter(claim)).or_default() += claim.max;
            }
        }
        shelf
    }

    /// Forgets what it holds, for something has become ready.
    pub(super) fn clear(&mut self) {
        self.lists.clear();
        self.gone.clear();
    }

    /// A task is not ready any more.
    pub(super) fn pass_over(&mut self, ord: u64) {
        if !self.lists.is_empty() {
            self.gone.insert(ord);
        }
    }

    /// The next tasks of a list that has enough of them; one that has not is forgotten.
    fn take(&mut self, filter: &Filter, max: u32) -> Option<Vec<(Row, Body)>> {
        let list = self.lists.get_mut(filter)?;
        let mut found = Vec::new();
        while found.len() < max as usize {
            match list.tasks.pop_front() {
                Some((row, _)) if self.gone.contains(&row.ord) => {}
                Some(task) => found.push(task),
                None if list.whole => break,
                None => {
                    self.lists.remove(filter);
                    return None;
                }
            }
        }
        Some(found)
    }
}

fn claim_of<'a>(unit: &Unit<'a>) -> Option<&'a ClaimReq> {
    match unit {
        Unit::Claim(req) => Some(req),
        Unit::Op(write) => match &write.op {
            Op::CompleteAndClaim { claim, .. } => Some(claim),
            _ => None,
        },
        Unit::Due(_) => None,
    }
}

fn filter(claim: &ClaimReq) -> Filter {
    (claim.queues.clone(), claim.kinds.clone())
}

impl Tx<'_, '_> {
    /// See [`Rows::ready`].
    pub(super) async fn find_ready(&mut self, claim: &ClaimReq) -> Result<Vec<(Row, Body)>> {
        if let Some(task) = claim.task {
            return self.ready_task(claim, task).await;
        }
        let filter = filter(claim);
        let wanted = self.shelf.wanted.get_mut(&filter);
        let together = wanted.map_or(0, |wanted| {
            let all = *wanted;
            *wanted = wanted.saturating_sub(claim.max);
            all
        });
        if let Some(found) = self.shelf.take(&filter, claim.max) {
            return Ok(found);
        }
        if together <= claim.max {
            return self.search_ready(claim, claim.max);
        }
        let found = self.search_ready(claim, together)?;
        let list = List {
            whole: found.len() < together as usize,
            tasks: found.into(),
        };
        self.shelf.lists.insert(filter.clone(), list);
        Ok(self.shelf.take(&filter, claim.max).unwrap_or_default())
    }

    fn search_ready(&mut self, claim: &ClaimReq, max: u32) -> Result<Vec<(Row, Body)>> {
        let mut found = match (claim.queues.is_empty(), claim.kinds.is_empty()) {
            (false, _) => self.ready_in_queues(claim, max)?,
            (true, false) => self.ready_of_kinds(claim, max)?,
            (true, true) => self.whole(&query(sql::READY).bind(max))?,
        };
        found.sort_by_key(|(row, _)| row.rank());
        found.dedup_by_key(|(row, _)| row.ord);
        found.truncate(max as usize);
        Ok(found)
    }

    /// See [`Rows::ready_queues`].
    pub(super) fn find_ready_queues(&mut self, from: &str, limit: u32) -> Result<Vec<String>> {
        let statement = query(sql::READY_QUEUES).bind(from.to_owned());
        self.all(&statement.bind(i64::from(limit)), |row| row.text(0))
    }

    fn ready_in_queues(&mut self, claim: &ClaimReq, max: u32) -> Result<Vec<(Row, Body)>> {
        let kinds = to_text(&claim.kinds)?;
        let mut found = Vec::new();
        for queue in &claim.queues {
            let statement = query(sql::READY_QUEUE).bind(queue).bind(&kinds);
            found.extend(self.whole(&statement.bind(max))?);
        }
        Ok(found)
    }

    fn ready_of_kinds(&mut self, claim: &ClaimReq, max: u32) -> Result<Vec<(Row, Body)>> {
        let mut found = Vec::new();
        for kind in &claim.kinds {
            let statement = query(sql::READY_KIND).bind(kind).bind(max);
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
