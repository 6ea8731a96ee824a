//! Where markets are kept: a small trait whose every method is one transaction.
//!
//! Events are the truth; summaries, scores and ledger rows are written beside them in the same
//! transaction, so that lists, base rates and leaderboards need no replay.

mod memory;
#[cfg(feature = "postgres")]
mod postgres;
#[cfg(any(feature = "sqlite", feature = "postgres"))]
mod row;
#[cfg(any(feature = "sqlite", feature = "postgres"))]
mod sql;
#[cfg(feature = "sqlite")]
mod sqlite;
#[cfg(any(feature = "sqlite", feature = "postgres"))]
mod statement;
#[cfg(any(feature = "sqlite", feature = "postgres"))]
mod write;

use std::fmt::Debug;

use aion_types::{Bits, ForecasterId, MarketId, MicroBits, PpmDist, Timestamp};
use async_trait::async_trait;
use serde::{Deserialize, Serialize};

use crate::engine::{MarketState, Snapshot};
use crate::event::StoredEvent;
use crate::ledger::Entry;
use crate::report::Report;
use crate::resolution::{Resolution, Target};
use crate::spec::{MarketSpec, Subject};

pub use memory::MemoryMarketStore;
#[cfg(feature = "postgres")]
pub use postgres::PostgresMarketStore;
#[cfg(feature = "sqlite")]
pub use sqlite::SqliteMarketStore;

/// What a store refused or failed at.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum StoreError {
    /// Somebody else changed the market first.
    #[error("market {market} is at version {found}, not at {expected}")]
    Conflict {
        /// The market.
        market: MarketId,
        /// What the writer expected.
        expected: u64,
        /// What the store has.
        found: u64,
    },
    /// Somebody else read on under the same cursor first.
    #[error("cursor {name:?} is at {found}, not at {expected}")]
    CursorConflict {
        /// The cursor.
        name: String,
        /// What the writer expected.
        expected: u64,
        /// What the store has.
        found: u64,
    },
    /// Rows that do not sum to zero.
    #[error("the ledger rows of event {seq} do not sum to zero")]
    Unbalanced {
        /// The event.
        seq: u64,
    },
    /// A file written by a newer program.
    #[error("the database has schema {found}, newer than the newest one known here, {newest}")]
    NewerDatabase {
        /// The schema of the file.
        found: u32,
        /// The newest schema that this program knows.
        newest: u32,
    },
    /// A file that belongs to another program.
    #[error("the file is no market database: its application id is {found:#x}")]
    ForeignDatabase {
        /// The application id of the file.
        found: i64,
    },
    /// The disk, or what the database may have of it, is full. Nothing was written.
    #[error("the storage of the markets is full")]
    StorageFull(#[source] Box<dyn std::error::Error + Send + Sync>),
    /// A row that cannot be read.
    #[error("a stored {what} cannot be read")]
    Corrupt {
        /// What it should have been.
        what: &'static str,
        /// Why.
        #[source]
        source: Box<dyn std::error::Error + Send + Sync>,
    },
    /// The engine below failed.
    #[error("the market store failed")]
    Backend(#[source] Box<dyn std::error::Error + Send + Sync>),
}

#[cfg(any(feature = "sqlite", feature = "postgres"))]
impl From<aion_sql::OpenError> for StoreError {
    fn from(error: aion_sql::OpenError) -> Self {
        match error {
            aion_sql::OpenError::Newer { found, newest } => Self::NewerDatabase { found, newest },
            aion_sql::OpenError::Foreign { found } => Self::ForeignDatabase { found },
            other => Self::backend(other),
        }
    }
}

impl StoreError {
    /// A failure of the engine below.
    pub fn backend(source: impl std::error::Error + Send + Sync + 'static) -> Self {
        Self::Backend(Box::new(source))
    }

    /// A row that cannot be read.
    pub fn corrupt(what: &'static str, source: impl std::error::Error + Send + Sync + 'static) -> Self {
        Self::Corrupt {
            what,
            source: Box::new(source),
        }
    }
}

/// Where a market stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum MarketStatus {
    /// It takes forecasts.
    Open,
    /// It ended and is scored.
    Resolved,
    /// It ended without an answer.
    Void,
}

impl MarketStatus {
    /// The name on the wire.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Open => "open",
            Self::Resolved => "resolved",
            Self::Void => "void",
        }
    }
}

