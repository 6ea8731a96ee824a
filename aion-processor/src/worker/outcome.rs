//! Waiting for the end of a task from outside.

use std::time::Duration;

use aion_types::{TaskId, TaskRecord};
use futures::StreamExt;
use tokio::time::{sleep, timeout};

use crate::{Processor, Result};

/// How often somebody who waits looks even if nobody told him to.
const POLL: Duration = Duration::from_secs(1);

impl Processor {
    /// Waits until the task has ended, and gives it as it is then.
    ///
    /// # Errors
    /// [`Error::NotFound`](crate::Error::NotFound), or a failure of the storage.
    pub async fn wait_for(&self, task: TaskId) -> Result<TaskRecord> {
        let mut hints = self.wake();
        loop {
            let record = self.get(task).await?;
            if record.status.is_terminal() {
                return Ok(record);
            }
            // No hint for a while is no failure: it is the moment to look again.
            if let Ok(None) = timeout(POLL, hints.next()).await {
                sleep(POLL).await;
            }
        }
    }
}
