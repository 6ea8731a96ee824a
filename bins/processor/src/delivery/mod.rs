//! [`Deliverer`]: sends what webhooks tell of, and writes down what came of it.
//!
//! Each webhook goes on by itself, so that a slow receiver holds up no other. One round of a webhook: look for
//! events that it wants and for parked ones whose time has come, take it under a lease, send (events of one task
//! one after the other, tasks beside each other), settle all of it in one write. Whatever a crash leaves unsettled
//! is sent again with the same id.

mod args;
mod kinds;
mod message;
mod resolver;
mod round;
mod sender;
mod target;

use std::collections::HashMap;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use aion_processor::{NameQuery, Processor, SettleWebhook, TakeWebhook, Webhook};
use aion_types::{HandlerId, Timestamp};
use futures::StreamExt;
use tokio::sync::{Semaphore, watch};
use tokio::task::JoinSet;

pub use self::args::TargetArgs;
use self::kinds::Kinds;
pub use self::message::Outgoing;
pub use self::resolver::{Lookup, SystemLookup};
pub use self::sender::{HttpSender, Patience, Sender, SenderError};
pub use self::target::{Plain, TargetError, TargetPolicy};
pub use aion_types::AddressRange;

/// How long to wait for more hints after one.
const BREATH: Duration = Duration::from_millis(10);

/// How a [`Deliverer`] works.
#[derive(Debug, Clone)]
pub struct DelivererOptions {
    /// Who it is; no two that share a store have the same name.
    pub holder: HandlerId,
    /// How often it looks even if nobody told it to.
    pub poll: Duration,
    /// Messages on their way at once, of all webhooks.
    pub max_sending: usize,
    /// Messages on their way at once, of one webhook.
    pub max_sending_each: usize,
    /// Events in one round of one webhook.
    pub max_batch: usize,
    /// After so long a round begins no further message.
    pub round: Duration,
    /// How long nobody else sends for a webhook after a round began: longer than a round and its last message.
    pub lease_ms: u64,
    /// How long it may take to stop.
    pub grace: Duration,
}

impl DelivererOptions {
    /// Under this name.
    pub fn new(holder: HandlerId) -> Self {
        Self {
            holder,
            poll: Duration::from_secs(1),
            max_sending: 64,
            max_sending_each: 8,
            max_batch: 64,
            round: Duration::from_secs(10),
            lease_ms: 30_000,
            grace: Duration::from_secs(5),
        }
    }
}

/// Sends for the webhooks of a store.
///
/// ```
/// use std::sync::Arc;
///
/// use aion_processor::{Limits, MemTaskStore, Processor};
/// use aion_processor_server::{Deliverer, DelivererOptions, HttpSender, TargetPolicy};
/// use aion_types::{HandlerId, SystemClock};
///
/// # tokio::runtime::Builder::new_current_thread().enable_all().build()?.block_on(async {
/// let processor = Processor::new(MemTaskStore::new(SystemClock, Limits::default()));
/// let sender = HttpSender::new(TargetPolicy::default())?;
/// let options = DelivererOptions::new(HandlerId::new("server-1")?);
/// let delivering = Deliverer::new(processor, sender, options).start();
/// delivering.stop().await;
/// # Ok::<(), Box<dyn std::error::Error>>(()) })?;
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Debug, Clone)]
pub struct Deliverer {
    processor: Processor,
    sender: Arc<dyn Sender>,
    options: DelivererOptions,
    slots: Arc<Semaphore>,
    kinds: Arc<Kinds>,
    memory: Arc<Mutex<HashMap<String, Memory>>>,
    any: Arc<AtomicBool>,
}

/// What is remembered of a webhook between rounds; forgetting it costs a second look at some events.
#[derive(Debug, Clone, Copy, Default)]
struct Memory {
    /// Epoch and version of the webhook: it is about another one if they are.
    of: (u64, u64),
    /// Events up to here are not wanted.
    seen: u64,
    /// Nothing new is tried before, for there has been nothing but failures.
    probe_at: Timestamp,
}

/// Webhooks that have a worker, and whether somebody asked for another look since it began.
#[derive(Debug, Default)]
struct Busy(HashMap<String, bool>);

impl Busy {
    /// Whether it has no worker yet. One that has looks again when it is done.
    fn begins(&mut self, name: &str) -> bool {
        let asked = self.0.get_mut(name).map(|again| *again = true);
        if asked.is_none() {
            self.0.insert(name.to_owned(), false);
        }
        asked.is_none()
    }

    /// Whether to look again.
    fn ends(&mut self, name: &str) -> bool {
        self.0.remove(name).unwrap_or(false)
    }
}

/// Whether there may be more to do at once.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Progress {
    /// There may.
    Went,
    /// There is not.
    Idle,
}

impl Deliverer {
    /// Sends by `sender`.
    pub fn new(processor: Processor, sender: impl Sender, options: DelivererOptions) -> Self {
        Self {
            slots: Arc::new(Semaphore::new(options.max_sending.max(1))),
            processor,
            sender: Arc::new(sender),
            options,
            kinds: Arc::default(),
            memory: Arc::default(),
            any: Arc::default(),
        }
    }

    /// Works in a task of its own until it is stopped. Must be called within a runtime of tokio.
    pub fn start(self) -> Delivering {
        let (stop, stopped) = watch::channel(());
        let grace = self.options.grace;
        let task = tokio::spawn(self.run(stopped));
        Delivering { stop, task, grace }
    }