/// A market in one row.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct MarketView {
    /// Its id.
    pub id: MarketId,
    /// Where it stands.
    pub status: MarketStatus,
    /// Its terms.
    pub spec: MarketSpec,
    /// Who may not bet.
    pub executor: Option<ForecasterId>,
    /// Its first price.
    pub first: PpmDist,
    /// Its price now.
    pub price: PpmDist,
    /// How many events made it.
    pub version: u64,
    /// How many reports it has taken.
    pub forecasts: u64,
    /// How many trades it has taken.
    pub trades: u64,
    /// When it opened.
    pub opened_at: Timestamp,
    /// How it ended.
    pub resolution: Option<Resolution>,
    /// When it ended.
    pub resolved_at: Option<Timestamp>,
    /// When it stopped taking forecasts before its end; its status stays open until it ends.
    #[serde(default)]
    pub closed_at: Option<Timestamp>,
    /// The last `ln R` that a forecast, or the prior, rested on, in millionths.
    #[serde(default)]
    pub signal_micro: Option<i64>,
}

impl MarketView {
    /// What it asks.
    pub const fn subject(&self) -> &Subject {
        &self.spec.subject
    }

    /// What forecasts are scored against, once resolved and unless void.
    pub fn target(&self) -> Option<Target> {
        let resolution = self.resolution.as_ref()?;
        resolution.target(self.spec.outcomes.len()).ok().flatten()
    }
}

impl From<&MarketState> for MarketView {
    fn from(state: &MarketState) -> Self {
        let status = match state.resolution() {
            None => MarketStatus::Open,
            Some(Resolution::Void { .. }) => MarketStatus::Void,
            Some(_) => MarketStatus::Resolved,
        };
        Self {
            id: state.id(),
            status,
            spec: state.spec().clone(),
            executor: state.executor().cloned(),
            first: state.first().clone(),
            price: state.price().clone(),
            version: state.version(),
            forecasts: state.forecasts(),
            trades: state.trades(),
            opened_at: state.opened_at(),
            resolution: state.resolution().cloned(),
            resolved_at: state.resolved_at(),
            closed_at: state.closed_at(),
            signal_micro: state.signal_micro(),
        }
    }
}

/// What one forecaster did in one resolved market, for leaderboards and calibration.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ScoreRow {
    /// The market.
    pub market: MarketId,
    /// Its kind.
    pub kind: String,
    /// Who; `house` stands for the market itself, with its last price.
    pub forecaster: ForecasterId,
    /// The score.
    pub gain: MicroBits,
    /// The move of the price.
    pub moved: MicroBits,
    /// The last forecast against the uniform one.
    pub baseline: MicroBits,
    /// How many forecasts.
    pub forecasts: u64,
    /// The last forecast.
    pub last: PpmDist,
    /// The last `ln R`, in millionths.
    pub signal_micro: Option<i64>,
    /// What happened.
    pub target: Target,
    /// When it was known.
    pub resolved_at: Timestamp,
}

impl ScoreRow {
    /// The rows of a report; none when void, and none of whoever worked on the subject.
    pub fn of(report: &Report, resolved_at: Timestamp) -> Vec<Self> {
        let Some(target) = &report.target else {
            return Vec::new();
        };
        let mut rows: Vec<Self> = Vec::new();
        for did in report.forecasters.iter().filter(|did| did.role.is_outsider()) {
            rows.push(Self {
                market: report.market,
                kind: report.kind.clone(),
                forecaster: did.forecaster.clone(),
                gain: did.gain,
                moved: did.moved,
                baseline: did.baseline,
                forecasts: did.forecasts,
                last: did.last.clone(),
                signal_micro: did.signal_micro,
                target: target.clone(),
                resolved_at,
            });
        }
        Self::put_house(&mut rows, report, target, resolved_at);
        rows
    }

    /// The market's own row: what its moves gained, and its last price for calibration.
    fn put_house(rows: &mut Vec<Self>, report: &Report, target: &Target, resolved_at: Timestamp) {
        let house = ForecasterId::house();
        if let Some(row) = rows.iter_mut().find(|row| row.forecaster == house) {
            row.last = report.p_last.clone();
            return;
        }
        rows.push(Self {
            market: report.market,
            kind: report.kind.clone(),
            forecaster: house,
            gain: MicroBits::ZERO,
            moved: MicroBits::ZERO,
            baseline: MicroBits::ZERO,
            forecasts: 0,
            last: report.p_last.clone(),
            signal_micro: None,
            target: target.clone(),
            resolved_at,
        });
    }
}

