//! Comparisons that were asked for, kept to go on with: a market is taken up once, however often one asks.

use std::collections::VecDeque;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use aion_market::compare::Options;
use aion_market::{Contest, Market, Reach, Result};
use aion_types::{ForecasterId, Timestamp};

use crate::wire::compared::{AssumptionChoice, Compared};

/// Comparisons that are kept; the one that was asked for longest ago goes first.
const MAX_KEPT: usize = 64;
/// Scores that one request reads at most.
const MAX_READ: usize = 200_000;
/// What ended in this time is taken up again by the next request: its neighbours may be stored after it.
const UNSETTLED_MS: i64 = 60_000;

/// Whose comparison, and on what terms.
#[derive(Debug, Clone, PartialEq)]
struct Terms {
    a: ForecasterId,
    b: ForecasterId,
    alpha: f64,
    assumption: AssumptionChoice,
}

/// What is kept. Clones are one.
#[derive(Debug, Clone, Default)]
pub(crate) struct Contests(Arc<Mutex<VecDeque<(Terms, Contest)>>>);

impl Contests {
    /// The comparison of all markets that ended, or of as many as one request may read.
    ///
    /// # Errors
    /// Those of [`Market::go_on`], and of an alpha that cannot be.
    pub(crate) async fn of(&self, market: &Market, of: &Compared) -> Result<(Contest, Reach)> {
        let terms = Terms {
            a: of.a.clone(),
            b: of.b.clone(),
            alpha: of.alpha,
            assumption: of.assumption,
        };
        let mut contest = match self.take(&terms) {
            Some(kept) => kept,
            None => fresh(&terms)?,
        };
        let now = market.clock().now().as_ms();
        let settled = Timestamp::from_ms(now.saturating_sub(UNSETTLED_MS));
        let reach = market.go_on(&mut contest, settled, MAX_READ).await?;
        self.keep(terms, contest.clone());
        if reach == Reach::Middle {
            return Ok((contest, reach));
        }
        let end = Timestamp::from_ms(i64::MAX);
        let reach = market.go_on(&mut contest, end, MAX_READ).await?;
        Ok((contest, reach))
    }

    fn take(&self, terms: &Terms) -> Option<Contest> {
        let mut kept = self.lock();
        let at = kept.iter().position(|(of, _)| of == terms)?;
        kept.remove(at).map(|(_, contest)| contest)
    }

    /// Of two that were made at once the last is kept: both are right.
    fn keep(&self, terms: Terms, contest: Contest) {
        let mut kept = self.lock();
        kept.retain(|(of, _)| *of != terms);
        kept.push_back((terms, contest));
        if kept.len() > MAX_KEPT {
            kept.pop_front();
        }
    }

    fn lock(&self) -> MutexGuard<'_, VecDeque<(Terms, Contest)>> {
        // Contests are taken and put whole.
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn fresh(terms: &Terms) -> Result<Contest> {
    let options = Options::brier()
        .with_assumption(terms.assumption.into())
        .with_alpha(terms.alpha)?;
    Ok(Contest::new(terms.a.clone(), terms.b.clone(), options))
}
