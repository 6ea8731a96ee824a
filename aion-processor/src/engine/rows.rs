//! What the engine needs of a backend: rows inside one transaction.

use std::future::Future;

use aion_types::{EventKind, Json, MessageRecord, Status, TaskId, Timestamp};

use super::row::{Body, Row};
use crate::{ClaimReq, Result};

/// The rows of a backend inside one transaction.
///
/// Reads see the writes made before them. A failure means that the transaction must be rolled back.
pub(crate) trait Rows: Send {
    /// The hot row of a task.
    fn row(&mut self, id: TaskId) -> impl Future<Output = Result<Option<Row>>> + Send;
    /// The cold part of a task.
    fn body(&mut self, row: &Row) -> impl Future<Output = Result<Body>> + Send;
    /// The task that was created with this key below this parent.
    fn keyed(
        &mut self,
        parent: Option<TaskId>,
        key: &str,
    ) -> impl Future<Output = Result<Option<Row>>> + Send;
    /// Adds a task and gives it its place in the order of creation.
    fn insert(
        &mut self,
        row: &mut Row,
        body: &Body,
        key: Option<&str>,
    ) -> impl Future<Output = Result<()>> + Send;
    /// Replaces a hot row whose status was `was`.
    fn put(&mut self, row: &Row, was: Status) -> impl Future<Output = Result<()>> + Send;
    /// Stores how a task ended.
    fn put_outcome(&mut self, row: &Row, outcome: &Outcome) -> impl Future<Output = Result<()>> + Send;
    /// Adds to the log and gives the event's `seq`.
    fn event(
        &mut self,
        row: &Row,
        kind: EventKind,
        body: Json,
        at: Timestamp,
    ) -> impl Future<Output = Result<u64>> + Send;
    /// The message that was appended with this key.
    fn keyed_message(
        &mut self,
        row: &Row,
        key: &str,
    ) -> impl Future<Output = Result<Option<MessageRecord>>> + Send;
    /// Adds a message.
    fn insert_message(
        &mut self,
        row: &Row,
        message: &MessageRecord,
        key: Option<&str>,
    ) -> impl Future<Output = Result<()>> + Send;
    /// Ready tasks that the claim may take, with their bodies, in the order in which it takes them, at
    /// most `max`.
    fn ready(&mut self, claim: &ClaimReq) -> impl Future<Output = Result<Vec<(Row, Body)>>> + Send;
    /// Running tasks whose lease has ended.
    fn expired(&mut self, now: Timestamp, limit: u32) -> impl Future<Output = Result<Vec<Row>>> + Send;
    /// Tasks whose start time has come.
    fn delayed(&mut self, now: Timestamp, limit: u32) -> impl Future<Output = Result<Vec<Row>>> + Send;
    /// Notes that `waiter` waits for `child`.
    fn wait(&mut self, waiter: &Row, child: &Row) -> impl Future<Output = Result<()>> + Send;
    /// Forgets who waits for `child`, and says who did.
    fn take_waiters(&mut self, child: &Row) -> impl Future<Output = Result<Vec<TaskId>>> + Send;
    /// Forgets what `waiter` waits for.
    fn drop_waits(&mut self, waiter: &Row) -> impl Future<Output = Result<()>> + Send;
}

/// How a task ended.
#[derive(Debug, Clone, PartialEq)]
pub(crate) enum Outcome {
    Result(Json),
    Error(String),
}
