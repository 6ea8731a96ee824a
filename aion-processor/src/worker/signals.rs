//! What a running attempt is told from outside: that its lease is lost, that it waits, that it should stop.

use std::sync::{Mutex, PoisonError};

use tokio::sync::watch;
use tokio::time::{Instant, sleep_until};

/// Why a function is not polled any longer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Over {
    /// Somebody else may have the task.
    Lost,
    /// The task waits for something and is claimed again when that is there.
    Waits,
}

/// What is known about a lease, shared by the attempt, its context and the keeper of leases.
#[derive(Debug)]
pub(super) struct Signals {
    over: watch::Sender<Option<Over>>,
    cancel: watch::Sender<bool>,
    /// Until when the lease holds for sure, by this process' own monotonic clock.
    holds_until: Mutex<Instant>,
}

impl Signals {
    pub(super) fn new(holds_until: Instant) -> Self {
        Self {
            over: watch::Sender::new(None),
            cancel: watch::Sender::new(false),
            holds_until: Mutex::new(holds_until),
        }
    }

    /// Ends the attempt; the first reason stays.
    pub(super) fn end(&self, why: Over) {
        self.over.send_if_modified(|over| {
            let first = over.is_none();
            over.get_or_insert(why);
            first
        });
    }

    /// The lease was extended.
    pub(super) fn extend(&self, holds_until: Instant) {
        *self.lock() = holds_until;
    }

    /// Until when the lease holds for sure.
    pub(super) fn holds_until(&self) -> Instant {
        *self.lock()
    }

    pub(super) fn ask_to_stop(&self) {
        self.cancel.send_replace(true);
    }

    pub(super) fn is_asked_to_stop(&self) -> bool {
        *self.cancel.borrow()
    }

    /// Comes back when the attempt was asked to stop.
    pub(super) async fn asked_to_stop(&self) {
        // The sender lives as long as `self` is borrowed.
        let _ = self.cancel.subscribe().wait_for(|asked| *asked).await;
    }

    /// Comes back when the attempt is over, also because nobody could extend its lease in time.
    pub(super) async fn over(&self) -> Over {
        let mut told = self.over.subscribe();
        loop {
            let until = self.holds_until();
            tokio::select! {
                biased;
                over = told.wait_for(Option::is_some) => {
                    return over.ok().and_then(|over| *over).unwrap_or(Over::Lost);
                }
                () = sleep_until(until) => {
                    if self.holds_until() <= Instant::now() {
                        return Over::Lost;
                    }
                }
            }
        }
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, Instant> {
        self.holds_until.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
