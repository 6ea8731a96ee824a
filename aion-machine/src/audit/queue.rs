//! The bounded way from those who record to the one who writes.

use std::sync::Arc;
use std::sync::mpsc::SyncSender;
use std::time::Duration;

use tokio::sync::mpsc::UnboundedSender;
use tokio::sync::{OwnedSemaphorePermit, Semaphore, oneshot};

use super::row::{AuditEvent, Outcome};

/// How many rows there is room for: those that wait to be written, and one for the end of each thing that goes on.
pub(super) const PLACES: usize = 8192;
/// How long a place is waited for.
pub(super) const PLACE_WAIT: Duration = Duration::from_secs(5);

/// That something was recorded. Of something that was asked for it holds the place in which its end will be
/// written, so that there is one however many others are waiting.
#[derive(Debug)]
pub struct Receipt {
    seq: u64,
    end: Option<OwnedSemaphorePermit>,
}

impl Receipt {
    /// A row of this number; for sinks that have room for every end.
    pub fn new(seq: u64) -> Self {
        Self { seq, end: None }
    }

    /// The number of the row.
    pub fn seq(&self) -> u64 {
        self.seq
    }
}

/// A row to be written, and the place that it has until it is.
#[derive(Debug)]
pub(super) struct Waiting {
    pub(super) event: AuditEvent,
    pub(super) at_ms: u64,
    pub(super) _place: Option<OwnedSemaphorePermit>,
}

/// What the writer is to do.
#[derive(Debug)]
pub(super) enum Job {
    /// Write this and say so; the second place is for the receipt.
    Record {
        row: Waiting,
        end: Option<OwnedSemaphorePermit>,
        written: oneshot::Sender<std::io::Result<Receipt>>,
    },
    /// Write this, now or as soon as there is room.
    Conclude(Waiting),
    /// Say when all that came before is written.
    Flush(SyncSender<()>),
}

/// Where rows are put that are to be written, in the order in which they come.
#[derive(Debug)]
pub(super) struct Queue {
    jobs: UnboundedSender<Job>,
    places: Arc<Semaphore>,
    wait: Duration,
}

impl Queue {
    pub(super) fn new(jobs: UnboundedSender<Job>, (places, wait): (usize, Duration)) -> Self {
        Self {
            jobs,
            places: Arc::new(Semaphore::new(places)),
            wait,
        }
    }

    pub(super) async fn record(&self, event: AuditEvent, at_ms: u64) -> std::io::Result<Receipt> {
        let is_asked = event.outcome == Outcome::Asked;
        let mut place = self.places(if is_asked { 2 } else { 1 }).await?;
        let end = if is_asked { place.split(1) } else { None };
        let (written, answer) = oneshot::channel();
        let mut answer = Answer {
            queue: self,
            cancelled: is_asked.then(|| event.cancelled()),
            at_ms,
            answer,
        };
        let row = Waiting {
            event,
            at_ms,
            _place: Some(place),
        };
        self.jobs
            .send(Job::Record { row, end, written })
            .map_err(|_| stopped())?;
        let answered = (&mut answer.answer).await;
        answer.cancelled = None;
        answered.unwrap_or_else(|_| Err(stopped()))
    }

    /// All of them at once, so that nobody waits with one in hand for the other.
    async fn places(&self, count: u32) -> std::io::Result<OwnedSemaphorePermit> {
        if let Ok(places) = Arc::clone(&self.places).try_acquire_many_owned(count) {
            return Ok(places);
        }
        let places = Arc::clone(&self.places).acquire_many_owned(count);
        match tokio::time::timeout(self.wait, places).await {
            Ok(Ok(places)) => Ok(places),
            Ok(Err(_)) => Err(stopped()),
            Err(_) => {
                let reason = "too many rows wait to be written";
                Err(std::io::Error::new(std::io::ErrorKind::TimedOut, reason))
            }
        }
    }

    pub(super) fn conclude(&self, receipt: Receipt, mut event: AuditEvent, at_ms: u64) {
        event.of = Some(receipt.seq);
        let row = Waiting {
            event,
            at_ms,
            _place: receipt.end,
        };
        if self.jobs.send(Job::Conclude(row)).is_err() {
            tracing::error!(of = receipt.seq, "what came of this is not in the audit log");
        }
    }

    /// Waits, on this thread, until what came before is written or cannot be.
    pub(super) fn flush(&self) {
        let (done, flushed) = std::sync::mpsc::sync_channel(1);
        if self.jobs.send(Job::Flush(done)).is_ok() {
            let _ = flushed.recv();
        }
    }
}

/// What the writer will say. Who asked may go away after it was said and before it was heard: what was asked for does
/// not happen then, and the log says so.
struct Answer<'q> {
    queue: &'q Queue,
    /// The end of what was asked for, until the answer was heard.
    cancelled: Option<AuditEvent>,
    at_ms: u64,
    answer: oneshot::Receiver<std::io::Result<Receipt>>,
}

impl Drop for Answer<'_> {
    fn drop(&mut self) {
        // From here on the writer sees that nobody waits.
        self.answer.close();
        if let Some(event) = self.cancelled.take()
            && let Ok(Ok(receipt)) = self.answer.try_recv()
        {
            self.queue.conclude(receipt, event, self.at_ms);
        }
    }
}

pub(super) fn receipt(seq: u64, end: Option<OwnedSemaphorePermit>) -> Receipt {
    Receipt { seq, end }
}

fn stopped() -> std::io::Error {
    std::io::Error::other("the writer of the audit log has stopped")
}
