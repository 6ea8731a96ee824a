//! Objects, schedules and shares of queues.

use aion_types::TaskRecord;

use super::{Processor, unexpected};
use crate::{
    Call, Done, Expect, NameQuery, NewSchedule, ObjectHead, ObjectRecord, Op, Page, PutObject, Query, Result,
    Schedule,
};

impl Processor {
    /// Writes a version of an object.
    ///
    /// # Errors
    /// [`Error::Conflict`](crate::Error::Conflict) if the object is not as expected;
    /// [`Error::LeaseLost`](crate::Error::LeaseLost) if a fence is given; a limit.
    pub async fn put_object(&self, put: PutObject) -> Result<ObjectHead> {
        match self.one(Op::PutObject(Box::new(put))).await? {
            Done::Object(head) => Ok(head),
            other => Err(unexpected(&other)),
        }
    }

    /// Removes an object with all its versions, which do not come again if there is another one of this name later.
    ///
    /// # Errors
    /// [`Error::Unknown`](crate::Error::Unknown);
    /// [`Error::Conflict`](crate::Error::Conflict) if it is not as expected.
    pub async fn drop_object(&self, name: impl Into<String>, expect: Expect) -> Result<()> {
        let name = name.into();
        self.one(Op::DropObject { name, expect }).await.map(drop)
    }

    /// The object at a version, or at the newest; none if that is not there (any more).
    ///
    /// # Errors
    /// A failure of the storage.
    pub async fn object(
        &self,
        name: impl Into<String>,
        version: Option<u64>,
    ) -> Result<Option<ObjectRecord>> {
        match self.store().read(Query::Object(name.into(), version)).await? {
            Page::Object(object) => Ok(object.map(|object| *object)),
            other => Err(unexpected(&other)),
        }
    }

    /// A page of objects by name; the next begins after the last of them.
    ///
    /// # Errors
    /// A limit.
    pub async fn objects(&self, query: NameQuery) -> Result<Vec<ObjectHead>> {
        match self.store().read(Query::Objects(query)).await? {
            Page::Objects(objects) => Ok(objects),
            other => Err(unexpected(&other)),
        }
    }

    /// Calls an object: creates the task that works on it.
    ///
    /// # Errors
    /// [`Error::Unknown`](crate::Error::Unknown);
    /// [`Error::Conflict`](crate::Error::Conflict) if the object is at another version; as
    /// [`create`](Self::create).
    pub async fn call(&self, call: Call) -> Result<TaskRecord> {
        match self.one(Op::Call(Box::new(call))).await? {
            Done::Record(record) => Ok(*record),
            other => Err(unexpected(&other)),
        }
    }

    /// Puts or replaces a schedule.
    ///
    /// # Errors
    /// [`Error::Invalid`](crate::Error::Invalid) for a pattern or a zone that is none; a limit.
    pub async fn put_schedule(&self, schedule: NewSchedule) -> Result<Schedule> {
        match self.one(Op::PutSchedule(Box::new(schedule))).await? {
            Done::Schedule(schedule) => Ok(*schedule),
            other => Err(unexpected(&other)),
        }
    }

    /// Removes a schedule, if it is there.
    ///
    /// # Errors
    /// A failure of the storage.
    pub async fn drop_schedule(&self, name: impl Into<String>) -> Result<()> {
        self.one(Op::DropSchedule(name.into())).await.map(drop)
    }

    /// The schedule, if it is there.
    ///
    /// # Errors
    /// A failure of the storage.
    pub async fn schedule(&self, name: impl Into<String>) -> Result<Option<Schedule>> {
        let mut found = self.schedules_of(Query::Schedule(name.into())).await?;
        Ok(found.pop())
    }

    /// A page of schedules by name; the next begins after the last of them.
    ///
    /// # Errors
    /// A limit.
    pub async fn schedules(&self, query: NameQuery) -> Result<Vec<Schedule>> {
        self.schedules_of(Query::Schedules(query)).await
    }

    async fn schedules_of(&self, query: Query) -> Result<Vec<Schedule>> {
        match self.store().read(query).await? {
            Page::Schedules(schedules) => Ok(schedules),
            other => Err(unexpected(&other)),
        }
    }

    /// Sets how much of the work a queue gets when claims share fairly
    /// ([`ClaimOrder::Fair`](crate::ClaimOrder::Fair)): so many tasks for each one of a queue of
    /// weight 1.
    ///
    /// # Errors
    /// A limit.
    pub async fn weigh(&self, queue: impl Into<String>, weight: u32) -> Result<()> {
        let queue = queue.into();
        self.one(Op::Weigh { queue, weight }).await.map(drop)
    }
}
