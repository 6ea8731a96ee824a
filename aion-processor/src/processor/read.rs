//! Questions about tasks, messages and the log.

use aion_types::{MessageRecord, PersistenceSummary, Role, TaskEvidence, TaskId, TaskRecord};

use super::{Processor, unexpected};
use crate::{
    ChildCounts, Error, EventPage, EventQuery, MessagePage, MessageQuery, Metrics, Page, Query, Result,
    StatusCounts, StepPage, StepQuery, TaskPage, TaskQuery,
};

impl Processor {
    /// The task.
    ///
    /// # Errors
    /// [`Error::NotFound`].
    pub async fn get(&self, task: TaskId) -> Result<TaskRecord> {
        self.find(task).await?.ok_or(Error::NotFound(task))
    }

    /// The task, if it is there.
    ///
    /// # Errors
    /// A failure of the storage.
    pub async fn find(&self, task: TaskId) -> Result<Option<TaskRecord>> {
        match self.store().read(Query::Task(task)).await? {
            Page::Task(record) => Ok(record.map(|record| *record)),
            other => Err(unexpected(&other)),
        }
    }

    /// A page of tasks.
    ///
    /// # Errors
    /// [`Error::Invalid`] for a cursor of another list; a limit.
    pub async fn tasks(&self, query: TaskQuery) -> Result<TaskPage> {
        self.task_page(Query::Tasks(query)).await
    }

    /// A page of the children of a task, oldest first.
    ///
    /// # Errors
    /// As [`tasks`](Self::tasks).
    pub async fn children(&self, task: TaskId, query: TaskQuery) -> Result<TaskPage> {
        self.tasks(query.with_parent(task)).await
    }

    /// The tasks that ended last, newest first.
    ///
    /// # Errors
    /// A limit.
    pub async fn ended(&self, limit: u32) -> Result<TaskPage> {
        self.task_page(Query::Ended(limit)).await
    }

    pub(crate) async fn task_page(&self, query: Query) -> Result<TaskPage> {
        match self.store().read(query).await? {
            Page::Tasks(page) => Ok(page),
            other => Err(unexpected(&other)),
        }
    }

    /// A page of a task's messages.
    ///
    /// # Errors
    /// [`Error::NotFound`], or a limit.
    pub async fn messages(&self, task: TaskId, query: MessageQuery) -> Result<MessagePage> {
        match self.store().read(Query::Messages(task, query)).await? {
            Page::Messages(page) => Ok(page),
            other => Err(unexpected(&other)),
        }
    }

    /// A page of a task's steps, in the order in which they were recorded.
    ///
    /// # Errors
    /// [`Error::NotFound`], or a limit.
    pub async fn steps(&self, task: TaskId, query: StepQuery) -> Result<StepPage> {
        match self.store().read(Query::Steps(task, query)).await? {
            Page::Steps(page) => Ok(page),
            other => Err(unexpected(&other)),
        }
    }

    /// A page of the log: what was committed after the event `after`, in that order.
    ///
    /// # Errors
    /// A limit.
    pub async fn events(&self, after: u64, limit: u32) -> Result<EventPage> {
        self.events_of(EventQuery {
            after,
            task: None,
            limit,
        })
        .await
    }

    /// A page of the log as `query` says.
    ///
    /// # Errors
    /// A limit.
    pub async fn events_of(&self, query: EventQuery) -> Result<EventPage> {
        match self.store().read(Query::Events(query)).await? {
            Page::Events(page) => Ok(page),
            other => Err(unexpected(&other)),
        }
    }

    /// How many tasks are in each status.
    ///
    /// # Errors
    /// A failure of the storage.
    pub async fn counts(&self) -> Result<StatusCounts> {
        match self.store().read(Query::Counts).await? {
            Page::Counts(counts) => Ok(counts),
            other => Err(unexpected(&other)),
        }
    }

    /// How the children of a task stand, and how often it was tried.
    ///
    /// # Errors
    /// [`Error::NotFound`].
    pub async fn child_counts(&self, task: TaskId) -> Result<ChildCounts> {
        match self.store().read(Query::Children(task)).await? {
            Page::Children(counts) => Ok(counts),
            other => Err(unexpected(&other)),
        }
    }

    /// What this store knows of a task's persistence: its children, its retries and what its
    /// assistant messages reported. Steps, tokens, budget and delusion are the caller's to add.
    ///
    /// # Errors
    /// [`Error::NotFound`].
    pub async fn evidence(&self, task: TaskId) -> Result<TaskEvidence> {
        let mut evidence = TaskEvidence::default();
        self.child_counts(task).await?.fill(&mut evidence);
        let mut query = MessageQuery::new();
        loop {
            let page = self.messages(task, query).await?;
            for summary in page.messages.iter().filter_map(summary_of) {
                evidence.push_message(&summary);
            }
            match page.next {
                Some(next) => query.from = next,
                None => return Ok(evidence),
            }
        }
    }

    /// How large and how old the store is.
    ///
    /// # Errors
    /// A failure of the storage.
    pub async fn metrics(&self) -> Result<Metrics> {
        match self.store().read(Query::Metrics).await? {
            Page::Metrics(metrics) => Ok(metrics),
            other => Err(unexpected(&other)),
        }
    }
}

/// What an assistant message reported of its tokens, if it can be read.
fn summary_of(message: &MessageRecord) -> Option<PersistenceSummary> {
    if message.role != Role::Assistant {
        return None;
    }
    let value = serde_json::to_value(message.persistence.as_ref()?).ok()?;
    let summary: PersistenceSummary = serde_json::from_value(value).ok()?;
    (summary.n > 0 && summary.r_harm > 0.0).then_some(summary)
}
