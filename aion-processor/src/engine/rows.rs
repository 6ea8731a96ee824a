//! What the engine needs of a backend: rows inside one transaction.

use std::future::Future;

use aion_types::{EventKind, Json, MessageRecord, Status, TaskId, Timestamp};

use super::delivery::DeliveryRows;
use super::row::{Body, Row};
use crate::{ClaimReq, Holder, Result, StepRecord, Waiter};

/// The rows of a backend inside one transaction.
///
/// Reads see the writes made before them. A failure means that the transaction must be rolled back.
pub(crate) trait Rows: Send + NamedRows + LineRows + ObjectRows + StepRows + DeliveryRows {
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
    /// Adds a task with everything that its row and its body say, and gives it its place in the
    /// order of creation.
    fn insert(
        &mut self,
        row: &mut Row,
        body: &Body,
        key: Option<&str>,
    ) -> impl Future<Output = Result<()>> + Send;
    /// Replaces a hot row whose status was `was`. If it still is, `gated` and whatever belongs to a
    /// status alone (`ready_seq`, handler, epoch, attempts, times) are as they were.
    fn put(&mut self, row: &Row, was: Status) -> impl Future<Output = Result<()>> + Send;
    /// Replaces `gated` alone.
    fn put_gated(&mut self, row: &Row) -> impl Future<Output = Result<()>> + Send;
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
    /// Ready tasks with a place that the claim may take, with their bodies, in the order in which it
    /// takes them (by priority), at most `max`.
    fn ready(&mut self, claim: &ClaimReq) -> impl Future<Output = Result<Vec<(Row, Body)>>> + Send;
    /// The queues that have ready tasks with a place, in the order of their names, from the name `from` on, at
    /// most `limit`.
    fn ready_queues(&mut self, from: &str, limit: u32) -> impl Future<Output = Result<Vec<String>>> + Send;
    /// The first of the ready tasks with this concurrency key that have no place.
    fn first_gated(&mut self, key: &str) -> impl Future<Output = Result<Option<Row>>> + Send;
    /// The last of the ready tasks with this concurrency key that have a place.
    fn last_placed(&mut self, key: &str) -> impl Future<Output = Result<Option<Row>>> + Send;
    /// Running tasks whose lease has ended.
    fn expired(&mut self, now: Timestamp, limit: u32) -> impl Future<Output = Result<Vec<Row>>> + Send;
    /// Tasks whose start time has come.
    fn delayed(&mut self, now: Timestamp, limit: u32) -> impl Future<Output = Result<Vec<Row>>> + Send;
    /// Children of a task in the order of creation, after the place `after`.
    fn children(
        &mut self,
        parent: TaskId,
        after: u64,
        limit: u32,
    ) -> impl Future<Output = Result<Vec<Row>>> + Send;
    /// Notes that `waiter` waits for `child`.
    fn wait(&mut self, waiter: &Row, child: &Row) -> impl Future<Output = Result<()>> + Send;
    /// Forgets who waits for `child`, and says who did.
    fn take_waiters(&mut self, child: &Row) -> impl Future<Output = Result<Vec<TaskId>>> + Send;
    /// Forgets what `waiter` waits for.
    fn drop_waits(&mut self, waiter: &Row) -> impl Future<Output = Result<()>> + Send;
    /// A task of the tree that has not ended.
    fn open_in_tree(&mut self, root: TaskId) -> impl Future<Output = Result<Option<TaskId>>> + Send;
    /// Removes the newest tasks of a tree with their bodies, messages, steps and events, at most `max`, and
    /// says how many.
    fn purge(&mut self, root: TaskId, max: u32) -> impl Future<Output = Result<u32>> + Send;
}

/// What a name in [`NamedRows`] is the name of.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) enum Space {
    /// A primitive: [`Primitive`](crate::Primitive); due while waiters may pass or a lock opens.
    Primitive = 0,
    /// A concurrency key: `KeyState`.
    Key = 1,
    /// A queue's share: `Share`; due at its place in the line, in virtual time. The empty name is the clock.
    Share = 2,
    /// A schedule: [`Schedule`](crate::Schedule); due when the next task is.
    Schedule = 3,
    /// An object: [`ObjectHead`](crate::ObjectHead).
    Object = 4,
    /// A tree that is being cancelled: `Sweep`; always due.
    Sweep = 5,
    /// A tree that is being removed: the root's id; always due.
    Purge = 6,
    /// A webhook: [`Webhook`](crate::Webhook). The empty name is the book of all of them.
    Webhook = 7,
    /// The keys of a webhook.
    WebhookKey = 8,
    /// A task that came from another store: `Arrival`; due when it takes no more of its copy.
    Arrival = 9,
    /// The empty name: the largest version of an object that was removed.
    Gone = 10,
    /// A task that has a deadline and has not ended: its id; due then.
    Deadline = 11,
}

