//! The observer: reads what happens to tasks, opens their markets, asks predictors, resolves.
//!
//! It only reads: the feed has no method that writes. Every event is taken up once and in the order of the
//! log, because the place reached in the feed is stored in the same transaction as what the event caused;
//! so the markets do not depend on when, how often, or in which order anybody told of an event.

mod aside;
mod asking;
mod health;
mod past;

use std::collections::BTreeMap;
use std::num::NonZeroU32;
use std::sync::Arc;
use std::time::Duration;

use aion_types::{EventKind, EventRecord, ForecasterId, MarketId, MessageRecord, TaskId, TaskRecord};

use crate::Result;
use crate::draft::Draft;
use crate::error::Error;
use crate::feed::{TaskFeed, TaskView};
use crate::market::Market;
use crate::predict::{Ended, Pace, Predictor};
use crate::report::Report;
use crate::resolution::Resolution;
use crate::spec::{FAILED, OpenMarket, SUCCESS, Subject, market_of_task};
use crate::store::{CursorMove, MarketFilter, MarketStatus, StoreError};
use aside::{Aside, Ask};
use asking::Moment;
use health::{Health, reason_of};
use past::Attempts;

pub use health::{Failure, FailureKind, PredictorHealth};

const MAX_ATTEMPTS: usize = 16;
const MESSAGES_PER_READ: usize = 200;

/// How an [`Observer`] reads.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct ObserverOptions {
    cursor: String,
    page: usize,
    max_messages: usize,
    max_forecasts: u64,
    debounce: u64,
    patience: Duration,
}

impl Default for ObserverOptions {
    /// Cursor `tasks`, 256 events a read, at most 5,000 messages of a task and 64 forecasts a market;
    /// predictors are asked every 8 messages and have 60 s to answer.
    fn default() -> Self {
        Self {
            cursor: "tasks".to_owned(),
            page: 256,
            max_messages: 5_000,
            max_forecasts: 64,
            debounce: 8,
            patience: Duration::from_secs(60),
        }
    }
}

impl ObserverOptions {
    /// Sets the name under which the place in the feed is kept: one for each feed.
    #[must_use]
    pub fn with_cursor(mut self, name: impl Into<String>) -> Self {
        self.cursor = name.into();
        self
    }

    /// Sets how many events are read at once.
    #[must_use]
    pub fn with_page(mut self, events: usize) -> Self {
        self.page = events.max(1);
        self
    }

    /// Sets after how many forecasts predictors are no longer asked about a task.
    #[must_use]
    pub const fn with_max_forecasts(mut self, forecasts: u64) -> Self {
        self.max_forecasts = forecasts;
        self
    }

    /// Sets after how many messages each predictors are asked that do not say it themselves.
    #[must_use]
    pub const fn with_debounce(mut self, messages: NonZeroU32) -> Self {
        self.debounce = messages.get() as u64;
        self
    }

    /// Sets how long a predictor may take. All that are waited for are asked at once, so this bounds a whole
    /// event. One that computes without a pause cannot be stopped. One that may take long for good reasons
    /// says so by [`Predictor::pace`], and nobody waits for it.
    #[must_use]
    pub const fn with_patience(mut self, patience: Duration) -> Self {
        self.patience = patience;
        self
    }
}

/// What the observer did.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct Observed {
    /// How many events it read.
    pub events: u64,
    /// The markets that it opened.
    pub opened: Vec<MarketId>,
    /// How many forecasts it entered; not those of predictors that are asked aside.
    pub forecasts: u64,
    /// The reports of the markets that it resolved.
    pub resolved: Vec<Report>,
    /// Where it stands in the feed.
    pub cursor: u64,
}

/// Turns the events of tasks into markets. Cheap to clone; runs on Tokio with its timers.
#[derive(Debug, Clone)]
pub struct Observer {
    market: Market,
    feed: Arc<dyn TaskFeed>,
    predictors: Arc<[Arc<dyn Predictor>]>,
    options: ObserverOptions,
    health: Health,
    attempts: Attempts,
    aside: Aside,
}

