//! What a handler's function works with.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::future::Future;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use aion_types::{Json, MessageRecord, TaskId, TaskRecord, Timestamp};
use serde::Serialize;
use serde::de::DeserializeOwned;

use super::Failure;
use super::handler::{from_json, to_json};
use super::signals::Signals;
use crate::{Call, Fence, Lease, NewMessage, NewTask, Processor, StepQuery};

/// What the names of steps begin with that are not the user's.
const OWN: &str = "aion/";

/// The task that a function works on, and everything that it can do for it. Clones are the same.
///
/// A function may run more than once for one task: after a failure, after a crash, and each time after
/// it [waited](Self::gather). It runs from its beginning then; what it did under a name is not done
/// again. So everything that has an effect, or that must give the same the next time (the time, a random number, what
/// somebody answered), belongs into a [`step`](Self::step).
#[derive(Clone)]
pub struct Ctx {
    inner: Arc<Inner>,
}

struct Inner {
    processor: Processor,
    lease: Lease,
    signals: Arc<Signals>,
    state: Mutex<State>,
}

/// What is known of the task's steps, and which names this run has used.
#[derive(Default)]
struct State {
    done: BTreeMap<String, Json>,
    used: BTreeSet<String>,
}

impl fmt::Debug for Ctx {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Ctx")
            .field("fence", &self.fence())
            .finish_non_exhaustive()
    }
}

impl Ctx {
    /// Finds what was done before; the first holder of a task need not look.
    pub(super) async fn load(
        processor: &Processor,
        lease: &Lease,
        signals: &Arc<Signals>,
    ) -> crate::Result<Self> {
        let mut state = State::default();
        if lease.epoch > 1 {
            state.done = done_before(processor, lease.task.id).await?;
        }
        Ok(Self {
            inner: Arc::new(Inner {
                processor: processor.clone(),
                lease: lease.clone(),
                signals: signals.clone(),
                state: Mutex::new(state),
            }),
        })
    }

    /// The task as it was claimed.
    pub fn task(&self) -> &TaskRecord {
        &self.inner.lease.task
    }

    /// What writes in the name of the task must carry. Tools that are called may be given it too, so
    /// that they can refuse whoever has lost the task.
    pub fn fence(&self) -> Fence {
        self.inner.lease.fence()
    }

    /// The handle that the task was claimed by.
    pub fn processor(&self) -> &Processor {
        &self.inner.processor
    }

    /// The time by the store's clock. It is another one in the next run.
    ///
    /// # Errors
    /// A failure of the storage.
    pub async fn now(&self) -> Result<Timestamp, Failure> {
        Ok(self.processor().now().await?)
    }

    /// Does something once: the next run gets what it gave without doing it.
    ///
    /// The result is recorded when `work` has ended; after a crash in between it is done again. `work`
    /// that fails is not recorded. The name must be the same in every run, and another one for every step.
    ///
    /// # Errors
    /// What `work` fails with; a name that this run has used; a result over the limits; a lost lease.
    pub async fn step<T>(
        &self,
        name: impl Into<String>,
        work: impl Future<Output = Result<T, Failure>>,
    ) -> Result<T, Failure>
    where
        T: Serialize + DeserializeOwned,
    {
        let name = name.into();
        if name.starts_with(OWN) {
            return Err(Failure::never(format!("no step may be called {OWN}..")));
        }
        let kept = match self.first_use(&name)? {
            Some(kept) => kept,
            None => {
                let result = to_json("what a step gave", &work.await?)?;
                self.record(name.clone(), result).await?
            }
        };
        from_json(&format!("what the step {name} gave"), &kept)
    }

    /// As [`step`](Self::step), for this module's own names.
    pub(super) async fn own_step(
        &self,
        what: &str,
        name: &str,
        work: impl Future<Output = Result<Json, Failure>>,
    ) -> Result<Json, Failure> {
        let name = format!("{OWN}{what}/{name}");
        match self.first_use(&name)? {
            Some(kept) => Ok(kept),
            None => self.record(name, work.await?).await,
        }
    }

