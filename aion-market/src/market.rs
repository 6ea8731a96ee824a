//! [`Market`]: the handle that programs use, cheap to clone.

mod batch;

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use aion_types::{Clock, ForecasterId, MarketId, PpmDist, Prob, SystemClock, TaskId, Timestamp};

use crate::Result;
use crate::draft::Draft;
use crate::engine::{Decision, MarketState, Snapshot};
use crate::error::Error;
use crate::event::StoredEvent;
use crate::history::{CalibrationReport, History, calibration_of};
use crate::ledger::Entry;
use crate::maker::MakerSpec;
use crate::order::{Fill, Forecast, Order, Quote, Trade};
use crate::report::{Report, uniform};
use crate::resolution::Resolution;
use crate::spec::{Defaults, OpenMarket, Prior, check_text, market_of_task};
use crate::store::{
    Batch, CursorMove, MarketFilter, MarketStatus, MarketStore, MarketView, MarketWrite, MemoryMarketStore,
    ScoreOrder, ScoreRow, Standing, StoreError,
};

/// How often a change is tried again when somebody else was first.
const MAX_ATTEMPTS: usize = 16;
const EVENTS_PER_READ: usize = 1_000;
const CACHED_STATES: usize = 256;

/// How a [`Market`] opens and lists.
#[derive(Debug, Clone, Copy, PartialEq)]
#[non_exhaustive]
pub struct MarketOptions {
    prior_strength: f64,
    max_prior_strength: f64,
    history: usize,
    snapshot_every: u64,
}

impl Default for MarketOptions {
    /// A base rate starts from 2 pseudo-counts spread evenly, a prior is worth as many reports as
    /// markets of its kind stand behind it plus those 2, at most 10, and looks at the last 1,000. A
    /// market is written down at every 1,000th event.
    fn default() -> Self {
        Self {
            prior_strength: 2.0,
            max_prior_strength: 10.0,
            history: 1_000,
            snapshot_every: 1_000,
        }
    }
}

impl MarketOptions {
    /// Sets how many pseudo-counts a base rate starts from.
    #[must_use]
    pub const fn with_prior_strength(mut self, pseudo_counts: f64) -> Self {
        self.prior_strength = pseudo_counts;
        self
    }

    /// Sets how many reports a prior is worth at most.
    #[must_use]
    pub const fn with_max_prior_strength(mut self, reports: f64) -> Self {
        self.max_prior_strength = reports;
        self
    }

    /// Sets how many resolved markets a base rate looks at.
    #[must_use]
    pub const fn with_history(mut self, markets: usize) -> Self {
        self.history = markets;
        self
    }

    /// Sets after how many events a market is written down as a whole; 0 for never.
    #[must_use]
    pub const fn with_snapshot_every(mut self, events: u64) -> Self {
        self.snapshot_every = events;
        self
    }
}

/// Markets over a store: open, forecast, trade, resolve, and what came of it.
///
/// ```
/// use aion_market::{Forecast, Market, OpenMarket, Resolution};
/// use aion_types::{ForecasterId, MarketId, PpmDist, Prob, Timestamp};
///
/// # tokio::runtime::Builder::new_current_thread().build()?.block_on(async {
/// let market = Market::in_memory();
/// let id = MarketId::generate(Timestamp::from_ms(0));
/// market.open(&OpenMarket::question(id, "Will it rain?", "weather")).await?;
/// let belief = PpmDist::binary(Prob::new(0.8)?);
/// let fill = market.forecast(id, &Forecast::new(ForecasterId::new("anna")?, belief)).await?;
/// assert_eq!(fill.after.parts(), [600_000, 400_000]);
/// let report = market.resolve(id, &Resolution::outcome(0)).await?;
/// assert_eq!(report.forecasters[0].gain.get(), 678_072);
/// # Ok::<(), aion_market::Error>(())
/// # })?;
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Debug, Clone)]
pub struct Market(Arc<Inner>);

