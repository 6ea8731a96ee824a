//! The observer: reads what happens to tasks, opens their markets, asks predictors, resolves.
//!
//! It only reads: the feed has no method that writes. Every event is taken up once, because the place
//! reached in the feed is stored in the same transaction as what the event caused.

use std::sync::Arc;

use aion_types::{
    EventKind, EventRecord, ForecasterId, MarketId, MessageRecord, PpmDist, TaskId, TaskRecord,
};

use crate::Result;
use crate::draft::Draft;
use crate::engine::Decision;
use crate::error::Error;
use crate::feed::{TaskFeed, TaskView, token_ratio};
use crate::market::Market;
use crate::order::Forecast;
use crate::predict::{Opinion, Predictor};
use crate::report::Report;
use crate::resolution::Resolution;
use crate::spec::{FAILED, OpenMarket, SUCCESS, market_of_task};
use crate::store::{CursorMove, StoreError};

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
}

impl Default for ObserverOptions {
    /// Cursor `tasks`, 256 events a read, at most 5,000 messages of a task and 64 forecasts a market.
    fn default() -> Self {
        Self {
            cursor: "tasks".to_owned(),
            page: 256,
            max_messages: 5_000,
            max_forecasts: 64,
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
}

/// What the observer did.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct Observed {
    /// How many events it read.
    pub events: u64,
    /// The markets that it opened.
    pub opened: Vec<MarketId>,
    /// How many forecasts it entered.
    pub forecasts: u64,
    /// The reports of the markets that it resolved.
    pub resolved: Vec<Report>,
    /// Where it stands in the feed.
    pub cursor: u64,
}

/// Turns the events of tasks into markets.
#[derive(Debug, Clone)]
pub struct Observer {
    market: Market,
    feed: Arc<dyn TaskFeed>,
    predictors: Vec<Arc<dyn Predictor>>,
    options: ObserverOptions,
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
            predictors,
            options,
        }
    }

    /// The market that it writes to.
    pub const fn market(&self) -> &Market {
        &self.market
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
        let mut at = self.market.store().cursor(&self.options.cursor).await?;
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
                    if change.resolves {
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
        let mut change = Change {
            draft,
            opened,
            forecasts: 0,
            resolves: false,
        };
        self.ask_all(&mut change, &task, &[], event).await?;
        Ok(Some(change))
    }

    async fn on_message(&self, event: &EventRecord) -> Result<Option<Change>> {
        let Some(draft) = self.existing(event.task_id).await? else {
            return Ok(None);
        };
        let Some(task) = self.task(event.task_id).await? else {
            return Ok(None);
        };
        let messages = self.messages_until(event).await?;
        let tells = messages.last().and_then(token_ratio).is_some();
        if !tells || draft.state.forecasts() >= self.options.max_forecasts {
            return Ok(None);
        }
        let mut change = Change {
            draft,
            opened: None,
            forecasts: 0,
            resolves: false,
        };
        self.ask_all(&mut change, &task, &messages, event).await?;
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
        Ok(Some(Change {
            draft,
            opened: None,
            forecasts: 0,
            resolves: false,
        }))
    }

    async fn on_end(&self, task: TaskId, resolution: Resolution) -> Result<Option<Change>> {
        let Some(mut draft) = self.existing(task).await? else {
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
        Ok(Some(Change {
            draft,
            opened: None,
            forecasts: 0,
            resolves: true,
        }))
    }

    async fn ask_all(
        &self,
        change: &mut Change,
        task: &TaskRecord,
        messages: &[MessageRecord],
        event: &EventRecord,
    ) -> Result<()> {
        let view = TaskView::new(task, messages, event.at);
        for predictor in &self.predictors {
            let price = change.draft.state.price().clone();
            let Some(forecast) = ask(predictor.as_ref(), &view, &price, event.seq).await else {
                continue;
            };
            let now = self.market.now();
            match change.draft.state.forecast(&forecast, now) {
                Ok(decision) => {
                    change.forecasts += u64::from(matches!(decision, Decision::Append { .. }));
                    change.draft.decide(decision, now)?;
                }
                Err(error) => {
                    tracing::warn!(predictor = %predictor.id(), %error, "a forecast was refused");
                }
            }
        }
        Ok(())
    }

    async fn learn(&self, id: MarketId) -> Result<Report> {
        let report = self.market.report(id).await?;
        for predictor in &self.predictors {
            if let Err(error) = predictor.learn(&report).await {
                tracing::warn!(predictor = %predictor.id(), %error, "a predictor could not learn");
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

    /// The messages up to the one of this event: by its number if the event says it, by time if not.
    async fn messages_until(&self, event: &EventRecord) -> Result<Vec<MessageRecord>> {
        let mut messages = self.all_messages(event.task_id).await?;
        match event.body.get("seq").and_then(aion_types::Json::as_f64) {
            Some(seq) => messages.retain(|message| message.seq as f64 <= seq),
            None => messages.retain(|message| message.created_at <= event.at),
        }
        Ok(messages)
    }
}

struct Change {
    draft: Draft,
    opened: Option<MarketId>,
    forecasts: u64,
    resolves: bool,
}

/// The forecast of one predictor under a key of the event, so that asking again changes nothing.
async fn ask(predictor: &dyn Predictor, view: &TaskView<'_>, price: &PpmDist, seq: u64) -> Option<Forecast> {
    let said = match predictor.predict(view, price).await {
        Ok(opinion) => opinion?,
        Err(error) => {
            tracing::warn!(predictor = %predictor.id(), %error, "a predictor failed");
            return None;
        }
    };
    match forecast_of(predictor, said, seq) {
        Ok(forecast) => Some(forecast),
        Err(error) => {
            tracing::warn!(predictor = %predictor.id(), %error, "an opinion is no forecast");
            None
        }
    }
}

fn forecast_of(predictor: &dyn Predictor, said: Opinion, seq: u64) -> Result<Forecast> {
    let mut forecast = Forecast::new(predictor.id().clone(), PpmDist::binary(said.success))
        .with_weight(said.weight)?
        .with_key(format!("{}@{seq}", predictor.id()))?;
    if let Some(ln_ratio) = said.ln_ratio {
        forecast = forecast.with_signal(ln_ratio)?;
    }
    Ok(if predictor.informed() {
        forecast.informed()
    } else {
        forecast
    })
}
