//! Proper scores, market makers, calibration and predictors; and the observer that turns the events
//! of tasks into markets and their ends into bits.
//!
//! ```
//! use aion_market::{divergence, maker::lmsr, score};
//!
//! // A forecast of 0.8 for what happened loses 0.32 bits.
//! let nats = score::log_score(&[0.8, 0.2], 0)?;
//! assert!((-nats / std::f64::consts::LN_2 - 0.321_928).abs() < 1e-6);
//! // Moving an LMSR from 0.5 to 0.8 costs 91.63 at a liquidity of 100.
//! let shares = lmsr::shares_to(0.5, 0.8, 100.0)?;
//! assert!((lmsr::quote(&[0.5, 0.5], &[shares, 0.0], 100.0)? - 91.629_073).abs() < 1e-6);
//! // Nearly equal distributions do not cancel.
//! assert!(divergence::kl(&[0.5 + 1e-9, 0.5 - 1e-9], &[0.5, 0.5])? > 0.0);
//! # Ok::<(), aion_market::Error>(())
//! ```
//!
//! # Features
//!
//! - `sqlite` (default): [`store::SqliteMarketStore`].
//! - `postgres`: `store::PostgresMarketStore`.
//! - `ndarray`: views of arrays as batches.
//! - `testkit`: the conformance suite of [`store::MarketStore`], for stores of your own.
//!
//! Scores, makers, the engine and the store in memory need neither.
//!
//! # Reading order
//!
//! 1. [`score`], [`divergence`], [`sequential`], [`clip`]: numbers of one forecast or one path.
//! 2. [`reliability`], [`interval`] and [`calibration`]: many forecasts, measured and corrected;
//!    [`compare`]: two forecasters, while events still come in.
//! 3. [`maker`]: from reports and trades to a price.
//! 4. [`spec`], [`event`], [`engine`], [`ledger`], [`report`]: a market as `fold(events)`, pure.
//! 5. [`store`] and [`Market`]: where markets are kept, and the handle to use.
//! 6. [`predict`], [`feed`] and [`observer`]: who bets on tasks, and when.
//!
//! Invariant: nothing here can write to a task. Invariant: scores come from events alone.

pub mod alarm;
pub mod batch;
pub mod calibration;
pub mod clip;
pub mod compare;
mod contest;
pub mod diagram;
pub mod divergence;
mod draft;
pub mod engine;
mod error;
pub mod evaluate;
pub mod event;
pub mod features;
pub mod feed;
mod history;
pub mod interval;
mod kernel;
pub mod ledger;
pub mod maker;
mod market;
pub mod observer;
pub mod order;
pub mod predict;
pub mod reliability;
pub mod report;
mod resolution;
pub mod score;
pub mod sequential;
pub mod spec;
pub mod store;
#[cfg(feature = "testkit")]
pub mod testkit;

pub use calibration::{Calibration, Calibrator};
pub use contest::{Contest, Reach};
pub use error::{Error, Result, SUM_TOLERANCE};
pub use feed::{FeedError, TaskFeed, TaskView};
pub use history::{CalibrationReport, History};
pub use maker::MakerSpec;
pub use market::{Market, MarketOptions};
pub use observer::{Observed, Observer, ObserverOptions, PredictorHealth};
pub use order::{Fill, Forecast, Order, PriceLimit, Quote, Request, Trade};
pub use predict::{
    BaseRate, BetaHistory, Cadence, Ended, Ensemble, LlmPredictor, LogisticPredictor, Opinion, Pace,
    PersistencePredictor, PredictError, Predictor, Random, TaskHistory,
};
pub use report::{ForecasterReport, Report};
pub use resolution::{Resolution, Target};
pub use spec::{FAILED, MarketSpec, OpenMarket, SUCCESS, Subject, market_of_task};
#[cfg(feature = "postgres")]
pub use store::PostgresMarketStore;
#[cfg(feature = "sqlite")]
pub use store::SqliteMarketStore;
pub use store::{
    Logged, MarketFilter, MarketStatus, MarketStore, MarketView, MemoryMarketStore, Standing, StoreError,
};
