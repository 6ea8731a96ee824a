//! The published rule: `delta_v = alpha [ln q_v(y) - ln p_m(y)]` with `p_m` the trust-weighted mean.
//!
//! Kept for compatibility. It has three flaws that the tests of this crate show: a voter is measured
//! against a mean that holds his own vote, so his best report lies between his belief and the others';
//! it mints and burns trust; and two fresh keys with opposite bets gain about 693 millitrust without
//! risk, since the losing one has nothing to lose.

use super::{Voter, fork_weights};
use crate::error::{Error, Result};
use crate::fixed::{FRACTION_BITS, ln};

/// Millitrust per nat.
pub const ALPHA_MILLI: u32 = 1_000;

/// Confirmations after which a block counts as settled.
pub const CONFIRMATIONS: u32 = 2;

/// The changes in millitrust, rounded towards minus infinity.
///
/// A vote of 0 for what happened counts as one part per million: the logarithm of 0 is no integer.
/// All changes are 0 where no trust votes.
///
/// ```
/// use aion_trust::rule::{Voter, published};
/// use aion_types::{MilliTrust, PpmDist};
///
/// let a = PpmDist::new(vec![800_000, 100_000, 100_000])?;
/// let b = PpmDist::new(vec![300_000, 600_000, 100_000])?;
/// let voters = [
///     Voter { trust: MilliTrust::new(10_000), dist: &a },
///     Voter { trust: MilliTrust::new(5_000), dist: &b },
/// ];
/// assert_eq!(published::deltas(1_000, &voters, 0).unwrap(), [233, -748]);
/// assert_eq!(published::deltas(1_000, &voters, 1).unwrap(), [-981, 810]);
/// assert_eq!(published::deltas(1_000, &voters, 2).unwrap(), [0, 0]);
/// # Ok::<(), aion_types::Error>(())
/// ```
///
/// # Errors
/// [`Error::Overflow`] if a change leaves its range.
pub fn deltas(alpha_milli: u32, voters: &[Voter<'_>], outcome: usize) -> Result<Vec<i64>> {
    let total: u128 = voters.iter().map(|voter| u128::from(voter.trust.get())).sum();
    let behind = fork_weights(voters).get(outcome).copied().unwrap_or(0);
    if total == 0 {
        return Ok(vec![0; voters.len()]);
    }
    let mean = log(behind.max(total))?;
    let delta = |voter: &Voter<'_>| {
        let part = voter.dist.get(outcome).map_or(1, |part| part.get().max(1));
        // ln q - ln p_m = ln(q T) - ln(sum t q): both whole numbers, so nothing is rounded before.
        let nats = log(u128::from(part) * total)? - mean;
        let scaled = (i128::from(alpha_milli) * i128::from(nats)) >> FRACTION_BITS;
        i64::try_from(scaled).map_err(|_| Error::Overflow("a change of trust"))
    };
    voters.iter().map(delta).collect()
}

fn log(n: u128) -> Result<i64> {
    ln(n).ok_or(Error::Overflow("a logarithm"))
}
