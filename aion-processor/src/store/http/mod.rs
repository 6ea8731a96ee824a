//! [`HttpTaskStore`]: the store of a server.

mod calls;
mod guard;
mod hints;
mod joiner;
mod mend;
mod options;

use std::sync::Arc;

use aion_types::Timestamp;
use async_trait::async_trait;
use futures::stream::BoxStream;
use serde::Serialize;
use serde::de::DeserializeOwned;

use self::calls::Calls;
use self::hints::Hints;
use self::joiner::{Joiner, Repeat};
use self::mend::Mend;
use super::{DueReport, SchemaInfo, TaskStore, Wake};
use crate::wire::{Answer, Ask, Due, Time};
use crate::{ClaimReq, Done, Error, Lease, Op, Page, Query, Result, Signal, Write};

pub use options::HttpOptions;

/// The store of an `aion-processor-server`, over HTTP: all that a store in the process can, with the
/// same errors.
///
/// Clones share their connections. Writes of several callers go together: what is asked while a
/// request is on its way waits for the next one, so that many workers need no batches of their own.
/// The same holds for claims. What one caller writes with one call of
/// [`apply`](TaskStore::apply) is one commit.
///
/// Requests that certainly did nothing (there was no connection, the server was too busy), and those
/// that may be repeated (questions; creates; steps; appends with a key; completions; heartbeats), are sent
/// again a few times with growing pauses. Of everything else an unknown outcome is told:
/// [`Error::Unavailable`], for which [`Error::is_unknown`] holds. A wrong key, and a server without a
/// store, are [`Error::Denied`]. Whoever drops a call before it was sent has not made it.
///
/// ```no_run
/// use aion_processor::{ClaimReq, HttpOptions, HttpTaskStore, NewTask, Processor};
/// use aion_types::{Clock, HandlerId, Json, SystemClock, TaskId};
///
/// # async fn run() -> Result<(), Box<dyn std::error::Error>> {
/// let options = HttpOptions::default().with_api_key(std::env::var("AION_API_KEY")?);
/// let processor = Processor::new(HttpTaskStore::new("http://127.0.0.1:9205", options)?);
/// let id = TaskId::generate(SystemClock.now());
/// processor.create(NewTask::new(id, "report", "Summarise the notes")).await?;
/// for lease in processor.claim(ClaimReq::new(HandlerId::new("worker-1")?)).await? {
///     processor.complete(lease.fence(), Json::from("three lines")).await?;
/// }
/// # Ok(()) }
/// ```
#[derive(Debug, Clone)]
pub struct HttpTaskStore {
    calls: Arc<Calls>,
    writes: Arc<Joiner<Done>>,
    claims: Arc<Joiner<Vec<Lease>>>,
    hints: Arc<Hints>,
}

impl HttpTaskStore {
    /// The store of the server at `base_url`, such as `http://127.0.0.1:9205`. Nothing is sent yet.
    ///
    /// # Errors
    /// [`Error::Invalid`] if the address or the key cannot be one; [`Error::Unavailable`] where TLS
    /// cannot be set up.
    pub fn new(base_url: &str, options: HttpOptions) -> Result<Self> {
        let calls = Arc::new(Calls::new(base_url, options)?);
        Ok(Self {
            writes: Joiner::new(Arc::clone(&calls), "/v1/store/apply", "writes"),
            claims: Joiner::new(Arc::clone(&calls), "/v1/store/claim", "claims"),
            hints: Hints::new(Arc::clone(&calls)),
            calls,
        })
    }

    async fn get<T: DeserializeOwned>(&self, path: &str) -> Result<T> {
        self.calls.repeat(path, None).await
    }

    async fn post<T: DeserializeOwned>(&self, path: &str, ask: &impl Serialize) -> Result<T> {
        let body = json(ask)?.into();
        self.calls.repeat(path, Some(body)).await
    }
}

#[async_trait]
impl TaskStore for HttpTaskStore {
    async fn open_schema(&self) -> Result<SchemaInfo> {
        self.get("/v1/store").await
    }

    async fn apply(&self, writes: Vec<Write>) -> Result<Vec<Result<Done>>> {
        // What JSON cannot say is refused here, each write on its own, as a store would.
        let refused: Vec<_> = writes.iter().map(|write| guard::check(write).err()).collect();
        let sendable: Vec<_> = writes
            .iter()
            .zip(&refused)
            .filter(|(_, refused)| refused.is_none())
            .map(|(write, _)| write)
            .collect();
        let mut done = if sendable.is_empty() {
            Vec::new()
        } else {
            let repeat = if sendable.iter().all(|write| is_repeatable(&write.op)) {
                Repeat::Harmless
            } else {
                Repeat::Never
            };
            self.writes.ask(items(&sendable)?, sendable.len(), repeat).await?
        }
        .into_iter();
        let mixed_up = || Err(Error::Corrupt("the server mixed up its answers".to_owned()));
        let each = refused.into_iter().map(|refused| match refused {
            Some(error) => Err(error),
            None => done.next().unwrap_or_else(mixed_up),
        });
        Ok(each.collect())
    }

    async fn claim(&self, req: ClaimReq) -> Result<Vec<Lease>> {
        let mut leases = self.claims.ask(json(&req)?, 1, Repeat::Never).await?;
        leases
            .pop()
            .unwrap_or_else(|| Err(Error::Corrupt("the server gave no answer".to_owned())))
    }

    async fn due(&self, limit: u32) -> Result<DueReport> {
        self.post("/v1/store/due", &Due { limit }).await
    }

    async fn read(&self, query: Query) -> Result<Page> {
        let answer: Answer = self.post("/v1/store/read", &Ask { query }).await?;
        let mut page = answer.page;
        page.mend();
        Ok(page)
    }

    async fn now(&self) -> Result<Timestamp> {
        let time: Time = self.get("/v1/store/now").await?;
        Ok(time.now)
    }

    fn wake(&self) -> BoxStream<'static, Wake> {
        self.hints.subscribe()
    }
}

/// Items of a JSON list, with commas between them.
fn items(writes: &[&Write]) -> Result<Vec<u8>> {
    let mut list = json(writes)?;
    list.pop();
    list.remove(0);
    Ok(list)
}

fn json(value: &(impl Serialize + ?Sized)) -> Result<Vec<u8>> {
    serde_json::to_vec(value).map_err(|error| Error::invalid("request", error.to_string()))
}

/// Whether doing it twice is as doing it once, the answer included.
fn is_repeatable(op: &Op) -> bool {
    match op {
        Op::Append { message, .. } => message.key.is_some(),
        Op::Signal { signal, .. } => matches!(
            signal,
            Signal::Set | Signal::Reset | Signal::ShutUntil(_) | Signal::PutOnce { .. }
        ),
        Op::Create(_)
        | Op::Heartbeat { .. }
        | Op::Complete { .. }
        | Op::Step { .. }
        | Op::Cancel { .. }
        | Op::CancelTree { .. }
        | Op::Declare(_)
        | Op::Return { .. }
        | Op::PutSchedule(_)
        | Op::DropSchedule(_)
        | Op::Weigh { .. }
        | Op::ImportMessages(_)
        | Op::ImportSteps(_) => true,
        _ => false,
    }
}
