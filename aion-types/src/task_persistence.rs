//! Persistence of a task, every term read from its log.
//!
//! `R_T = Psi (R_msg eta) / (tax (1 + D + Gamma)) Phi`. See `docs/math/persistence.md`.

use serde::{Deserialize, Serialize};

use crate::{Composition, Factors, PersistenceSummary, Prob, Result};

/// The smallest tax: a task that used next to nothing of its budget is not infinitely persistent.
pub const MIN_TAX: f64 = 0.05;

/// What the log of a task says; the default is a task to which nothing has happened.
///
/// ```
/// use aion_types::TaskEvidence;
///
/// let evidence = TaskEvidence {
///     steps: 4,
///     accepted_steps: 3,
///     tokens_used: 800,
///     token_budget: 1_000,
///     delusion_nats: 0.3,
///     failed_children: 1,
///     completed_children: 4,
///     children: vec![0.9],
///     ..TaskEvidence::default()
/// };
/// let task = evidence.persistence()?;
/// assert!((task.ratio - 0.562_5).abs() < 1e-12);
/// # Ok::<(), aion_types::Error>(())
/// ```
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct TaskEvidence {
    /// `(tokens, R_harm)` of each assistant message that reported its persistence.
    pub messages: Vec<(u64, f64)>,
    /// Steps that changed the state and were accepted.
    pub accepted_steps: u64,
    /// All steps.
    pub steps: u64,
    /// Tokens used so far.
    pub tokens_used: u64,
    /// Tokens that may be used; 0 when there is no budget, then the tax is 1.
    pub token_budget: u64,
    /// Mean loss in nats of the task's market on its resolved descendants.
    pub delusion_nats: f64,
    /// Children that wait.
    pub blocked_children: u64,
    /// Children that failed.
    pub failed_children: u64,
    /// Children past their deadline.
    pub overdue_children: u64,
    /// Attempts after the first.
    pub retries: u64,
    /// Children that completed.
    pub completed_children: u64,
    /// Ratios of the children.
    pub children: Vec<f64>,
    /// How the children make up the task.
    pub composition: Composition,
    /// Health of the services in `(0, 1]`.
    pub service_health: f64,
}

impl Default for TaskEvidence {
    fn default() -> Self {
        Self {
            messages: Vec::new(),
            accepted_steps: 0,
            steps: 0,
            tokens_used: 0,
            token_budget: 0,
            delusion_nats: 0.0,
            blocked_children: 0,
            failed_children: 0,
            overdue_children: 0,
            retries: 0,
            completed_children: 0,
            children: Vec::new(),
            composition: Composition::Series,
            service_health: 1.0,
        }
    }
}

impl TaskEvidence {
    /// Notes the persistence of one assistant message.
    pub fn push_message(&mut self, summary: &PersistenceSummary) {
        self.messages.push((summary.n, summary.r_harm));
    }

    /// The ratio with its terms and its probability.
    ///
    /// # Errors
    /// [`crate::Error::OutOfRange`] if a term lies outside its range.
    pub fn persistence(&self) -> Result<TaskPersistence> {
        let factors = Factors::new()
            .with_power_income(self.message_ratio())?
            .with_coupling_efficiency(self.acceptance())?
            .with_entropic_tax(self.tax())?
            .with_delusion(self.delusion_nats)?
            .with_fatigue(self.fatigue())?
            .with_substrate(self.composition.integrity(&self.children)?)?
            .with_shelter(self.service_health)?;
        let ratio = factors.ratio();
        Ok(TaskPersistence {
            ratio,
            prob: Prob::from_ratio(ratio)?,
            factors,
        })
    }

    /// Token-weighted harmonic mean over the messages; 1 without any.
    fn message_ratio(&self) -> f64 {
        let tokens: u64 = self.messages.iter().map(|(n, _)| n).sum();
        let inverse: f64 = self.messages.iter().map(|(n, ratio)| *n as f64 / ratio).sum();
        if tokens == 0 { 1.0 } else { tokens as f64 / inverse }
    }

    fn acceptance(&self) -> f64 {
        if self.steps == 0 {
            1.0
        } else {
            self.accepted_steps as f64 / self.steps as f64
        }
    }

    fn tax(&self) -> f64 {
        if self.token_budget == 0 {
            return 1.0;
        }
        (self.tokens_used as f64 / self.token_budget as f64).max(MIN_TAX)
    }

    fn fatigue(&self) -> f64 {
        let backlog = self.blocked_children + self.failed_children + self.overdue_children + self.retries;
        backlog as f64 / (1 + self.completed_children) as f64
    }
}

/// A task's persistence: the ratio, the probability that it stands for, and every term.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct TaskPersistence {
    /// `R_T`
    #[serde(rename = "R_T")]
    pub ratio: f64,
    /// `R_T / (1 + R_T)`, before calibration.
    pub prob: Prob,
    /// The terms that made it.
    pub factors: Factors,
}
