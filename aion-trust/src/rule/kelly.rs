//! Betting a share of one's trust at the odds of the mean:
//! `t <- t [(1 - kappa) + kappa q(y) / p_m(y)]`.
//!
//! It conserves trust and never goes negative. It is not proper for a voter who minds only the mean of
//! his trust: his best report lies near 1 on whatever the others undervalue. It is for voters who mind
//! the mean of its logarithm.
//!
//! # Sources
//! J. L. Kelly, A new interpretation of information rate, 1956.

use super::{Kappa, Voter, fork_weights, round_conserving};
use crate::error::{Error, Result};

/// The changes in millitrust; they sum to 0. All are 0 where nobody gave what happened a chance.
///
/// # Errors
/// [`Error::Overflow`] if a change leaves its range.
pub fn deltas(kappa: Kappa, voters: &[Voter<'_>], outcome: usize) -> Result<Vec<i64>> {
    let trust = |voter: &Voter<'_>| i128::from(voter.trust.get());
    let total: i128 = voters.iter().map(trust).sum();
    let behind = fork_weights(voters).get(outcome).copied().unwrap_or(0);
    let behind = i128::try_from(behind).map_err(|_| Error::Overflow("the trust behind an outcome"))?;
    if behind == 0 {
        return Ok(vec![0; voters.len()]);
    }
    // delta = kappa t (q T - sum t q) / sum t q.
    let shares: Option<Vec<i128>> = voters
        .iter()
        .map(|voter| {
            let part = i128::from(voter.dist.get(outcome).map_or(0, aion_types::Ppm::get));
            let apart = part.checked_mul(total)?.checked_sub(behind)?;
            apart
                .checked_mul(trust(voter))?
                .checked_mul(i128::from(kappa.permille()))
        })
        .collect();
    round_conserving(&shares.ok_or(Error::Overflow("a stake"))?, behind * 1_000)
}
