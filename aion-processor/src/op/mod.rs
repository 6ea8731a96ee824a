//! What can be asked of a store: a closed set of operations, each atomic.

mod copy;
mod lease;
mod message;
mod object;
mod primitive;
mod schedule;
mod step;
mod task;

use aion_types::{Json, MessageRecord, TaskId, TaskRecord};
use serde::{Deserialize, Serialize};

use crate::{TakenWebhook, Webhook, WebhookOp};

pub use copy::{Piece, Purged, TaskCopy};
pub use lease::{CancelMode, ClaimOrder, ClaimReq, Fence, GatherPolicy, Heartbeat, Lease, Retry, TaskHead};
pub use message::NewMessage;
pub use object::{Call, CallMode, Expect, ObjectHead, ObjectRecord, PutObject};
pub use primitive::{Grant, Holder, NewPrimitive, Primitive, PrimitiveKind, Return, Signal, Waiter, Want};
pub use schedule::{NewSchedule, Overlap, Schedule};
pub use step::StepRecord;
pub use task::{Concurrency, NewTask, Start};

/// How much of a crash an acknowledged write must survive.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Durability {
    /// The end of the process, however sudden. A loss of power may undo the last writes.
    Process,
    /// A loss of power as well.
    Power,
}

/// One change of a store.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case", deny_unknown_fields)]
#[non_exhaustive]
pub enum Op {
    /// Creates a task, as a holder if it has a [fence](NewTask::fence); gives [`Done::Record`].
    Create(Box<NewTask>),
    /// Makes a held or delayed task ready now.
    Start(TaskId),
    /// Ends a task well and takes the next ones, in one commit; gives [`Done::Next`].
    CompleteAndClaim {
        /// The holder's proof.
        fence: Fence,
        /// What it gave.
        result: Json,
        /// What to take.
        claim: Box<ClaimReq>,
    },
    /// Extends a lease; gives [`Done::Heartbeat`].
    Heartbeat {
        /// The holder's proof.
        fence: Fence,
        /// How long from now.
        lease_ms: u64,
    },
    /// Appends a message; gives [`Done::Message`].
    Append {
        /// The task, which must not have ended.
        task: TaskId,
        /// The holder's epoch; none when somebody else speaks, such as the user.
        epoch: Option<u64>,
        /// What to append.
        message: Box<NewMessage>,
    },
    /// The holder records what a step gave; gives [`Done::Step`] with what was recorded first under
    /// this name.
    Step {
        /// The holder's proof.
        fence: Fence,
        /// The name of the step, unique in the task.
        name: String,
        /// What it gave.
        result: Json,
    },
    /// Ends a task well.
    Complete {
        /// The holder's proof.
        fence: Fence,
        /// What it gave.
        result: Json,
    },
    /// Ends an attempt badly, and the task with it unless another attempt follows.
    Fail {
        /// The holder's proof.
        fence: Fence,
        /// Why.
        error: String,
        /// Whether to try again.
        retry: Retry,
    },
    /// Gives a task back without counting the attempt.
    Release {
        /// The holder's proof.
        fence: Fence,
        /// How long it rests before it may be claimed again, ten years at most.
        delay_ms: u64,
    },
    /// Asks for the end of a task.
    Cancel {
        /// The task.
        task: TaskId,
        /// How firmly.
        mode: CancelMode,
    },
    /// The holder stops a task whose cancellation was asked for.
    Stop(Fence),
    /// The holder waits for descendants; its lease ends unless all of them have ended already.
    Gather {
        /// The holder's proof.
        fence: Fence,
        /// Which descendants.
        tasks: Vec<TaskId>,
        /// What if one does not complete.
        policy: GatherPolicy,
    },
    /// Asks for the end of a task and of everything below it; [`due`](crate::TaskStore::due) goes on
    /// where a large tree is left over.
    CancelTree {
        /// The top.
        task: TaskId,
        /// How firmly.
        mode: CancelMode,
    },
    /// Makes sure that a primitive is there; gives [`Done::Primitive`].
    Declare(NewPrimitive),
    /// Removes a primitive that nobody holds or waits for, and its items; gives [`Done::Nothing`].
    Undeclare(String),
    /// The holder wants something of a primitive; gives [`Done::Grant`] if it has it, [`Done::Head`]
    /// of a BLOCKED task if it has to wait, [`Done::Nothing`] if it does not want to wait (any more).
    Acquire(Want),
    /// The holder gives a grant back; doing so twice is harmless.
    Return {
        /// The holder's proof.
        fence: Fence,
        /// The name of the primitive.
        primitive: String,
        /// The token of the grant.
        token: u64,
        /// Whether it is done with it.
        how: Return,
    },
    /// Tells a primitive something; gives [`Done::Primitive`].
    Signal {
        /// The name of the primitive.
        primitive: String,
        /// What to tell it.
        signal: Signal,
    },
    /// Writes a version of an object; gives [`Done::Object`].
    PutObject(Box<PutObject>),
    /// Removes an object with all its versions; gives [`Done::Nothing`].
    DropObject {
        /// Its name.
        name: String,
        /// In which state.
        expect: Expect,
    },
    /// Calls an object; gives [`Done::Record`] of the new task.
    Call(Box<Call>),
    /// Puts or replaces a schedule; gives [`Done::Schedule`].
    PutSchedule(Box<NewSchedule>),
    /// Removes a schedule, if it is there; gives [`Done::Nothing`].
    DropSchedule(String),
    /// Sets how much of the work a queue gets when claims share fairly, 1 unless set; gives
    /// [`Done::Nothing`].
    Weigh {
        /// The queue.
        queue: String,
        /// Tasks for each one of a queue of weight 1.
        weight: u32,
    },
    /// Takes over a task of another store, with its id; gives [`Done::Record`]. One that was ready, ran or waited over
    /// there is ready here by [`Start`](Self::Start), which is said when its messages and steps have come, or by itself
    /// after ten minutes.
    Import(Box<TaskCopy>),
    /// Takes over the next messages of a task; those that are there already are passed over. The task came by
    /// [`Import`](Self::Import) less than a day ago and nobody has claimed it here. Gives [`Done::Head`].
    ImportMessages(Vec<MessageRecord>),
    /// Takes over the next steps of a task, as [`ImportMessages`](Self::ImportMessages) does messages. Gives
    /// [`Done::Head`].
    ImportSteps(Vec<StepRecord>),
    /// Removes tasks of a tree that has ended as a whole, the newest first, so many at most, with
    /// their messages, steps and events; gives [`Done::Purged`]. What is left goes by saying so again, or by
    /// and by with [`due`](crate::TaskStore::due).
    Purge {
        /// The root.
        root: TaskId,
        /// How many at most.
        max: u32,
        /// Only if the root is still at this version: nothing came into the tree since, and nobody has begun to remove
        /// it.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        version: Option<u64>,
    },
    /// Does something with a webhook.
    Webhook(Box<WebhookOp>),
}