#[derive(Debug)]
struct Inner {
    store: Arc<dyn MarketStore>,
    clock: Arc<dyn Clock>,
    options: MarketOptions,
    /// States that were folded before; each is caught up before it is used.
    states: Mutex<BTreeMap<MarketId, MarketState>>,
}

impl Market {
    /// A handle over a store.
    pub fn new(store: Arc<dyn MarketStore>, clock: Arc<dyn Clock>, options: MarketOptions) -> Self {
        Self(Arc::new(Inner {
            store,
            clock,
            options,
            states: Mutex::default(),
        }))
    }

    /// A handle over a store in memory and the clock of the system.
    pub fn in_memory() -> Self {
        let store = Arc::new(MemoryMarketStore::new());
        Self::new(store, Arc::new(SystemClock), MarketOptions::default())
    }

    /// The store.
    pub fn store(&self) -> &Arc<dyn MarketStore> {
        &self.0.store
    }

    /// The clock.
    pub fn clock(&self) -> &Arc<dyn Clock> {
        &self.0.clock
    }

    /// Opens a market. Opening the same one twice gives the one that is there.
    ///
    /// # Errors
    /// [`Error`] for terms that cannot be, [`Error::OtherTerms`] if its id is taken.
    pub async fn open(&self, open: &OpenMarket) -> Result<MarketView> {
        if let Some(view) = self.opened(open).await? {
            return Ok(view);
        }
        let draft = self.draft_new(open).await?;
        match self.commit(vec![draft], None).await {
            Err(Error::Store(StoreError::Conflict { .. })) => {
                self.opened(open).await?.ok_or(Error::NotFound(open.id()))
            }
            Err(error) => Err(error),
            Ok(mut views) => views.pop().ok_or(Error::NotFound(open.id())),
        }
    }

    /// A market in one row.
    ///
    /// # Errors
    /// [`Error::NotFound`], or [`Error::Store`].
    pub async fn get(&self, id: MarketId) -> Result<MarketView> {
        self.0.store.view(id).await?.ok_or(Error::NotFound(id))
    }

    /// The market of a task, if it has one.
    ///
    /// # Errors
    /// [`Error::Store`] if the store fails.
    pub async fn of_task(&self, task: TaskId) -> Result<Option<MarketView>> {
        Ok(self.0.store.view(market_of_task(task)).await?)
    }

    /// The price now.
    ///
    /// # Errors
    /// [`Error::NotFound`], or [`Error::Store`].
    pub async fn price(&self, id: MarketId) -> Result<PpmDist> {
        Ok(self.get(id).await?.price)
    }

    /// What an order would do now; changes nothing.
    ///
    /// # Errors
    /// [`Error`] for an unknown market, or one that takes reports, or an order that does not fit.
    pub async fn quote(&self, id: MarketId, order: &Order) -> Result<Quote> {
        let state = self.state(id).await?;
        let quote = state.quote(order);
        self.keep(state);
        quote
    }

    /// Takes a report of belief.
    ///
    /// # Errors
    /// [`Error`] saying why the market does not take it.
    pub async fn forecast(&self, id: MarketId, forecast: &Forecast) -> Result<Fill> {
        let stored = self
            .change(id, |state, now| state.forecast(forecast, now))
            .await?;
        stored.fill().ok_or(Error::BadHistory {
            seq: stored.seq,
            reason: "it is no forecast",
        })
    }

    /// Takes an order.
    ///
    /// # Errors
    /// [`Error`] saying why the market does not take it.
    pub async fn trade(&self, id: MarketId, trade: &Trade) -> Result<Fill> {
        let stored = self.change(id, |state, now| state.trade(trade, now)).await?;
        stored.fill().ok_or(Error::BadHistory {
            seq: stored.seq,
            reason: "it is no trade",
        })
    }