    /// Notes that the name is used, and gives what was recorded under it.
    fn first_use(&self, name: &str) -> Result<Option<Json>, Failure> {
        let mut state = self.state();
        if !state.used.insert(name.to_owned()) {
            return Err(Failure::never(format!(
                "the name {name} is used twice in one run"
            )));
        }
        Ok(state.done.get(name).cloned())
    }

    async fn record(&self, name: String, result: Json) -> Result<Json, Failure> {
        let step = self.processor().step(self.fence(), name, result).await?;
        Ok(step.result)
    }

    /// Makes a child task, once: the next run gets the same one. It has the queue of this task; its
    /// title is `name`.
    ///
    /// # Errors
    /// As [`spawn_task`](Self::spawn_task).
    pub async fn spawn(
        &self,
        name: impl Into<String>,
        kind: impl Into<String>,
        payload: impl Serialize,
    ) -> Result<TaskId, Failure> {
        let name = name.into();
        let payload = to_json("the payload", &payload)?;
        let task = NewTask::new(self.new_id().await?, kind, name.clone())
            .with_queue(self.task().queue.clone())
            .with_payload(payload);
        self.spawn_task(name, task).await
    }

    /// Makes this child task, once: the next run gets the same one. `name` becomes its idempotency key
    /// below this task.
    ///
    /// # Errors
    /// A name that this run has used; a limit; a lost lease.
    pub async fn spawn_task(&self, name: impl Into<String>, task: NewTask) -> Result<TaskId, Failure> {
        let name = name.into();
        self.first_use(&format!("{OWN}spawn/{name}"))?;
        let task = task
            .with_parent(self.task().id)
            .with_key(name)
            .with_fence(self.fence());
        Ok(self.processor().create(task).await?.id)
    }

    /// Calls an object, once, by a child task whose payload names the object's version.
    ///
    /// # Errors
    /// A name that this run has used; an object that is not there, or at another version; a lost lease.
    pub async fn call(&self, name: impl Into<String>, mut call: Call) -> Result<TaskId, Failure> {
        let name = name.into();
        self.first_use(&format!("{OWN}spawn/{name}"))?;
        call.task = call.task.with_key(name);
        let call = call.with_fence(self.fence());
        Ok(self.processor().call(call).await?.id)
    }

    /// An id for a new task.
    ///
    /// # Errors
    /// A failure of the storage, which gives the time.
    pub async fn new_id(&self) -> Result<TaskId, Failure> {
        Ok(TaskId::generate(self.now().await?))
    }

    /// Appends a message to the task, once; `name` becomes its idempotency key.
    ///
    /// # Errors
    /// A name that this run has used; a limit; a lost lease.
    pub async fn append(
        &self,
        name: impl Into<String>,
        message: NewMessage,
    ) -> Result<MessageRecord, Failure> {
        let name = name.into();
        self.first_use(&format!("{OWN}message/{name}"))?;
        let message = message.with_key(name);
        Ok(self.processor().append(self.fence(), message).await?)
    }

    /// Whether somebody asked for the end of the task, as far as the last heartbeat tells.
    pub fn is_cancelled(&self) -> bool {
        self.inner.signals.is_asked_to_stop()
    }

    /// Comes back when somebody has asked for the end of the task. A function that fails after that
    /// ends the task as CANCELLED; one that goes on is dropped after a while.
    pub async fn cancelled(&self) {
        self.inner.signals.asked_to_stop().await;
    }

    pub(super) fn signals(&self) -> &Signals {
        &self.inner.signals
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.inner.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// What the task's steps gave, by name.
async fn done_before(processor: &Processor, task: TaskId) -> crate::Result<BTreeMap<String, Json>> {
    let mut done = BTreeMap::new();
    let mut query = StepQuery::default();
    loop {
        let page = processor.steps(task, query).await?;
        done.extend(page.steps.into_iter().map(|step| (step.name, step.result)));
        match page.next {
            Some(next) => query.after = next,
            None => return Ok(done),
        }
    }
}
