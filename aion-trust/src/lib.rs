//! Trust: how much weight a voice has, moved by what it said and what then happened.
//!
//! Balances are whole millitrust, beliefs whole parts per million, and logarithms integers, so two
//! machines that settle the same votes agree to the last unit. Score (information, in micro-bits) and
//! trust (a stake) are two ledgers; score never turns into trust.
//!
//! ```
//! use aion_market::Target;
//! use aion_trust::rule::{Rule, Voter};
//! use aion_types::{MilliTrust, PpmDist};
//!
//! let sure = PpmDist::new(vec![900_000, 100_000])?;
//! let torn = PpmDist::new(vec![500_000, 500_000])?;
//! let voters = [
//!     Voter { trust: MilliTrust::new(10_000), dist: &sure },
//!     Voter { trust: MilliTrust::new(10_000), dist: &torn },
//! ];
//! let deltas = Rule::default().deltas(&voters, &Target::outcome(0, 2)?)?;
//! assert_eq!(deltas.iter().sum::<i64>(), 0);
//! assert!(deltas[0] > 0);
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```
//!
//! # Features
//!
//! - `sqlite` (default): [`store::SqliteLedgerStore`].
//! - `postgres`: `store::PostgresLedgerStore`.
//! - `testkit`: the conformance suite of [`store::LedgerStore`], for stores of your own.
//!
//! # Reading order
//!
//! 1. [`rule`]: the rules, with what each promises.
//! 2. [`fixed`]: the integer logarithm that they rest on.
//! 3. [`TrustLedger`] and [`store`]: accounts, settlements, and where they are kept.

mod error;
pub mod fixed;
mod ledger;
pub mod rule;
pub mod store;
#[cfg(feature = "testkit")]
pub mod testkit;

pub use error::{Error, Result};
pub use ledger::{Account, Delta, MAX_VOTES, Settlement, TrustLedger, TrustOptions, Vote};
pub use rule::{Kappa, Rule};
#[cfg(feature = "postgres")]
pub use store::PostgresLedgerStore;
#[cfg(feature = "sqlite")]
pub use store::SqliteLedgerStore;
pub use store::{LedgerStore, MemoryLedgerStore, Revision, StoreError};
