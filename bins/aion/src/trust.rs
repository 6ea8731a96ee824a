//! Trust of agents and predictors, settled once for each market.

use std::path::Path;
use std::sync::Arc;

use aion_market::Report;
use aion_trust::{SqliteLedgerStore, TrustLedger, TrustOptions, Vote};
use aion_types::{Clock, ForecasterId};

use crate::Result;
use crate::run::TrustChange;

/// The ledger in `trust.db`.
#[derive(Debug, Clone)]
pub struct TrustBook {
    ledger: TrustLedger,
}

impl TrustBook {
    /// Opens the file, and makes it if it is not there.
    ///
    /// # Errors
    /// A database that is damaged or of a newer program.
    pub async fn open(path: &Path, clock: Arc<dyn Clock>) -> Result<Self> {
        let store = SqliteLedgerStore::open(path)
            .await
            .map_err(aion_trust::Error::from)?;
        let ledger = TrustLedger::new(Arc::new(store), clock, TrustOptions::default());
        Ok(Self { ledger })
    }

    /// The ledger itself.
    pub fn ledger(&self) -> &TrustLedger {
        &self.ledger
    }

    /// Moves the trust of everybody who bet on a task, and of the agent that worked on it, which
    /// votes by the persistence of what it said first. Settling again changes nothing.
    ///
    /// # Errors
    /// A failure of the store.
    pub async fn settle(&self, report: &Report, agent: Option<(&str, f64)>) -> Result<Vec<TrustChange>> {
        let mut votes = Vote::of_report(report);
        if let Some((agent, ratio)) = agent {
            let account = ForecasterId::new(agent)?;
            votes.push(Vote::from_ratio(account, ratio)?);
        }
        let settled = self.ledger.settle(report, &votes).await?;
        Ok(settled
            .deltas
            .into_iter()
            .map(|delta| TrustChange {
                who: delta.account,
                before: delta.before,
                after: delta.after,
            })
            .collect())
    }
}
