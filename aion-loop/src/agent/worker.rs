//! [`Worker`]: claims tasks and works on them, one after the other.

use std::time::Duration;

use aion_processor::{ClaimReq, Processor};
use aion_types::{HandlerId, TaskId};
use tokio_util::sync::CancellationToken;

use super::{Agent, WorkEnd};
use crate::{Error, Result};

/// Which tasks a worker takes.
#[derive(Debug, Clone, PartialEq)]
pub struct WorkerOptions {
    /// Kinds of task; every kind if empty.
    pub kinds: Vec<String>,
    /// Queues; every queue if empty.
    pub queues: Vec<String>,
    /// How long one look for work waits.
    pub wait: Duration,
}

impl Default for WorkerOptions {
    fn default() -> Self {
        Self {
            kinds: Vec::new(),
            queues: Vec::new(),
            wait: Duration::from_secs(10),
        }
    }
}

impl WorkerOptions {
    /// Takes only tasks of these kinds.
    #[must_use]
    pub fn with_kinds<T: Into<String>>(mut self, kinds: impl IntoIterator<Item = T>) -> Self {
        self.kinds = kinds.into_iter().map(Into::into).collect();
        self
    }

    /// Takes only tasks of these queues.
    #[must_use]
    pub fn with_queues<T: Into<String>>(mut self, queues: impl IntoIterator<Item = T>) -> Self {
        self.queues = queues.into_iter().map(Into::into).collect();
        self
    }

    /// Sets how long one look for work waits.
    #[must_use]
    pub fn with_wait(mut self, wait: Duration) -> Self {
        self.wait = wait;
        self
    }
}

/// An agent with a name of its own that takes tasks from a processor.
#[derive(Debug, Clone)]
pub struct Worker {
    processor: Processor,
    agent: Agent,
    handler: HandlerId,
    options: WorkerOptions,
}

impl Worker {
    /// A worker called `handler`.
    pub fn new(processor: Processor, agent: Agent, handler: HandlerId, options: WorkerOptions) -> Self {
        Self {
            processor,
            agent,
            handler,
            options,
        }
    }

    /// The agent.
    pub fn agent(&self) -> &Agent {
        &self.agent
    }

    /// Claims one task and works on it; nothing if there is none within the wait.
    ///
    /// # Errors
    /// As [`Agent::work`].
    pub async fn work_once(&self, pause: &CancellationToken) -> Result<Option<WorkEnd>> {
        let claim = self.claim();
        let leases = tokio::select! {
            biased;
            () = pause.cancelled() => return Ok(None),
            leases = self.processor.claim_wait(claim, self.options.wait) => leases?,
        };
        match leases.first() {
            Some(lease) => self.agent.work(&self.processor, lease, pause).await.map(Some),
            None => Ok(None),
        }
    }

    /// Claims this task and works on it; nothing if it is not to be had now. Does first what time
    /// demands, such as ending a lease that ran out.
    ///
    /// # Errors
    /// As [`Agent::work`].
    pub async fn work_on(&self, task: TaskId, pause: &CancellationToken) -> Result<Option<WorkEnd>> {
        self.processor.tick().await?;
        let leases = self.processor.claim(self.claim().with_task(task)).await?;
        match leases.first() {
            Some(lease) => self.agent.work(&self.processor, lease, pause).await.map(Some),
            None => Ok(None),
        }
    }

    /// Works until `pause` is cancelled. A task that fails for reasons of its own does not stop it.
    pub async fn work(&self, pause: &CancellationToken) {
        while !pause.is_cancelled() {
            match self.work_once(pause).await {
                Ok(_) => {}
                Err(Error::LeaseLost) => tracing::warn!("a lease was lost; somebody else has the task"),
                Err(error) => {
                    tracing::error!(
                        error = &error as &dyn std::error::Error,
                        "work on a task broke off"
                    );
                    tokio::time::sleep(Duration::from_secs(1)).await;
                }
            }
        }
    }

    fn claim(&self) -> ClaimReq {
        ClaimReq::new(self.handler.clone())
            .with_queues(self.options.queues.clone())
            .with_kinds(self.options.kinds.clone())
            .with_max(1)
            .with_lease_ms(self.agent.lease_ms)
    }
}