impl ScoreRow {
    /// Its place among the scores of its forecaster.
    pub const fn place(&self) -> ScorePlace {
        ScorePlace {
            resolved_at: self.resolved_at,
            market: self.market,
        }
    }
}

/// The place of a score among those of its forecaster: by the end of its market, then by its id.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct ScorePlace {
    /// When it was known how the market ended.
    pub resolved_at: Timestamp,
    /// The market.
    pub market: MarketId,
}

/// From where, and which way, scores are read.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ScoreOrder {
    /// The latest first.
    Latest,
    /// Those before a place, the latest first.
    Before(ScorePlace),
    /// The oldest first.
    Oldest,
    /// Those after a place, the oldest first.
    After(ScorePlace),
}

/// What the scores of one forecaster add up to: one line of the leaderboard.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Standing {
    /// Who.
    pub forecaster: ForecasterId,
    /// All scores added up.
    pub gain: MicroBits,
    /// The squares of all scores added up, in bits squared.
    pub squared_bits: f64,
    /// All last forecasts against the uniform one, added up.
    pub baseline: MicroBits,
    /// In how many resolved markets.
    pub markets: u64,
    /// With how many forecasts.
    pub forecasts: u64,
}

impl Standing {
    /// That of somebody with one score.
    pub fn of(score: &ScoreRow) -> Self {
        Self {
            forecaster: score.forecaster.clone(),
            gain: score.gain,
            squared_bits: Bits::from(score.gain).get().powi(2),
            baseline: score.baseline,
            markets: 1,
            forecasts: score.forecasts,
        }
    }

    /// The standard error of the mean score, in bits; none for fewer than two markets.
    pub fn mean_gain_se_bits(&self) -> Option<f64> {
        let (n, sum) = (self.markets as f64, Bits::from(self.gain).get());
        let spread = (self.squared_bits - sum * sum / n).max(0.0);
        Some((spread / (n - 1.0) / n).sqrt()).filter(|_| self.markets > 1)
    }
}

/// Which markets to list, newest first.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
#[non_exhaustive]
pub struct MarketFilter {
    /// Only of this status.
    pub status: Option<MarketStatus>,
    /// Only of this kind.
    pub kind: Option<String>,
    /// Only those made before this one: the cursor of the next page.
    pub before: Option<MarketId>,
}

impl MarketFilter {
    /// Only markets of this status.
    #[must_use]
    pub const fn with_status(mut self, status: MarketStatus) -> Self {
        self.status = Some(status);
        self
    }

    /// Only markets of this kind.
    #[must_use]
    pub fn with_kind(mut self, kind: impl Into<String>) -> Self {
        self.kind = Some(kind.into());
        self
    }

    /// Goes on after this one.
    #[must_use]
    pub const fn with_before(mut self, last_seen: MarketId) -> Self {
        self.before = Some(last_seen);
        self
    }
}

/// What one writer adds to one market.
#[derive(Debug, Clone)]
pub struct MarketWrite {
    /// The version that it was decided on; 0 for a new market.
    pub expected: u64,
    /// The market after the events.
    pub view: MarketView,
    /// The new events.
    pub events: Vec<StoredEvent>,
    /// Their ledger rows.
    pub entries: Vec<Entry>,
    /// The scores, if they resolve it.
    pub scores: Vec<ScoreRow>,
    /// The market written down, now and then; it takes the place of an older one.
    pub snapshot: Option<Snapshot>,
}

/// How far a reader of somebody else's log has come.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CursorMove {
    /// The name of the cursor.
    pub name: String,
    /// Where it must stand.
    pub from: u64,
    /// Where it goes.
    pub to: u64,
}

/// Everything that one transaction writes.
#[derive(Debug, Clone, Default)]
pub struct Batch {
    /// Changes of markets, at most one for each.
    pub writes: Vec<MarketWrite>,
    /// The cursor that moves with them.
    pub cursor: Option<CursorMove>,
}

impl Batch {
    /// Checks that the ledger rows of every event come in pairs that sum to zero: what one account
    /// gets, the next row takes from another.
    ///
    /// # Errors
    /// [`StoreError::Unbalanced`] naming the event.
    pub fn check_balance(&self) -> Result<(), StoreError> {
        self.writes
            .iter()
            .try_for_each(|write| transfers(&write.entries).try_for_each(|pair| pair.map(drop)))
    }
}

