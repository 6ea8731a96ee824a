//! Where the observer reads: somebody's log of tasks, by cursor. There is no way to write here.

use std::fmt::Debug;

use aion_types::{
    EventRecord, ForecasterId, MessageRecord, Prob, Role, TaskEvidence, TaskId, TaskRecord, Timestamp,
};
use async_trait::async_trait;

use crate::Result;

/// Why a feed failed.
pub type FeedError = Box<dyn std::error::Error + Send + Sync>;

/// A log of tasks that can be read and not written.
#[async_trait]
pub trait TaskFeed: Debug + Send + Sync {
    /// Events after a sequence number, oldest first, at most `limit`.
    ///
    /// # Errors
    /// [`FeedError`] if the log cannot be read.
    async fn events(&self, after: u64, limit: usize) -> Result<Vec<EventRecord>, FeedError>;

    /// A task, if it is still there.
    ///
    /// # Errors
    /// [`FeedError`] if the log cannot be read.
    async fn task(&self, id: TaskId) -> Result<Option<TaskRecord>, FeedError>;

    /// Messages of a task after a place in its history, oldest first, at most `limit`.
    ///
    /// # Errors
    /// [`FeedError`] if the log cannot be read.
    async fn messages(&self, id: TaskId, after: u64, limit: usize) -> Result<Vec<MessageRecord>, FeedError>;
}

/// What a predictor sees of a task: nothing from after the event that it is asked at.
#[derive(Debug, Clone, Copy)]
#[non_exhaustive]
pub struct TaskView<'a> {
    /// The task.
    pub task: &'a TaskRecord,
    /// Its messages so far.
    pub messages: &'a [MessageRecord],
    /// When it is asked.
    pub at: Timestamp,
    /// The last opinions of the others in the task's market, for predictors that
    /// [listen](crate::Predictor::listens); empty otherwise.
    pub said: &'a [(ForecasterId, Prob)],
}

impl<'a> TaskView<'a> {
    /// A task with its messages so far.
    pub const fn new(task: &'a TaskRecord, messages: &'a [MessageRecord], at: Timestamp) -> Self {
        let said = &[];
        Self {
            task,
            messages,
            at,
            said,
        }
    }

    /// With the last opinions of the others.
    #[must_use]
    pub const fn with_said(mut self, said: &'a [(ForecasterId, Prob)]) -> Self {
        self.said = said;
        self
    }

    /// Only the first messages of the task.
    #[must_use]
    pub fn until(mut self, messages: usize) -> Self {
        self.messages = &self.messages[..messages.min(self.messages.len())];
        self
    }

    /// What the record and the messages say about the persistence of the task: the `R_harm` of each
    /// assistant message that reports it, and the attempts after the first.
    pub fn evidence(&self) -> TaskEvidence {
        TaskEvidence {
            messages: self.messages.iter().filter_map(token_ratio).collect(),
            retries: u64::from(self.task.attempt.saturating_sub(1)),
            ..TaskEvidence::default()
        }
    }
}

/// `(tokens, R_harm)` of an assistant message whose report of them is sound.
pub(crate) fn token_ratio(message: &MessageRecord) -> Option<(u64, f64)> {
    if message.role != Role::Assistant {
        return None;
    }
    let report = message.persistence.as_ref()?;
    let tokens = report.get("n")?.as_f64()?;
    let ratio = report.get("R_harm")?.as_f64()?;
    let sound = (1.0..=1e9).contains(&tokens) && (1e-6..=1e6).contains(&ratio);
    sound.then_some((tokens as u64, ratio))
}

/// The `R_min` of an assistant message whose report of it is sound.
pub(crate) fn least_ratio(message: &MessageRecord) -> Option<f64> {
    if message.role != Role::Assistant {
        return None;
    }
    let ratio = message.persistence.as_ref()?.get("R_min")?.as_f64()?;
    (1e-6..=1e6).contains(&ratio).then_some(ratio)
}
