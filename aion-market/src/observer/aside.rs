//! Predictors that take long: asked beside the log, few at once and from a short queue, and entered when
//! they answer.
//!
//! What waits here is not stored: a restart forgets it, and the next event that asks for it asks again.

use std::collections::VecDeque;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use aion_types::{EventRecord, ForecasterId, MessageRecord, PpmDist, TaskId, TaskRecord};
use tokio::sync::Semaphore;

use super::Observer;
use super::asking::Moment;
use super::health::{FailureKind, reason_of};
use crate::Result;
use crate::draft::Draft;
use crate::error::Error;
use crate::feed::TaskView;
use crate::order::Forecast;
use crate::predict::{Pace, Predictor};
use crate::spec::market_of_task;
use crate::store::{MarketStatus, MarketView};

/// How many are asked at once.
const AT_ONCE: u32 = 4;
/// How many wait to be asked.
const MAX_WAITING: usize = 64;

/// One question to one predictor: the task as it was at an event.
#[derive(Debug)]
pub(super) struct Ask {
    predictor: Arc<dyn Predictor>,
    task: TaskRecord,
    /// The number of the last message that it is shown.
    messages: u64,
    price: PpmDist,
    event: EventRecord,
}

impl Ask {
    fn is_about(&self, predictor: &ForecasterId, task: TaskId) -> bool {
        self.predictor.id() == predictor && self.task.id == task
    }
}

/// Who waits. Clones are one queue.
#[derive(Debug, Clone)]
pub(super) struct Aside(Arc<Shared>);

#[derive(Debug)]
struct Shared {
    queue: Mutex<Queue>,
    places: Semaphore,
}

#[derive(Debug, Default)]
struct Queue {
    waiting: VecDeque<Ask>,
    /// Tasks of the runtime that will each take one out.
    takers: usize,
}

/// What became of a question.
enum Put {
    /// It waits, and a taker has to be started for it.
    Alone,
    /// It waits, and somebody comes for it already.
    Expected,
    /// There is no room for it.
    Refused(Box<Ask>),
}

impl Default for Aside {
    fn default() -> Self {
        Self(Arc::new(Shared {
            queue: Mutex::default(),
            places: Semaphore::new(AT_ONCE as usize),
        }))
    }
}

impl Aside {
    /// A later question to the same predictor about the same task takes the place of the earlier one.
    fn put(&self, ask: Ask) -> Put {
        let mut queue = self.lock();
        let (who, task) = (ask.predictor.id(), ask.task.id);
        if let Some(earlier) = queue.waiting.iter().position(|one| one.is_about(who, task)) {
            queue.waiting[earlier] = ask;
            return Put::Expected;
        }
        if queue.waiting.len() >= MAX_WAITING {
            return Put::Refused(Box::new(ask));
        }
        queue.waiting.push_back(ask);
        if queue.takers >= queue.waiting.len() {
            return Put::Expected;
        }
        queue.takers += 1;
        Put::Alone
    }

    fn take(&self) -> Option<Ask> {
        let mut queue = self.lock();
        queue.takers = queue.takers.saturating_sub(1);
        queue.waiting.pop_front()
    }

    /// A task that ended is asked about no more.
    pub(super) fn forget(&self, task: TaskId) {
        self.lock().waiting.retain(|ask| ask.task.id != task);
    }

    fn lock(&self) -> MutexGuard<'_, Queue> {
        // Questions are put and taken whole; a taker too many finds nothing.
        self.0.queue.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Observer {
    /// The questions to those that are due and not waited for.
    pub(super) fn asides(
        &self,
        draft: &Draft,
        task: &TaskRecord,
        event: &EventRecord,
        moment: Moment<'_>,
    ) -> Vec<Ask> {
        let due = self.due(moment, Pace::Aside);
        due.map(|predictor| Ask {
            predictor: Arc::clone(predictor),
            task: task.clone(),
            messages: moment.messages(),
            price: draft.state.price().clone(),
            event: event.clone(),
        })
        .collect()
    }

    /// Lets these be asked; whoever finds no room is not, and that is noted.
    pub(super) fn ask_aside(&self, asks: Vec<Ask>) {
        for ask in asks {
            match self.aside.put(ask) {
                Put::Expected => {}
                Put::Alone => drop(tokio::spawn(self.clone().take_one())),
                Put::Refused(ask) => {
                    let reason = format!("{MAX_WAITING} others wait to be asked");
                    self.fail_aside(&ask, FailureKind::Crowded, reason);
                }
            }
        }
    }

    /// Waits until whoever was asked aside so far has answered or been given up.
    pub async fn settled(&self) {
        loop {
            let all = self.aside.0.places.acquire_many(AT_ONCE).await;
            if self.aside.lock().takers == 0 {
                return;
            }
            // Some have yet to ask for a place.
            drop(all);
            tokio::task::yield_now().await;
        }
    }

    async fn take_one(self) {
        let _place = self.aside.0.places.acquire().await;
        let Some(ask) = self.aside.take() else {
            return;
        };
        if let Err(error) = self.answer(&ask).await {
            self.fail_aside(&ask, FailureKind::Error, reason_of(&error));
        }
    }

    async fn answer(&self, ask: &Ask) -> Result<()> {
        let market = self.market.get(market_of_task(ask.task.id)).await?;
        if !self.has_room(&market) {
            let reason = "the market took no more forecasts when its turn came".to_owned();
            self.fail_aside(ask, FailureKind::Late, reason);
            return Ok(());
        }
        let messages = self.messages_until(ask.task.id, ask.messages).await?;
        let view = TaskView::new(&ask.task, &messages, ask.event.at);
        let asked = self.ask_one(ask.predictor.as_ref(), &view, &ask.price, ask.event.seq);
        if let Some((id, forecast)) = asked.await {
            self.enter_aside(ask, &id, &forecast).await;
        }
        Ok(())
    }

    fn has_room(&self, market: &MarketView) -> bool {
        market.status == MarketStatus::Open
            && market.closed_at.is_none()
            && market.forecasts < self.options.max_forecasts
    }

    pub(super) async fn messages_until(&self, task: TaskId, last: u64) -> Result<Vec<MessageRecord>> {
        if last == 0 {
            return Ok(Vec::new());
        }
        let mut messages = self.all_messages(task).await?;
        messages.retain(|message| message.seq <= last);
        Ok(messages)
    }

    async fn enter_aside(&self, ask: &Ask, id: &ForecasterId, forecast: &Forecast) {
        match self.market.forecast(market_of_task(ask.task.id), forecast).await {
            Ok(_) => self.spoke(id),
            Err(error @ Error::Closed { .. }) => {
                self.fail_aside(ask, FailureKind::Late, reason_of(&error));
            }
            Err(error) => self.fail_aside(ask, FailureKind::Refused, reason_of(&error)),
        }
    }

    fn fail_aside(&self, ask: &Ask, kind: FailureKind, reason: String) {
        let view = TaskView::new(&ask.task, &[], ask.event.at);
        self.fail(ask.predictor.id(), &view, kind, reason);
    }
}
