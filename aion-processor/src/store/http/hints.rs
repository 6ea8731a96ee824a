//! Hints over HTTP: one stream of the server for all listeners of a store.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;

use eventsource_stream::Eventsource;
use futures::stream::BoxStream;
use futures::{FutureExt, StreamExt};
use tokio::runtime::Handle;
use tokio::sync::broadcast;

use super::calls::{Calls, Failed};
use crate::Wake;
use crate::store::hints;

/// How long the stream stays open when nobody listens.
const LINGER: Duration = Duration::from_secs(5);

/// Who listens, and how far the log was seen.
#[derive(Debug)]
pub(super) struct Hints {
    calls: Arc<Calls>,
    sender: broadcast::Sender<Wake>,
    seen: AtomicU64,
    running: AtomicBool,
}

impl Hints {
    pub(super) fn new(calls: Arc<Calls>) -> Arc<Self> {
        Arc::new(Self {
            calls,
            sender: broadcast::channel(64).0,
            seen: AtomicU64::new(0),
            running: AtomicBool::new(false),
        })
    }

    /// The hints from now on. What is committed before the stream stands is told by its first hint.
    pub(super) fn subscribe(self: &Arc<Self>) -> BoxStream<'static, Wake> {
        let receiver = self.sender.subscribe();
        if Handle::try_current().is_ok() {
            self.start();
        }
        let this = Arc::clone(self);
        let listen = async move {
            this.start();
            hints(receiver)
        };
        listen.flatten_stream().boxed()
    }

    fn start(self: &Arc<Self>) {
        if !self.running.swap(true, Ordering::SeqCst) {
            tokio::spawn(Listening(Arc::clone(self)).run());
        }
    }

    fn is_heard(&self) -> bool {
        self.sender.receiver_count() > 0
    }

    /// Passes on what the server says until the stream breaks or nobody listens.
    async fn follow(&self) -> Result<(), Failed> {
        let after = self.seen.load(Ordering::SeqCst);
        let response = self
            .calls
            .events(&format!("/v1/store/wake?after={after}"))
            .await?;
        let mut events = Box::pin(response.bytes_stream().eventsource());
        let mut look = tokio::time::interval_at(tokio::time::Instant::now() + LINGER, LINGER);
        loop {
            tokio::select! {
                event = events.next() => match event {
                    Some(Ok(event)) => self.pass_on(&event.data),
                    _ => return Ok(()),
                },
                _ = look.tick() => if !self.is_heard() {
                    return Ok(());
                },
            }
        }
    }

    /// A hint that cannot be read is lost, as hints may be.
    fn pass_on(&self, data: &str) {
        if let Ok(wake) = serde_json::from_str::<Wake>(data) {
            self.seen.store(wake.last_seq, Ordering::SeqCst);
            let _ = self.sender.send(wake);
        }
    }
}

/// The one task that follows the server.
struct Listening(Arc<Hints>);

impl Listening {
    async fn run(self) {
        let mut tries = 0;
        while self.0.is_heard() {
            match self.0.follow().await {
                Ok(()) => tries = 0,
                Err(failed) => {
                    tracing::debug!(error = %failed.error, "no hints from the server");
                    tries += 1;
                }
            }
            if self.0.is_heard() {
                tokio::time::sleep(self.0.calls.options().pause_after(tries)).await;
            }
        }
    }
}

impl Drop for Listening {
    fn drop(&mut self) {
        self.0.running.store(false, Ordering::SeqCst);
        // Whoever came in the meantime found it running.
        if self.0.is_heard() && Handle::try_current().is_ok() {
            self.0.start();
        }
    }
}
