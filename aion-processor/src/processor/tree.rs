//! Whole trees: copied out, taken over, removed.

use std::collections::VecDeque;

use aion_types::{Status, TaskId, TaskRecord, Timestamp};
use futures::Stream;
use futures::stream::{self, StreamExt};

use super::{Processor, unexpected};
use crate::{
    Done, EndedQuery, Error, MessageQuery, Op, Page, Piece, Purged, Query, Result, StepQuery, TaskCopy,
    TaskQuery,
};

/// Messages or steps in one piece of an export.
const MESSAGES: u32 = 100;
/// Tasks that one step of a purge removes.
const PURGE: u32 = 500;
/// Children that one step of an export reads.
const CHILDREN: u32 = 500;

impl Processor {
    /// Copies a task and everything below it, parents first, each with its messages and steps; nothing of it is
    /// held in memory but the ids of tasks whose children are still to come. The tree may go on
    /// meanwhile: every task is copied as it is when its turn comes.
    ///
    /// What tasks hold and wait for is not copied, nor are the idempotency keys of messages.
    ///
    /// # Errors
    /// Each item of the stream may be a failure of the storage; the first also
    /// [`Error::NotFound`].
    pub fn export(&self, task: TaskId) -> impl Stream<Item = Result<Piece>> + Send + 'static {
        let walk = Walk {
            processor: self.clone(),
            next: VecDeque::from([Step::Task(task)]),
        };
        stream::try_unfold(walk, |mut walk| async move {
            let piece = walk.step().await?;
            Ok::<_, Error>(piece.map(|piece| (piece, walk)))
        })
        .boxed()
    }

    /// Takes over what another store's [`export`](Self::export) gave, with the same ids; gives how
    /// many tasks came. Doing so again, because it was cut off, goes on where it ended.
    ///
    /// The top comes below `under`; without one it becomes a root. Tasks that ran or waited over there
    /// are ready here, each when all of it has come: stop their old holders first, whose epochs are refused here.
    ///
    /// # Errors
    /// [`Error::Conflict`] if an id belongs to another task, if a task that is here has gone on since it came (only what is
    /// there already is passed over), or if the tree that it comes into is being removed; a limit; whatever the stream
    /// gives.
    pub async fn import<S>(&self, pieces: S, under: Option<TaskId>) -> Result<u64>
    where
        S: Stream<Item = Result<Piece>> + Send,
    {
        let mut pieces = std::pin::pin!(pieces);
        let (mut tasks, mut resting) = (0, None);
        while let Some(piece) = pieces.next().await {
            match piece? {
                Piece::Task(mut copy) => {
                    self.start_copy(resting.take()).await?;
                    if tasks == 0 {
                        copy.task.parent_id = under;
                    }
                    tasks += 1;
                    resting = self.import_copy(copy).await?;
                }
                Piece::Messages(messages) => drop(self.one(Op::ImportMessages(messages)).await?),
                Piece::Steps(steps) => drop(self.one(Op::ImportSteps(steps)).await?),
            }
        }
        self.start_copy(resting).await?;
        Ok(tasks)
    }

    /// The task, if it is to start when all of it has come.
    async fn import_copy(&self, copy: Box<TaskCopy>) -> Result<Option<TaskId>> {
        let (goes_on, epoch) = (copy.goes_on(), copy.epoch_here());
        match self.one(Op::Import(copy)).await? {
            Done::Record(here) => {
                let rests = here.status == Status::Preparing && here.lease_epoch == epoch;
                Ok((goes_on && rests).then_some(here.id))
            }
            other => Err(unexpected(&other)),
        }
    }

    async fn start_copy(&self, task: Option<TaskId>) -> Result<()> {
        let Some(task) = task else { return Ok(()) };
        match self.start(task).await {
            // It rested for so long that it has started by itself.
            Ok(_) | Err(Error::IllegalTransition { .. }) => Ok(()),
            Err(error) => Err(error),
        }
    }

    /// Removes a tree that has ended as a whole, with its messages and events; gives how many tasks
    /// are gone.
    ///
    /// # Errors
    /// [`Error::IllegalTransition`] while a task of it has not ended; [`Error::Invalid`] if `root` is
    /// no root; [`Error::NotFound`].
    pub async fn purge(&self, root: TaskId) -> Result<u64> {
        self.purge_at(root, None).await
    }

    /// As [`purge`](Self::purge), but only a tree that is still as it was when `root` was read: it [stands](Self::stands).
    ///
    /// # Errors
    /// [`Error::Conflict`] if it does not; as [`purge`](Self::purge).
    pub async fn purge_unchanged(&self, root: &TaskRecord) -> Result<u64> {
        self.purge_at(root.id, Some(root.version)).await
    }

    async fn purge_at(&self, root: TaskId, mut version: Option<u64>) -> Result<u64> {
        let mut removed = 0;
        loop {
            let step = match self.purge_step(root, version.take()).await {
                // The clock's keeper has removed the rest.
                Err(Error::NotFound(_)) if removed > 0 => return Ok(removed),
                step => step?,
            };
            removed += u64::from(step.removed);
            if !step.more {
                return Ok(removed);
            }
        }
    }

    async fn purge_step(&self, root: TaskId, version: Option<u64>) -> Result<Purged> {
        let max = PURGE;
        match self.one(Op::Purge { root, max, version }).await? {
            Done::Purged(purged) => Ok(purged),
            other => Err(unexpected(&other)),
        }
    }

    /// Removes the trees whose roots ended before `before`, and of which no task is open; `archive` is
    /// asked for each of them first and keeps it, for instance by writing out its
    /// [`export`](Self::export). Gives how many trees are gone.
    ///
    /// A tree into which something comes meanwhile stays, and is archived again by the next call. If others may remove
    /// trees at the same time, `archive` asks at its end whether the tree still [stands](Self::stands): if not, what it
    /// wrote may be less than all of it, and is to be thrown away.
    ///
    /// # Errors
    /// Whatever `archive` gives, or a failure of the storage; the trees before that one are gone.
    pub async fn retire<F, E>(&self, before: Timestamp, mut archive: F) -> Result<u64, E>
    where
        F: AsyncFnMut(&TaskRecord) -> Result<(), E>,
        E: From<Error>,
    {
        let mut query = EndedQuery {
            before,
            after: None,
            limit: 0,
        };
        let mut gone = 0;
        loop {
            let roots = self.task_page(Query::EndedRoots(query.clone())).await?.tasks;
            let Some(last) = roots.last() else {
                return Ok(gone);
            };
            query.after = last.finished_at.map(|at| (at, last.id));
            for root in &roots {
                if !self.is_over(root.id).await? || !self.stands(root).await? {
                    continue;
                }
                archive(root).await?;
                match self.purge_unchanged(root).await {
                    Ok(_) => gone += 1,
                    Err(Error::Conflict(_) | Error::NotFound(_)) => {}
                    Err(error) => return Err(error.into()),
                }
            }
        }
    }

    /// Whether a tree that has ended is still as it was when its `root` was read: nothing came into it, and nobody has begun
    /// to remove it.
    ///
    /// # Errors
    /// A failure of the storage.
    pub async fn stands(&self, root: &TaskRecord) -> Result<bool> {
        let found = self.find(root.id).await?;
        Ok(found.is_some_and(|found| found.version == root.version))
    }

    /// Whether every task of the tree has ended.
    async fn is_over(&self, root: TaskId) -> Result<bool> {
        let open: Vec<_> = Status::ALL
            .into_iter()
            .filter(|status| !status.is_terminal())
            .collect();
        let query = TaskQuery::new().with_root(root).with_statuses(open).with_limit(1);
        Ok(self.tasks(query).await?.tasks.is_empty())
    }
}