impl Op {
    /// What the operation must survive unless the writer says otherwise: a lost heartbeat is made
    /// good by the next one, everything else must survive a loss of power.
    pub const fn durability(&self) -> Durability {
        match self {
            Self::Heartbeat { .. } => Durability::Process,
            // What is lost of this is sent again.
            Self::Webhook(op) if matches!(**op, WebhookOp::Take(_) | WebhookOp::Settle(_)) => {
                Durability::Process
            }
            _ => Durability::Power,
        }
    }
}

impl Op {
    /// About how many bytes it writes, for the size of a commit.
    #[cfg_attr(
        not(any(feature = "sqlite", feature = "postgres")),
        expect(dead_code, reason = "only databases commit in groups")
    )]
    pub(crate) fn bytes(&self) -> usize {
        let task = |new: &NewTask| new.title.len() + new.spec.len() + weight(&new.payload);
        let spoken = |message: &MessageRecord| message.content.len() + 256;
        256 + match self {
            Self::Create(new) => task(new),
            Self::Append { message, .. } => {
                let calls = message.tool_calls.iter().map(|call| call.arguments.len());
                message.content.len() + calls.sum::<usize>() + message.persistence.as_ref().map_or(0, weight)
            }
            Self::Complete { result, .. }
            | Self::CompleteAndClaim { result, .. }
            | Self::Step { result, .. } => weight(result),
            Self::Fail { error, .. } => error.len(),
            Self::Signal {
                signal: Signal::Put(item),
                ..
            } => weight(item),
            Self::PutObject(put) => weight(&put.body),
            Self::Call(call) => task(&call.task),
            Self::Import(copy) => copy.task.spec.len() + weight(&copy.task.payload),
            Self::ImportMessages(messages) => messages.iter().map(spoken).sum(),
            Self::ImportSteps(steps) => steps.iter().map(|step| weight(&step.result) + 256).sum(),
            _ => 0,
        }
    }
}

/// About how many bytes a value has as JSON.
fn weight(value: &Json) -> usize {
    let mut bytes = 0;
    let mut left = vec![value];
    while let Some(value) = left.pop() {
        bytes += 8;
        match value {
            Json::Text(text) => bytes += text.len(),
            Json::List(items) => left.extend(items),
            Json::Map(members) => {
                bytes += members.keys().map(String::len).sum::<usize>();
                left.extend(members.values());
            }
            _ => {}
        }
    }
    bytes
}

/// An operation and what it must survive.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(from = "crate::wire::WriteForm")]
pub struct Write {
    /// The operation.
    pub op: Op,
    /// What it must survive.
    pub durability: Durability,
}

impl Write {
    /// Sets what it must survive.
    #[must_use]
    pub fn with_durability(mut self, durability: Durability) -> Self {
        self.durability = durability;
        self
    }
}

impl From<Op> for Write {
    fn from(op: Op) -> Self {
        Self {
            durability: op.durability(),
            op,
        }
    }
}

/// What an operation gave.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
#[non_exhaustive]
pub enum Done {
    /// The task of a create, new or already there.
    Record(Box<TaskRecord>),
    /// The lease after a heartbeat.
    Heartbeat(Heartbeat),
    /// The message of an append, new or already there.
    Message(Box<MessageRecord>),
    /// Where the task stands now.
    Head(TaskHead),
    /// Where the completed task stands now, and what was taken next.
    Next(TaskHead, Vec<Lease>),
    /// What the task holds.
    Grant(Grant),
    /// How the primitive stands.
    Primitive(Primitive),
    /// How the object stands.
    Object(ObjectHead),
    /// How the schedule stands.
    Schedule(Box<Schedule>),
    /// The step that was recorded, now or before.
    Step(Box<StepRecord>),
    /// What was removed.
    Purged(Purged),
    /// How the webhook stands.
    Webhook(Box<Webhook>),
    /// What a sender needs. It has keys in it, and is not for the wire.
    #[serde(skip)]
    Taken(Box<TakenWebhook>),
    /// There is nothing to say.
    Nothing,
}