    /// Does everything that there is to do now, once, and gives how many rounds it took.
    ///
    /// # Errors
    /// A failure of the storage.
    pub async fn catch_up(&self) -> aion_processor::Result<usize> {
        let mut rounds = 0;
        loop {
            let webhooks = self.webhooks().await?;
            let round = webhooks.iter().map(|webhook| self.round(webhook));
            let made = futures::future::join_all(round).await;
            let made: Vec<Progress> = made.into_iter().collect::<Result<_, _>>()?;
            if made.iter().all(|progress| *progress == Progress::Idle) {
                return Ok(rounds);
            }
            rounds += 1;
        }
    }

    async fn run(self, mut stopped: watch::Receiver<()>) {
        let mut hints = self.processor.wake();
        let (mut busy, mut workers) = (Busy::default(), JoinSet::new());
        let mut look = true;
        loop {
            if std::mem::take(&mut look) {
                self.begin(&mut busy, &mut workers, &stopped).await;
            }
            tokio::select! {
                _ = stopped.changed() => break,
                Some(done) = workers.join_next() => look = done.is_ok_and(|name| busy.ends(&name)),
                // A missed hint costs a wait of `poll` at most. Many at once are one.
                Some(_) = hints.next(), if self.has_webhooks() => {
                    tokio::time::sleep(BREATH).await;
                    look = true;
                }
                () = tokio::time::sleep(self.options.poll) => look = true,
            }
        }
        while workers.join_next().await.is_some() {}
    }

    /// Sets a worker on every webhook that has none.
    async fn begin(&self, busy: &mut Busy, workers: &mut JoinSet<String>, stopped: &watch::Receiver<()>) {
        let webhooks = match self.webhooks().await {
            Ok(webhooks) => webhooks,
            Err(error) => {
                tracing::warn!(%error, "the webhooks cannot be read");
                return;
            }
        };
        self.forget_all_but(&webhooks);
        for webhook in webhooks {
            if busy.begins(&webhook.name) {
                workers.spawn(self.clone().work(webhook, stopped.clone()));
            }
        }
    }

    /// Goes on with one webhook until there is nothing to do or it is told to stop.
    async fn work(self, mut webhook: Webhook, stopped: watch::Receiver<()>) -> String {
        let name = webhook.name.clone();
        let mut sent = false;
        while !stopped.has_changed().unwrap_or(true) {
            match self.round(&webhook).await {
                Ok(Progress::Went) => sent = true,
                Ok(Progress::Idle) => break,
                Err(error) => {
                    tracing::warn!(%error, webhook = %name, "a webhook cannot go on");
                    break;
                }
            }
            match self.processor.webhook(&name).await {
                Ok(found) => webhook = found,
                Err(_) => break,
            }
        }
        if sent && stopped.has_changed().unwrap_or(true) {
            self.give_up(&name).await;
        }
        name
    }

    /// Lets others send at once instead of after the lease.
    async fn give_up(&self, name: &str) {
        let taken = self.processor.take_webhook(self.wish(name, 0)).await;
        if let Ok(taken) = taken {
            // If it fails, the lease ends by itself.
            let _ = self
                .processor
                .settle_webhook(SettleWebhook::new(&taken.webhook, 0))
                .await;
        }
    }

    fn wish(&self, name: &str, max: u32) -> TakeWebhook {
        TakeWebhook {
            name: name.to_owned(),
            holder: self.options.holder.clone(),
            lease_ms: self.options.lease_ms,
            max,
        }
    }

    async fn webhooks(&self) -> aion_processor::Result<Vec<Webhook>> {
        let mut all: Vec<Webhook> = Vec::new();
        loop {
            let page = self.processor.webhooks(NameQuery {
                after: all.last().map(|webhook| webhook.name.clone()),
                limit: 100,
            });
            let page = page.await?;
            let is_last = page.len() < 100;
            all.extend(page);
            if is_last {
                return Ok(all);
            }
        }
    }

    fn remembered(&self, webhook: &Webhook) -> Memory {
        let memory = self.memory.lock().unwrap_or_else(PoisonError::into_inner);
        let known = memory.get(&webhook.name).copied().unwrap_or_default();
        let of = (webhook.epoch, webhook.version);
        if known.of == of {
            return known;
        }
        Memory {
            of,
            ..Memory::default()
        }
    }

    fn remember(&self, webhook: &Webhook, memory: Memory) {
        let mut known = self.memory.lock().unwrap_or_else(PoisonError::into_inner);
        known.insert(webhook.name.clone(), memory);
    }

    /// Whether there were any at the last look: whoever has none need not look at every commit.
    fn has_webhooks(&self) -> bool {
        self.any.load(Ordering::Relaxed)
    }

    fn forget_all_but(&self, webhooks: &[Webhook]) {
        self.any.store(!webhooks.is_empty(), Ordering::Relaxed);
        let mut known = self.memory.lock().unwrap_or_else(PoisonError::into_inner);
        known.retain(|name, _| webhooks.iter().any(|webhook| webhook.name == *name));
    }
}

/// A [`Deliverer`] at work; it stops when this is dropped.
#[derive(Debug)]
pub struct Delivering {
    stop: watch::Sender<()>,
    task: tokio::task::JoinHandle<()>,
    grace: Duration,
}

impl Delivering {
    /// Begins nothing new and waits for what is on its way, but not for long: what is cut off is sent again.
    pub async fn stop(self) {
        let Self {
            stop,
            mut task,
            grace,
        } = self;
        // It has ended already if nobody hears this.
        let _ = stop.send(());
        if tokio::time::timeout(grace, &mut task).await.is_err() {
            task.abort();
        }
    }
}