/// One transfer: a row of the one who gets, and the account that gives.
type Transfer<'a> = (&'a Entry, &'a ForecasterId);

/// Ledger rows as transfers between two accounts. Stores keep one row for each transfer, so no table
/// of theirs can be out of balance.
fn transfers(entries: &[Entry]) -> impl Iterator<Item = Result<Transfer<'_>, StoreError>> {
    entries.chunks(2).map(|pair| match pair {
        [to, from]
            if (to.seq, to.asset) == (from.seq, from.asset)
                && to.account != from.account
                && to.amount_micro.checked_neg() == Some(from.amount_micro) =>
        {
            Ok((to, &from.account))
        }
        _ => Err(StoreError::Unbalanced { seq: pair[0].seq }),
    })
}

/// An event with its place among the events of all markets.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Logged {
    /// Its place: grows in the order in which batches took effect, with holes perhaps.
    pub place: u64,
    /// The market.
    pub market: MarketId,
    /// The event.
    pub stored: StoredEvent,
}

/// Where markets are kept.
#[async_trait]
pub trait MarketStore: Debug + Send + Sync + 'static {
    /// Writes all of a batch, or nothing of it.
    ///
    /// # Errors
    /// [`StoreError::Conflict`] or [`StoreError::CursorConflict`] where somebody else was first,
    /// [`StoreError::Unbalanced`] for rows that do not sum to zero, [`StoreError::StorageFull`] where
    /// there is no room.
    async fn commit(&self, batch: &Batch) -> Result<(), StoreError>;

    /// The events of a market after a version, oldest first; none for an unknown market.
    ///
    /// # Errors
    /// [`StoreError`] if the store fails.
    async fn events(
        &self,
        market: MarketId,
        after: u64,
        limit: usize,
    ) -> Result<Vec<StoredEvent>, StoreError>;

    /// The events of all markets after a place, in the order in which they took effect: whoever has
    /// read up to a place misses nothing by reading on from it.
    ///
    /// # Errors
    /// [`StoreError`] if the store fails.
    async fn log(&self, after: u64, limit: usize) -> Result<Vec<Logged>, StoreError>;

    /// The last snapshot of a market. A store may keep none.
    ///
    /// # Errors
    /// [`StoreError`] if the store fails.
    async fn snapshot(&self, market: MarketId) -> Result<Option<Snapshot>, StoreError>;

    /// A market in one row.
    ///
    /// # Errors
    /// [`StoreError`] if the store fails.
    async fn view(&self, market: MarketId) -> Result<Option<MarketView>, StoreError>;

    /// Markets by filter, newest id first.
    ///
    /// # Errors
    /// [`StoreError`] if the store fails.
    async fn views(&self, filter: &MarketFilter, limit: usize) -> Result<Vec<MarketView>, StoreError>;

    /// The ledger rows of a market, in order of their events.
    ///
    /// # Errors
    /// [`StoreError`] if the store fails.
    async fn entries(&self, market: MarketId, limit: usize) -> Result<Vec<Entry>, StoreError>;

    /// Scores of one forecaster, in this order.
    ///
    /// # Errors
    /// [`StoreError`] if the store fails.
    async fn scores(
        &self,
        forecaster: &ForecasterId,
        order: ScoreOrder,
        limit: usize,
    ) -> Result<Vec<ScoreRow>, StoreError>;

    /// What the scores of a forecaster add up to; `house` has a standing as well. It is kept up to date
    /// with the scores, so that asking costs one row.
    ///
    /// # Errors
    /// [`StoreError`] if the store fails.
    async fn standing(&self, forecaster: &ForecasterId) -> Result<Option<Standing>, StoreError>;

    /// Forecasters by what they gained, largest first, then by id; without `house`. `after` is the last
    /// line of the page before: its gain and its name are where this page begins.
    ///
    /// # Errors
    /// [`StoreError`] if the store fails.
    async fn standings(&self, after: Option<&Standing>, limit: usize) -> Result<Vec<Standing>, StoreError>;

    /// Where a cursor stands; 0 if it never moved.
    ///
    /// # Errors
    /// [`StoreError`] if the store fails.
    async fn cursor(&self, name: &str) -> Result<u64, StoreError>;
}
