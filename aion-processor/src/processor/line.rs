//! Primitives: holding, waiting, telling.

use aion_types::TaskId;

use super::{Processor, unexpected};
use crate::{
    Done, Error, Fence, Grant, Holder, NameQuery, NewPrimitive, Op, Page, Primitive, Query, Result, Return,
    Signal, TaskHead, Waits, Want,
};

/// What became of a wish for something of a primitive.
#[derive(Debug, Clone, PartialEq)]
pub enum Acquired {
    /// The task has it, and is still held.
    Granted(Grant),
    /// The task waits; its lease has ended. When it is its turn it is ready again: whoever claims it
    /// then asks again and has it.
    Waits(TaskHead),
    /// It is not there, and the task does not want to wait any longer. It is still held.
    Missed,
}

impl Acquired {
    /// The grant, if there is one.
    pub fn granted(self) -> Option<Grant> {
        match self {
            Self::Granted(grant) => Some(grant),
            Self::Waits(_) | Self::Missed => None,
        }
    }
}

impl Processor {
    /// Makes sure that a primitive is there; one that is there already gets this size.
    ///
    /// # Errors
    /// [`Error::Conflict`] if it is of another kind; a limit.
    pub async fn declare(&self, primitive: NewPrimitive) -> Result<Primitive> {
        self.told(Op::Declare(primitive)).await
    }

    /// Removes a primitive and, if it is a queue, its items.
    ///
    /// # Errors
    /// [`Error::Conflict`] while somebody holds it or waits for it; [`Error::Unknown`].
    pub async fn undeclare(&self, name: impl Into<String>) -> Result<()> {
        self.one(Op::Undeclare(name.into())).await.map(drop)
    }

    /// Wants something of a primitive: units of a semaphore, a mutex, the next item of a queue, the
    /// way through a gate. First come, first served. A task that holds it already gets the same
    /// grant again.
    ///
    /// A grant ends when it is [given back](Self::give_back), when the task ends, and when its lease
    /// ends by anything but waiting; the way through a gate outlives a lost lease. While a task waits
    /// it keeps what it holds. A task that was asked to stop ends instead of waiting.
    ///
    /// # Errors
    /// [`Error::LeaseLost`]; [`Error::Unknown`]; a limit.
    pub async fn acquire(&self, want: Want) -> Result<Acquired> {
        match self.one(Op::Acquire(want)).await? {
            Done::Grant(grant) => Ok(Acquired::Granted(grant)),
            Done::Head(head) => Ok(Acquired::Waits(head)),
            Done::Nothing => Ok(Acquired::Missed),
            other => Err(unexpected(&other)),
        }
    }

    /// Gives a grant back. Doing so twice is harmless.
    ///
    /// # Errors
    /// [`Error::LeaseLost`]; [`Error::Conflict`] if the task holds it by another token.
    pub async fn give_back(&self, fence: Fence, grant: &Grant, how: Return) -> Result<TaskHead> {
        self.head(Op::Return {
            fence,
            primitive: grant.primitive.clone(),
            token: grant.token,
            how,
        })
        .await
    }

    /// Tells a primitive something, and gives how it stands then.
    ///
    /// # Errors
    /// [`Error::Unknown`]; [`Error::Invalid`] if it is of another kind; a limit, such as a full queue.
    pub async fn signal(&self, primitive: impl Into<String>, signal: Signal) -> Result<Primitive> {
        let primitive = primitive.into();
        self.told(Op::Signal { primitive, signal }).await
    }

    /// How a primitive stands.
    ///
    /// # Errors
    /// [`Error::Unknown`].
    pub async fn primitive(&self, name: impl Into<String>) -> Result<Primitive> {
        let name = name.into();
        let mut found = self.primitives_of(Query::Primitive(name.clone())).await?;
        found.pop().ok_or(Error::Unknown {
            what: "primitive",
            name,
        })
    }

    /// A page of primitives by name; the next begins after the last of them.
    ///
    /// # Errors
    /// A limit.
    pub async fn primitives(&self, query: NameQuery) -> Result<Vec<Primitive>> {
        self.primitives_of(Query::Primitives(query)).await
    }

    /// What a task holds.
    ///
    /// # Errors
    /// A failure of the storage.
    pub async fn holds(&self, task: TaskId) -> Result<Vec<Holder>> {
        self.waits_of(Query::Holds(task)).await.map(|waits| waits.holders)
    }

    /// Who holds and who waits, of one primitive or of all of them; with all of them also who waits
    /// for other tasks, and so [who waits in a circle](Waits::circles).
    ///
    /// # Errors
    /// A failure of the storage.
    pub async fn waits(&self, primitive: Option<String>) -> Result<Waits> {
        self.waits_of(Query::Waits(primitive)).await
    }

    async fn told(&self, op: Op) -> Result<Primitive> {
        match self.one(op).await? {
            Done::Primitive(primitive) => Ok(primitive),
            other => Err(unexpected(&other)),
        }
    }

    async fn primitives_of(&self, query: Query) -> Result<Vec<Primitive>> {
        match self.store().read(query).await? {
            Page::Primitives(primitives) => Ok(primitives),
            other => Err(unexpected(&other)),
        }
    }

    async fn waits_of(&self, query: Query) -> Result<Waits> {
        match self.store().read(query).await? {
            Page::Waits(waits) => Ok(waits),
            other => Err(unexpected(&other)),
        }
    }
}