    /// Moves the price without anybody's doing: seeding, liquidity. It is credited to `house`.
    ///
    /// # Errors
    /// [`Error`] for a closed market, another number of outcomes, or a reason that is no text.
    pub async fn house_move(
        &self,
        id: MarketId,
        dist: &PpmDist,
        weight_micro: u64,
        reason: &str,
    ) -> Result<Fill> {
        let decide = |state: &MarketState, now| {
            let event = state.house_move(dist, weight_micro, reason, now)?;
            Ok(Decision::Append { event, request: None })
        };
        let stored = self.change(id, decide).await?;
        stored.fill().ok_or(Error::BadHistory {
            seq: stored.seq,
            reason: "it is no move",
        })
    }

    /// Ends forecasting before the outcome is known. Closing twice is harmless.
    ///
    /// # Errors
    /// [`Error::Closed`] once resolved, [`Error::BadText`] for a reason that is no text.
    pub async fn close(&self, id: MarketId, reason: &str) -> Result<MarketView> {
        let decide = |state: &MarketState, _: Timestamp| {
            Ok(match state.close(reason)? {
                Some(event) => Decision::Append { event, request: None },
                None => Decision::Recorded { seq: state.version() },
            })
        };
        self.change(id, decide).await?;
        self.get(id).await
    }

    /// Ends a market and scores it. Ending it twice in the same way gives the same report.
    ///
    /// # Errors
    /// [`Error::AlreadyResolved`] if it ended otherwise, or [`Error`] if the resolution does not fit.
    pub async fn resolve(&self, id: MarketId, resolution: &Resolution) -> Result<Report> {
        let decide = |state: &MarketState, _: Timestamp| {
            Ok(match state.resolve(resolution)? {
                Some(event) => Decision::Append { event, request: None },
                None => Decision::Recorded { seq: state.version() },
            })
        };
        self.change(id, decide).await?;
        self.report(id).await
    }

    /// The report of a resolved market, computed from its events.
    ///
    /// # Errors
    /// [`Error::NotResolved`], [`Error::NotFound`], or [`Error::Store`].
    pub async fn report(&self, id: MarketId) -> Result<Report> {
        Report::of(id, &self.events(id).await?)
    }

    /// All events of a market; none of an unknown one.
    ///
    /// # Errors
    /// [`Error::Store`] if the store fails.
    pub async fn events(&self, id: MarketId) -> Result<Vec<StoredEvent>> {
        let mut all: Vec<StoredEvent> = Vec::new();
        loop {
            let after = all.last().map_or(0, |stored| stored.seq);
            let page = self.0.store.events(id, after, EVENTS_PER_READ).await?;
            let last = page.len() < EVENTS_PER_READ;
            all.extend(page);
            if last {
                return Ok(all);
            }
        }
    }

    /// Markets by filter, newest first, at most `limit` (and 1,000).
    ///
    /// # Errors
    /// [`Error::Store`] if the store fails.
    pub async fn list(&self, filter: &MarketFilter, limit: usize) -> Result<Vec<MarketView>> {
        Ok(self.0.store.views(filter, limit.min(EVENTS_PER_READ)).await?)
    }

    /// How markets of a kind ended, with this many outcomes.
    ///
    /// # Errors
    /// [`Error`] for a kind that is no text, or if the store fails.
    pub async fn history(&self, kind: &str, outcomes: usize) -> Result<History> {
        check_text("a kind", kind)?;
        let filter = MarketFilter::default()
            .with_kind(kind)
            .with_status(MarketStatus::Resolved);
        let mut counts = vec![0; outcomes];
        for view in self.0.store.views(&filter, self.0.options.history).await? {
            let Some(target) = view
                .target()
                .filter(|target| target.dist().outcomes() == outcomes)
            else {
                continue;
            };
            for (count, part) in counts.iter_mut().zip(target.dist().parts()) {
                *count += u64::from(*part);
            }
        }
        Ok(History::of(kind, counts))
    }

    /// Forecasters by what they gained, in bits; [`MarketStore::standings`] gives the pages after this one.
    ///
    /// # Errors
    /// [`Error::Store`] if the store fails.
    pub async fn leaderboard(&self, limit: usize) -> Result<Vec<Standing>> {
        Ok(self.0.store.standings(None, limit.min(EVENTS_PER_READ)).await?)
    }