/// What an export does next.
enum Step {
    Task(TaskId),
    Messages(TaskId, u64),
    Steps(TaskId, u64),
    Children(TaskId, TaskQuery),
}

struct Walk {
    processor: Processor,
    next: VecDeque<Step>,
}

impl Walk {
    async fn step(&mut self) -> Result<Option<Piece>> {
        while let Some(step) = self.next.pop_front() {
            let piece = match step {
                Step::Task(task) => Some(self.task(task).await?),
                Step::Messages(task, from) => self.messages(task, from).await?,
                Step::Steps(task, after) => self.steps(task, after).await?,
                Step::Children(task, query) => {
                    self.children(task, query).await?;
                    None
                }
            };
            if piece.is_some() {
                return Ok(piece);
            }
        }
        Ok(None)
    }

    async fn task(&mut self, task: TaskId) -> Result<Piece> {
        let copy = self.processor.copy(task).await?;
        let children = TaskQuery::new().with_parent(task).with_limit(CHILDREN);
        self.next.push_front(Step::Children(task, children));
        self.next.push_front(Step::Steps(task, 0));
        self.next.push_front(Step::Messages(task, 0));
        Ok(Piece::Task(Box::new(copy)))
    }

    async fn messages(&mut self, task: TaskId, from: u64) -> Result<Option<Piece>> {
        let query = MessageQuery::new().with_from(from).with_limit(MESSAGES);
        let page = self.processor.messages(task, query).await?;
        if let Some(next) = page.next {
            self.next.push_front(Step::Messages(task, next));
        }
        Ok((!page.messages.is_empty()).then_some(Piece::Messages(page.messages)))
    }

    async fn steps(&mut self, task: TaskId, after: u64) -> Result<Option<Piece>> {
        let limit = MESSAGES;
        let page = self.processor.steps(task, StepQuery { after, limit }).await?;
        if let Some(next) = page.next {
            self.next.push_front(Step::Steps(task, next));
        }
        Ok((!page.steps.is_empty()).then_some(Piece::Steps(page.steps)))
    }

    async fn children(&mut self, task: TaskId, mut query: TaskQuery) -> Result<()> {
        let page = self.processor.tasks(query.clone()).await?;
        if page.next.is_some() {
            query.cursor = page.next;
            self.next.push_front(Step::Children(task, query));
        }
        for child in page.tasks.iter().rev() {
            self.next.push_front(Step::Task(child.id));
        }
        Ok(())
    }
}

impl Processor {
    async fn copy(&self, task: TaskId) -> Result<TaskCopy> {
        match self.store().read(Query::Copy(task)).await? {
            Page::Copy(copy) => copy.map(|copy| *copy).ok_or(Error::NotFound(task)),
            other => Err(unexpected(&other)),
        }
    }
}
