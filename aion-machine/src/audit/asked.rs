//! Something that was asked for and has not ended.

use std::sync::Arc;
use std::time::Instant;

use serde_json::Value;

use super::row::{AuditEvent, Outcome};
use super::{AuditSink, Receipt};
use crate::{Error, Result};

/// Something that is on paper and has not ended. Dropped like that, it is recorded that nobody waited for it.
#[derive(Debug)]
pub struct Asked {
    sink: Arc<dyn AuditSink>,
    open: Option<(Receipt, AuditEvent)>,
    begun: Instant,
}

impl Asked {
    /// Puts on paper that something is about to happen.
    ///
    /// # Errors
    /// [`Error::Audit`] if it cannot be; then it must not happen.
    pub async fn record(sink: &Arc<dyn AuditSink>, mut event: AuditEvent) -> Result<Self> {
        event.outcome = Outcome::Asked;
        let receipt = sink.record(event.clone()).await.map_err(Error::Audit)?;
        event.what = Value::Null;
        Ok(Self {
            sink: Arc::clone(sink),
            open: Some((receipt, event)),
            begun: Instant::now(),
        })
    }

    /// Says what came of it; `add` adds what only this operation knows.
    pub fn settle<T>(mut self, add: impl FnOnce(&mut AuditEvent), done: &Result<T>) {
        if let Some((receipt, mut event)) = self.open.take() {
            conclude(&mut event, done, self.begun);
            add(&mut event);
            self.sink.conclude(receipt, event);
        }
    }
}

impl Drop for Asked {
    fn drop(&mut self) {
        if let Some((receipt, mut event)) = self.open.take() {
            event.outcome = Outcome::Cancelled;
            event.duration_ms = Some(millis(self.begun));
            self.sink.conclude(receipt, event);
        }
    }
}

fn millis(begun: Instant) -> u64 {
    u64::try_from(begun.elapsed().as_millis()).unwrap_or(u64::MAX)
}

pub(super) fn conclude<T>(event: &mut AuditEvent, done: &Result<T>, begun: Instant) {
    event.outcome = done.as_ref().map_or_else(outcome, |_| Outcome::Done);
    event.code = done.as_ref().err().map(|error| error.code().to_owned());
    event.duration_ms = Some(millis(begun));
}

fn outcome(error: &Error) -> Outcome {
    match error {
        Error::Escapes { .. }
        | Error::Denied { .. }
        | Error::EnvDenied { .. }
        | Error::HardLinked { .. }
        | Error::TooLarge { .. }
        | Error::Busy { .. }
        | Error::ConfinementUnavailable { .. } => Outcome::Denied,
        _ => Outcome::Failed,
    }
}