    /// The latest scores of a forecaster.
    ///
    /// # Errors
    /// [`Error::Store`] if the store fails.
    pub async fn scores(&self, forecaster: &ForecasterId, limit: usize) -> Result<Vec<ScoreRow>> {
        Ok(self.0.store.scores(forecaster, ScoreOrder::Latest, limit).await?)
    }

    /// How well a forecaster's last forecasts matched what happened, over as many of the latest markets as a
    /// base rate looks at; `None` without a resolved one.
    ///
    /// # Errors
    /// [`Error`] for 0 or too many bins, or if the store fails.
    pub async fn calibration(
        &self,
        forecaster: &ForecasterId,
        bins: usize,
    ) -> Result<Option<CalibrationReport>> {
        let rows = self.scores(forecaster, self.0.options.history).await?;
        calibration_of(forecaster, &rows, bins)
    }

    /// The ledger rows of a market, at most 100,000.
    ///
    /// # Errors
    /// [`Error::Store`] if the store fails.
    pub async fn ledger(&self, id: MarketId) -> Result<Vec<Entry>> {
        Ok(self.0.store.entries(id, 100_000).await?)
    }

    async fn opened(&self, open: &OpenMarket) -> Result<Option<MarketView>> {
        match self.0.store.view(open.id()).await? {
            Some(view) if open.is_met_by(&view.spec) => Ok(Some(view)),
            Some(_) => Err(Error::OtherTerms(open.id())),
            None => Ok(None),
        }
    }

    /// Decides on the newest state and appends, again where somebody else was first.
    async fn change(
        &self,
        id: MarketId,
        decide: impl Fn(&MarketState, Timestamp) -> Result<Decision>,
    ) -> Result<StoredEvent> {
        let mut attempt = 1;
        loop {
            let state = self.state(id).await?;
            match decide(&state, self.0.clock.now()) {
                Ok(Decision::Recorded { seq }) => {
                    self.keep(state);
                    return self.recorded(id, seq).await;
                }
                Ok(Decision::Append { event, request }) => {
                    let mut draft = Draft::of(state);
                    draft.push(event, request, self.0.clock.now())?;
                    let last = draft.events.last().cloned();
                    match self.commit(vec![draft], None).await {
                        Err(Error::Store(StoreError::Conflict { .. })) if attempt < MAX_ATTEMPTS => {
                            attempt += 1;
                        }
                        Err(error) => return Err(error),
                        Ok(_) => return last.ok_or(Error::NotFound(id)),
                    }
                }
                Err(error) => {
                    self.keep(state);
                    return Err(error);
                }
            }
        }
    }

    async fn recorded(&self, id: MarketId, seq: u64) -> Result<StoredEvent> {
        let found = self.0.store.events(id, seq - 1, 1).await?.pop();
        found.ok_or(Error::BadHistory {
            seq,
            reason: "it is missing",
        })
    }

    /// The newest state of a market.
    async fn state(&self, id: MarketId) -> Result<MarketState> {
        let kept = self.states().remove(&id);
        let mut state = match kept {
            Some(state) => Some(state),
            None => self.last_snapshot(id).await?,
        };
        loop {
            let after = state.as_ref().map_or(0, MarketState::version);
            let page = self.0.store.events(id, after, EVENTS_PER_READ).await?;
            match &mut state {
                Some(state) => page.iter().try_for_each(|event| state.apply(event))?,
                None => state = MarketState::fold(id, &page)?,
            }
            if page.len() < EVENTS_PER_READ {
                return state.ok_or(Error::NotFound(id));
            }
        }
    }

    /// The market as its last snapshot has it; a snapshot that cannot be used is as good as none.
    async fn last_snapshot(&self, id: MarketId) -> Result<Option<MarketState>> {
        let Some(snapshot) = self.0.store.snapshot(id).await? else {
            return Ok(None);
        };
        match snapshot.restore() {
            Ok(state) => Ok(Some(state)),
            Err(error) => {
                tracing::warn!(market = %id, %error, "a snapshot is passed over");
                Ok(None)
            }
        }
    }

