//! [`Retention`]: trees that ended long ago go by themselves.

use std::time::Duration;

use aion_processor::Processor;
use aion_service::Problem;
use aion_types::Timestamp;

use crate::archive::Archive;
use crate::problem::in_query;
use crate::trees::remove_ended;

/// Trees that are removed before others get a turn.
const AT_ONCE: u32 = 100;

/// How long trees that have ended are kept, and where they go then.
#[derive(Debug, Clone)]
pub struct Retention {
    processor: Processor,
    kept: Duration,
    archive: Option<Archive>,
}

impl Retention {
    /// Trees of `processor` are kept for so long after the end of their roots; then they are removed, and written to
    /// the archive before if there is one. A tree of which a task is still open stays.
    pub fn new(processor: Processor, kept: Duration, archive: Option<Archive>) -> Self {
        Self {
            processor,
            kept,
            archive,
        }
    }

    /// Removes what has been kept for long enough; gives how many trees are gone.
    ///
    /// # Errors
    /// When the archive cannot be written, or a failure of the storage; the trees before that one are gone.
    pub async fn round(&self) -> Result<u64, Problem> {
        let now = self.processor.now().await.map_err(in_query)?.as_ms();
        let kept = i64::try_from(self.kept.as_millis()).unwrap_or(i64::MAX);
        let before = Timestamp::from_ms(now.saturating_sub(kept).max(0));
        let mut gone = 0;
        loop {
            let retired = remove_ended(&self.processor, before, AT_ONCE, self.archive.as_ref()).await?;
            gone += retired.trees;
            if !retired.more {
                return Ok(gone);
            }
        }
    }

    /// Does so every `period`, for as long as it is polled.
    pub async fn run(&self, period: Duration) {
        loop {
            match self.round().await {
                Ok(0) => {}
                Ok(trees) => tracing::info!(trees, "removed what ended long ago"),
                Err(problem) => tracing::error!(?problem, "trees that ended long ago are still there"),
            }
            tokio::time::sleep(period).await;
        }
    }
}