/// Small things by name, each a JSON text that only the engine reads.
pub(crate) trait NamedRows: Send {
    /// The text of a name.
    fn named(&mut self, space: Space, name: &str) -> impl Future<Output = Result<Option<String>>> + Send;
    /// Replaces the text of a name, and when [`due_named`](Self::due_named) gives it.
    fn put_named(
        &mut self,
        space: Space,
        name: &str,
        due: Option<Timestamp>,
        text: &str,
    ) -> impl Future<Output = Result<()>> + Send;
    /// Removes a name.
    fn drop_named(&mut self, space: Space, name: &str) -> impl Future<Output = Result<()>> + Send;
    /// Names behind `after` with their texts, in their order, at most `limit`.
    fn names(
        &mut self,
        space: Space,
        after: &str,
        limit: u32,
    ) -> impl Future<Output = Result<Vec<(String, String)>>> + Send;
    /// Texts that are due, the longest due first, then by name.
    fn due_named(
        &mut self,
        space: Space,
        now: Timestamp,
        limit: u32,
    ) -> impl Future<Output = Result<Vec<String>>> + Send;
}

/// Who holds primitives, who waits for them, and what lies in queues.
pub(crate) trait LineRows: Send {
    /// What a task holds of a primitive.
    fn hold(&mut self, primitive: &str, task: TaskId) -> impl Future<Output = Result<Option<Held>>> + Send;
    /// What a task holds, in the order of the primitives' names.
    fn holds_of(&mut self, task: TaskId) -> impl Future<Output = Result<Vec<Held>>> + Send;
    /// Adds a hold.
    fn insert_hold(&mut self, held: &Held) -> impl Future<Output = Result<()>> + Send;
    /// Removes a hold.
    fn delete_hold(&mut self, primitive: &str, task: TaskId) -> impl Future<Output = Result<()>> + Send;
    /// What a task waits for.
    fn waiter(&mut self, task: TaskId) -> impl Future<Output = Result<Option<Waiter>>> + Send;
    /// Adds to the end of a line.
    fn insert_waiter(&mut self, waiter: &Waiter) -> impl Future<Output = Result<()>> + Send;
    /// Takes a task out of the line that it is in.
    fn delete_waiter(&mut self, task: TaskId) -> impl Future<Output = Result<()>> + Send;
    /// The first in the line of a primitive.
    fn first_waiter(&mut self, primitive: &str) -> impl Future<Output = Result<Option<Waiter>>> + Send;
    /// Whoever does not want to wait any longer: the longest due first, then by id of the task.
    fn impatient(&mut self, now: Timestamp, limit: u32) -> impl Future<Output = Result<Vec<Waiter>>> + Send;
    /// Adds an item to a queue.
    fn insert_item(
        &mut self,
        queue: &str,
        place: u64,
        body: &Json,
    ) -> impl Future<Output = Result<()>> + Send;
    /// Takes the item with the smallest place out of a queue.
    fn take_item(&mut self, queue: &str) -> impl Future<Output = Result<Option<(u64, Json)>>> + Send;
    /// Removes the items of a queue.
    fn drop_items(&mut self, queue: &str) -> impl Future<Output = Result<()>> + Send;
}

/// The versions of objects.
pub(crate) trait ObjectRows: Send {
    /// Adds a version.
    fn insert_version(
        &mut self,
        name: &str,
        version: u64,
        body: &Json,
    ) -> impl Future<Output = Result<()>> + Send;
    /// Removes versions before this one.
    fn drop_versions(&mut self, name: &str, before: u64) -> impl Future<Output = Result<()>> + Send;
}

/// The steps of tasks.
pub(crate) trait StepRows: Send {
    /// The step of a task that was recorded under this name.
    fn step(&mut self, row: &Row, name: &str) -> impl Future<Output = Result<Option<StepRecord>>> + Send;
    /// The last `seq` of a task's steps, 0 if there are none, and the bytes of all of them.
    fn last_step(&mut self, row: &Row) -> impl Future<Output = Result<(u64, u64)>> + Send;
    /// Adds a step; all of the task's have so many `bytes` with it.
    fn insert_step(
        &mut self,
        row: &Row,
        step: &StepRecord,
        bytes: u64,
    ) -> impl Future<Output = Result<()>> + Send;
}

/// A hold as it is stored: with the place of the item, to put it back.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Held {
    pub(crate) holder: Holder,
    pub(crate) place: u64,
}

/// How a task ended.
#[derive(Debug, Clone, PartialEq)]
pub(crate) enum Outcome {
    Result(Json),
    Error(String),
}
