//! For replays: another predictor, asked once, after a share of the messages of a task.

use std::collections::BTreeMap;
use std::num::NonZeroU32;
use std::sync::Arc;

use aion_types::{ForecasterId, PpmDist, TaskId};
use async_trait::async_trait;

use super::{Cadence, Ended, Opinion, PredictError, Predictor};
use crate::Result;
use crate::features::Share;
use crate::feed::TaskView;

/// Lets a predictor speak once about each task: after a share of its messages.
///
/// Only a replay knows how many messages a task will have. That alone tells something about it: numbers
/// measured this way are those of a view of known length.
#[derive(Debug, Clone)]
pub struct AtShare {
    inner: Arc<dyn Predictor>,
    share: Share,
    messages: Arc<BTreeMap<TaskId, usize>>,
}

impl AtShare {
    /// This predictor after this share of so many messages; silent about other tasks.
    pub fn new(inner: Arc<dyn Predictor>, share: Share, messages: Arc<BTreeMap<TaskId, usize>>) -> Self {
        Self {
            inner,
            share,
            messages,
        }
    }
}

#[async_trait]
impl Predictor for AtShare {
    fn id(&self) -> &ForecasterId {
        self.inner.id()
    }

    fn informed(&self) -> bool {
        self.inner.informed()
    }

    fn cadence(&self) -> Cadence {
        Cadence::EveryMessages(NonZeroU32::MIN)
    }

    async fn predict(&self, task: &TaskView<'_>, price: &PpmDist) -> Result<Option<Opinion>, PredictError> {
        let due = self.messages.get(&task.task.id).map(|all| self.share.of(*all));
        if due != Some(task.messages.len()) {
            return Ok(None);
        }
        self.inner.predict(task, price).await
    }

    async fn learn(&self, ended: &Ended<'_>) -> Result<(), PredictError> {
        self.inner.learn(ended).await
    }
}