impl Observer {
    /// An observer of this feed that asks these predictors.
    pub fn new(
        market: Market,
        feed: Arc<dyn TaskFeed>,
        predictors: Vec<Arc<dyn Predictor>>,
        options: ObserverOptions,
    ) -> Self {
        Self {
            market,
            feed,
            predictors: predictors.into(),
            options,
            health: Health::default(),
            attempts: Attempts::default(),
            aside: Aside::default(),
        }
    }

    /// The market that it writes to.
    pub const fn market(&self) -> &Market {
        &self.market
    }

    /// How each predictor has done since the start; one that was never asked is not there.
    pub fn health(&self) -> BTreeMap<ForecasterId, PredictorHealth> {
        self.health.all()
    }

    /// Where it stands in the feed: an event of that number, or a smaller one, is known.
    ///
    /// Whoever is told of events, by webhooks say, compares their numbers with this and then
    /// [catches up](Self::catch_up): the log decides what happened and in which order, so telling of an
    /// event twice, late or out of order changes nothing.
    ///
    /// # Errors
    /// [`Error::Store`]
    pub async fn reached(&self) -> Result<u64> {
        Ok(self.market.store().cursor(&self.options.cursor).await?)
    }

    /// Tells the predictors again of the last `markets` tasks that ended, oldest first: what they keep in
    /// memory survives a restart this way. Gives how many there were.
    ///
    /// # Errors
    /// [`Error::Feed`] or [`Error::Store`].
    pub async fn restore(&self, markets: usize) -> Result<usize> {
        let mut ended: Vec<MarketId> = Vec::new();
        while ended.len() < markets {
            let mut filter = MarketFilter::default().with_status(MarketStatus::Resolved);
            if let Some(last) = ended.last() {
                filter = filter.with_before(*last);
            }
            let page = self.market.list(&filter, markets - ended.len()).await?;
            if page.is_empty() {
                break;
            }
            ended.extend(page.iter().map(|view| view.id));
        }
        for id in ended.iter().rev() {
            self.learn(*id).await?;
        }
        Ok(ended.len())
    }

    /// Takes up everything that has happened since.
    ///
    /// # Errors
    /// [`Error::Feed`] or [`Error::Store`]; what was done before is kept, and the next call goes on.
    pub async fn catch_up(&self) -> Result<Observed> {
        let mut observed = Observed::default();
        let mut lost = 0;
        loop {
            match self.read_page(&mut observed).await {
                Ok(0) => return Ok(observed),
                Ok(_) => lost = 0,
                // Another observer of the same store was first: go on from where it is.
                Err(Error::Store(StoreError::CursorConflict { .. })) if lost < MAX_ATTEMPTS => lost += 1,
                Err(error) => return Err(error),
            }
        }
    }

    async fn read_page(&self, observed: &mut Observed) -> Result<usize> {
        let mut at = self.reached().await?;
        let events = self
            .feed
            .events(at, self.options.page)
            .await
            .map_err(Error::Feed)?;
        let last = events.last().map(|event| event.seq);
        for event in &events {
            if self.take_up(event, at, observed).await? {
                at = event.seq;
            }
            observed.events += 1;
            observed.cursor = event.seq;
        }
        if let Some(to) = last.filter(|last| *last > at) {
            self.market
                .commit(Vec::new(), Some(self.cursor_move(at, to)))
                .await?;
        }
        Ok(events.len())
    }

    fn cursor_move(&self, from: u64, to: u64) -> CursorMove {
        CursorMove {
            name: self.options.cursor.clone(),
            from,
            to,
        }
    }

    /// Does what one event asks for; whether the cursor was moved with it.
    async fn take_up(&self, event: &EventRecord, at: u64, observed: &mut Observed) -> Result<bool> {
        self.attempts.note(event);
        for attempt in 1.. {
            let Some(change) = self.change_for(event).await? else {
                return Ok(false);
            };
            let cursor = self.cursor_move(at, event.seq);
            match self.market.commit(vec![change.draft], Some(cursor)).await {
                Err(Error::Store(StoreError::Conflict { .. })) if attempt < MAX_ATTEMPTS => {}
                Err(error) => return Err(error),
                Ok(_) => {
                    observed.opened.extend(change.opened);
                    observed.forecasts += change.forecasts;
                    self.ask_aside(change.asks);
                    if change.resolves {
                        self.aside.forget(event.task_id);
                        observed
                            .resolved
                            .push(self.learn(market_of_task(event.task_id)).await?);
                    }
                    return Ok(true);
                }
            }
        }
        Ok(false)
    }

