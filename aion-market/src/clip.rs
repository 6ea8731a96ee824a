//! Clips that carry their epsilon, so that no score is clipped in silence.

use aion_types::{PPM_ONE, Ppm, PpmDist};
use serde::Serialize;

use crate::Result;
use crate::error::{check, check_dist};

/// A distribution kept away from 0 by mixing with the uniform one: `(1 - K eps) q + eps`.
///
/// ```
/// use aion_market::clip::Clipped;
/// use aion_market::score::log_score;
///
/// let clipped = Clipped::new(&[1.0, 0.0], 0.01)?;
/// assert_eq!(clipped.as_slice(), [0.99, 0.01]);
/// assert_eq!(log_score(clipped.as_slice(), 1)?, 0.01_f64.ln());
/// assert_eq!(clipped.eps(), 0.01);
/// # Ok::<(), aion_market::Error>(())
/// ```
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Clipped {
    eps: f64,
    dist: Vec<f64>,
}

impl Clipped {
    /// Mixes `q` with the uniform distribution.
    ///
    /// # Errors
    /// [`crate::Error`] if `q` is no distribution or `eps` is not in `(0, 1/K]`.
    pub fn new(q: &[f64], eps: f64) -> Result<Self> {
        check_dist("a forecast", q)?;
        let outcomes = q.len() as f64;
        check("a clip", "in (0, 1/K]", eps, eps > 0.0 && eps * outcomes <= 1.0)?;
        let dist = q.iter().map(|p| (1.0 - outcomes * eps) * p + eps).collect();
        Ok(Self { eps, dist })
    }

    /// The smallest probability that an outcome can have.
    pub const fn eps(&self) -> f64 {
        self.eps
    }

    /// The probabilities.
    pub fn as_slice(&self) -> &[f64] {
        &self.dist
    }
}

/// A distribution whose parts are raised to a floor; what is above it shrinks in proportion.
///
/// For two outcomes this is a clamp to `[floor, 1 - floor]`, as Metaculus does with 0.001; a
/// distribution above the floor comes back as it was.
///
/// ```
/// use aion_market::clip::Clamped;
///
/// assert_eq!(Clamped::new(&[1.0, 0.0], 0.001)?.as_slice(), [0.999, 0.001]);
/// assert_eq!(Clamped::new(&[0.3, 0.7], 0.001)?.as_slice(), [0.3, 0.7]);
/// # Ok::<(), aion_market::Error>(())
/// ```
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Clamped {
    floor: f64,
    dist: Vec<f64>,
}

impl Clamped {
    /// Raises what lies below the floor.
    ///
    /// # Errors
    /// [`crate::Error`] if `q` is no distribution or `floor` is not in `(0, 1/K]`.
    pub fn new(q: &[f64], floor: f64) -> Result<Self> {
        check_dist("a forecast", q)?;
        let outcomes = q.len() as f64;
        check(
            "a floor",
            "in (0, 1/K]",
            floor,
            floor > 0.0 && floor * outcomes <= 1.0,
        )?;
        let mut low = vec![false; q.len()];
        let mut dist = q.to_vec();
        // Shrinking the rest may push more of it below the floor: at most K rounds.
        while dist.iter().zip(&low).any(|(p, low)| !low && *p < floor) {
            for (low, p) in low.iter_mut().zip(&dist) {
                *low |= *p < floor;
            }
            let kept: f64 = q.iter().zip(&low).filter(|(_, low)| !**low).map(|(p, _)| p).sum();
            let free = 1.0 - floor * low.iter().filter(|low| **low).count() as f64;
            for ((to, p), low) in dist.iter_mut().zip(q).zip(&low) {
                *to = if *low { floor } else { p * (free / kept) };
            }
        }
        Ok(Self { floor, dist })
    }

    /// The least probability that an outcome has.
    pub const fn floor(&self) -> f64 {
        self.floor
    }

    /// The probabilities.
    pub fn as_slice(&self) -> &[f64] {
        &self.dist
    }
}

/// `dist` with every part raised to at least `floor`; the most likely outcomes pay for it.
///
/// For two outcomes this is a clamp to `[floor, 1 - floor]`; a distribution above the floor comes
/// back unchanged.
///
/// ```
/// use aion_market::clip::raise_to_floor;
/// use aion_types::{Ppm, PpmDist};
///
/// let sure = PpmDist::new(vec![1_000_000, 0])?;
/// assert_eq!(raise_to_floor(&sure, Ppm::new(1_000)?)?.parts(), [999_000, 1_000]);
/// # Ok::<(), aion_market::Error>(())
/// ```
///
/// # Errors
/// [`crate::Error::OutOfRange`] if not every outcome can have the floor.
pub fn raise_to_floor(dist: &PpmDist, floor: Ppm) -> Result<PpmDist> {
    let outcomes = dist.outcomes() as u64;
    let fits = u64::from(floor.get()) * outcomes <= u64::from(PPM_ONE);
    check("a floor", "at most 1/K", floor.to_prob().get(), fits)?;
    if dist.parts().iter().all(|part| *part >= floor.get()) {
        return Ok(dist.clone());
    }
    let mut parts = dist.parts().to_vec();
    let mut owed = 0;
    for part in parts.iter_mut().filter(|part| **part < floor.get()) {
        owed += floor.get() - *part;
        *part = floor.get();
    }
    let mut order: Vec<usize> = (0..parts.len()).collect();
    order.sort_by_key(|i| (std::cmp::Reverse(parts[*i]), *i));
    for i in order {
        let paid = owed.min(parts[i] - floor.get());
        parts[i] -= paid;
        owed -= paid;
    }
    Ok(PpmDist::new(parts)?)
}
