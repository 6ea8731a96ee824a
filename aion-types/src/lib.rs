//! The words that every Aion crate shares: ids, probabilities, units, persistence and records.
//!
//! Everything here is plain data, checked when it is made and again when it is read through serde.
//! There is no I/O; time comes from a [`Clock`] that the caller chooses.
//!
//! ```
//! use aion_types::{Factors, Prob};
//!
//! let factors = Factors::new()
//!     .with_power_income(2.0)?
//!     .with_coupling_efficiency(0.75)?
//!     .with_entropic_tax(0.8)?
//!     .with_delusion(0.3)?
//!     .with_fatigue(0.2)?
//!     .with_substrate(0.9)?;
//! assert!((factors.ratio() - 1.125).abs() < 1e-12);
//! let p = Prob::from_ratio(factors.ratio())?;
//! assert!((p.get() - 0.529_411_764_705_882_4).abs() < 1e-12);
//! # Ok::<(), aion_types::Error>(())
//! ```
//!
//! # Reading order
//!
//! 1. [`prob`] and [`units`]: the numbers, each with its range and its unit.
//! 2. [`equation`]: the persistence equation, its attribution and its composition.
//! 3. [`persistence`]: the same ratio for every token of a language model.
//!    [`calibration`]: from a ratio to a probability.
//! 4. [`task_persistence`]: the same ratio for a task, from its log.
//! 5. [`address`]: which network addresses are public.
//! 6. [`task`], [`message`], [`event`], [`trace`]: the records that services store and exchange.

pub mod address;
pub mod calibration;
pub mod clock;
pub mod equation;
mod error;
pub mod event;
pub mod format;
pub mod id;
pub mod json;
pub mod message;
pub mod persistence;
pub mod prob;
pub mod task;
pub mod task_persistence;
pub mod trace;
pub mod units;

pub use address::AddressRange;
pub use calibration::{Calibration, Fit, FitOptions};
pub use clock::{Clock, ManualClock, SystemClock, Timestamp};
pub use equation::{Attribution, Composition, Factors, Lifetime};
pub use error::{Error, Result};
pub use event::{EventKind, EventRecord};
pub use format::Format;
pub use id::{AgentId, DecisionId, ForecasterId, HandlerId, MarketId, RunId, TaskId};
pub use json::Json;
pub use message::{MessageRecord, Role, ToolCall};
pub use persistence::{PersistenceMeter, PersistenceSummary, Reference, Surroundings, TokenPersistence};
pub use prob::{PPM_ONE, Ppm, PpmDist, Prob};
pub use task::{Status, TaskRecord};
pub use task_persistence::{TaskEvidence, TaskPersistence};
pub use trace::{MarketTrace, TraceLine, TraceMessage, TraceMeta, TraceRecord};
pub use units::{Bits, MicroBits, MilliTrust, Nats};