    /// What an event changes; `None` if nothing.
    async fn change_for(&self, event: &EventRecord) -> Result<Option<Change>> {
        match event.kind {
            EventKind::Created => self.on_created(event).await,
            EventKind::Message => self.on_message(event).await,
            EventKind::Claimed => self.on_claimed(event).await,
            EventKind::Completed => self.on_end(event.task_id, Resolution::outcome(SUCCESS)).await,
            EventKind::Failed => self.on_end(event.task_id, Resolution::outcome(FAILED)).await,
            EventKind::Cancelled => {
                self.on_end(event.task_id, Resolution::void("the task was cancelled"))
                    .await
            }
            EventKind::Purged => {
                self.on_end(event.task_id, Resolution::void("the task was removed"))
                    .await
            }
            _ => Ok(None),
        }
    }

    async fn on_created(&self, event: &EventRecord) -> Result<Option<Change>> {
        let Some(task) = self.task(event.task_id).await? else {
            return Ok(None);
        };
        let (draft, opened) = match self.existing(event.task_id).await? {
            Some(draft) => (draft, None),
            None => match self
                .market
                .draft_new(&OpenMarket::task(task.id, task.kind.clone()))
                .await
            {
                Ok(draft) => (draft, Some(market_of_task(task.id))),
                // The kind of a task is the processor's business; one that cannot name a market has none.
                Err(error @ (Error::BadText { .. } | Error::Shape { .. })) => {
                    tracing::warn!(task = %task.id, %error, "no market for this task");
                    return Ok(None);
                }
                Err(error) => return Err(error),
            },
        };
        let mut change = Change::of(draft);
        change.opened = opened;
        let task = self.attempts.as_of(task, event);
        change.forecasts = self
            .ask_all(&mut change.draft, &task, &[], event, Moment::Creation)
            .await?;
        change.asks = self.asides(&change.draft, &task, event, Moment::Creation);
        Ok(Some(change))
    }

    async fn on_message(&self, event: &EventRecord) -> Result<Option<Change>> {
        let Some(message) = self.message_of(event).await? else {
            return Ok(None);
        };
        let moment = Moment::Message {
            number: message.seq,
            message: &message,
        };
        let in_step = self.due(moment, Pace::InStep).next().is_some();
        if !in_step && self.due(moment, Pace::Aside).next().is_none() {
            return Ok(None);
        }
        let Some(draft) = self.existing(event.task_id).await? else {
            return Ok(None);
        };
        let room = draft.state.resolution().is_none() && draft.state.forecasts() < self.options.max_forecasts;
        let Some(task) = self.task(event.task_id).await?.filter(|_| room) else {
            return Ok(None);
        };
        let mut change = Change::of(draft);
        let task = self.attempts.as_of(task, event);
        if in_step {
            let messages = self.messages_until(event.task_id, message.seq).await?;
            change.forecasts = self
                .ask_all(&mut change.draft, &task, &messages, event, moment)
                .await?;
        }
        change.asks = self.asides(&change.draft, &task, event, moment);
        Ok(Some(change))
    }

    async fn on_claimed(&self, event: &EventRecord) -> Result<Option<Change>> {
        let Some(mut draft) = self.existing(event.task_id).await? else {
            return Ok(None);
        };
        let noted = event
            .body
            .get("handler_id")
            .and_then(|id| id.as_str())
            .map(str::to_owned);
        let holder = match noted {
            Some(name) => Some(name),
            None => self
                .task(event.task_id)
                .await?
                .and_then(|task| task.handler_id)
                .map(String::from),
        };
        let Some(executor) = holder.and_then(|name| ForecasterId::new(name).ok()) else {
            return Ok(None);
        };
        let now = self.market.now();
        let Ok(Some(named)) = draft.state.name_executor(&executor, now) else {
            return Ok(None);
        };
        draft.push(named, None, now)?;
        Ok(Some(Change::of(draft)))
    }