    fn keep(&self, state: MarketState) {
        let mut states = self.states();
        if states.len() >= CACHED_STATES {
            states.pop_first();
        }
        if state.resolution().is_none() {
            states.insert(state.id(), state);
        }
    }

    fn states(&self) -> MutexGuard<'_, BTreeMap<MarketId, MarketState>> {
        // A state is taken out whole and put back whole, so a poisoned lock guards sound ones.
        self.0.states.lock().unwrap_or_else(PoisonError::into_inner)
    }

    // What follows lets the observer write several changes and its cursor in one transaction.

    pub(crate) fn now(&self) -> Timestamp {
        self.0.clock.now()
    }

    pub(crate) async fn draft(&self, id: MarketId) -> Result<Draft> {
        self.state(id).await.map(Draft::of)
    }

    pub(crate) async fn draft_new(&self, open: &OpenMarket) -> Result<Draft> {
        open.check()?;
        let (prior, strength) = self.prior(open).await?;
        let spec = open.spec(&Defaults::new(prior, MakerSpec::pseudo_count(strength)?)?)?;
        Draft::opening(open.id(), spec, self.now())
    }

    async fn prior(&self, open: &OpenMarket) -> Result<(PpmDist, f64)> {
        let MarketOptions {
            prior_strength,
            max_prior_strength,
            ..
        } = self.0.options;
        match open.prior() {
            Prior::Given(dist) => Ok((dist.clone(), prior_strength)),
            Prior::Uniform => Ok((uniform(open.outcomes())?, prior_strength)),
            Prior::Persistence { ln_ratio_micro } => {
                let logit = *ln_ratio_micro as f64 / crate::maker::MICRO as f64;
                Ok((PpmDist::binary(Prob::from_logit(logit)?), prior_strength))
            }
            Prior::BaseRate => {
                let history = self.history(open.kind(), open.outcomes()).await?;
                let strength = (prior_strength + history.resolved()).min(max_prior_strength);
                Ok((history.base_rate(prior_strength)?, strength.max(prior_strength)))
            }
        }
    }

    /// Writes drafts and a cursor in one transaction, and gives the markets as they are then.
    pub(crate) async fn commit(
        &self,
        drafts: Vec<Draft>,
        cursor: Option<CursorMove>,
    ) -> Result<Vec<MarketView>> {
        let writes = Vec::new();
        let mut batch = Batch { writes, cursor };
        let mut states = Vec::with_capacity(drafts.len());
        for draft in drafts {
            if draft.events.is_empty() {
                states.push(draft.state);
            } else {
                let (write, state) = self.write_of(draft).await?;
                batch.writes.push(write);
                states.push(state);
            }
        }
        if !batch.writes.is_empty() || batch.cursor.is_some() {
            self.0.store.commit(&batch).await?;
        }
        let views = states.iter().map(MarketView::from).collect();
        states.into_iter().for_each(|state| self.keep(state));
        Ok(views)
    }

    async fn write_of(&self, draft: Draft) -> Result<(MarketWrite, MarketState)> {
        let mut scores = Vec::new();
        if let Some(resolved_at) = draft.state.resolved_at() {
            scores = ScoreRow::of(&self.report_of(&draft).await?, resolved_at);
        }
        let every = self.0.options.snapshot_every;
        let due = |version: u64| version.checked_div(every);
        let snapshot = (due(draft.state.version()) > due(draft.from))
            .then(|| Snapshot::of(&draft.state))
            .transpose()?;
        let write = MarketWrite {
            expected: draft.from,
            view: MarketView::from(&draft.state),
            events: draft.events,
            entries: draft.entries,
            scores,
            snapshot,
        };
        Ok((write, draft.state))
    }

    async fn report_of(&self, draft: &Draft) -> Result<Report> {
        let mut history = self.events(draft.state.id()).await?;
        history.retain(|stored| stored.seq <= draft.from);
        history.extend(draft.events.iter().cloned());
        Report::of(draft.state.id(), &history)
    }
}