    async fn on_end(&self, task: TaskId, resolution: Resolution) -> Result<Option<Change>> {
        let open = |draft: &Draft| draft.state.resolution().is_none();
        let Some(mut draft) = self.existing(task).await?.filter(open) else {
            return Ok(None);
        };
        match draft.state.resolve(&resolution) {
            Ok(Some(event)) => draft.push(event, None, self.market.now())?,
            Ok(None) => return Ok(None),
            Err(error) => {
                tracing::warn!(%task, %error, "the market of a task that ended stays as it is");
                return Ok(None);
            }
        }
        let mut change = Change::of(draft);
        change.resolves = true;
        Ok(Some(change))
    }

    /// Tells every predictor how a task ended.
    async fn learn(&self, id: MarketId) -> Result<Report> {
        let report = self.market.report(id).await?;
        let task = match report.subject {
            Subject::Task { task } => self.task(task).await?,
            Subject::Question { .. } => return Ok(report),
        };
        let messages = match &task {
            Some(task) => self.all_messages(task.id).await?,
            None => Vec::new(),
        };
        let view = task
            .as_ref()
            .map(|task| TaskView::new(task, &messages, task.updated_at));
        let ended = Ended::new(&report, view);
        for predictor in self.predictors.iter() {
            let told = tokio::time::timeout(self.options.patience, predictor.learn(&ended));
            let reason = match told.await {
                Ok(Ok(())) => continue,
                Ok(Err(error)) => reason_of(&*error),
                Err(_) => format!("not done within {} ms", self.options.patience.as_millis()),
            };
            if let Some(view) = &view {
                self.fail(predictor.id(), view, FailureKind::Learning, reason);
            }
        }
        Ok(report)
    }

    async fn existing(&self, task: TaskId) -> Result<Option<Draft>> {
        match self.market.draft(market_of_task(task)).await {
            Ok(draft) => Ok(Some(draft)),
            Err(Error::NotFound(_)) => Ok(None),
            Err(error) => Err(error),
        }
    }

    async fn task(&self, id: TaskId) -> Result<Option<TaskRecord>> {
        self.feed.task(id).await.map_err(Error::Feed)
    }

    async fn all_messages(&self, task: TaskId) -> Result<Vec<MessageRecord>> {
        let mut all: Vec<MessageRecord> = Vec::new();
        while all.len() < self.options.max_messages {
            let after = all.last().map_or(0, |message| message.seq);
            let limit = MESSAGES_PER_READ.min(self.options.max_messages - all.len());
            let page = self
                .feed
                .messages(task, after, limit)
                .await
                .map_err(Error::Feed)?;
            if page.is_empty() {
                break;
            }
            all.extend(page);
        }
        Ok(all)
    }

    /// The message of an event: by its number if the event says it, the last one by time if not.
    async fn message_of(&self, event: &EventRecord) -> Result<Option<MessageRecord>> {
        let number = event.body.get("seq").and_then(aion_types::Json::as_f64);
        if let Some(number) = number.filter(|number| *number >= 1.0) {
            let page = self.feed.messages(event.task_id, number as u64 - 1, 1).await;
            let found = page.map_err(Error::Feed)?.pop();
            return Ok(found.filter(|message| message.seq as f64 == number));
        }
        let mut messages = self.all_messages(event.task_id).await?;
        messages.retain(|message| message.created_at <= event.at);
        Ok(messages.pop())
    }
}

struct Change {
    draft: Draft,
    opened: Option<MarketId>,
    forecasts: u64,
    /// Questions to those that are not waited for.
    asks: Vec<Ask>,
    resolves: bool,
}

impl Change {
    const fn of(draft: Draft) -> Self {
        Self {
            draft,
            opened: None,
            forecasts: 0,
            asks: Vec::new(),
            resolves: false,
        }
    }
}
