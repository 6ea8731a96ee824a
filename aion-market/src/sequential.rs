//! Sequential scores: who brought a price how much closer to what happened.

use aion_types::{MicroBits, Ppm, PpmDist};

use crate::Result;
use crate::error::{Error, check_dist, check_len, check_outcome};
use crate::resolution::Target;

/// The sequential KL reduction of a price path against a target, in nats:
/// `score_i = sum_k f_k ln(p_{i,k} / p_{i-1,k})`.
///
/// The scores telescope to `KL(f || p_0) - KL(f || p_N)`; a move that changes nothing scores 0. The
/// target includes the resolution: scored against the last price before it, the wrong last bettor
/// would win.
///
/// ```
/// use aion_market::sequential::sequential_kl;
///
/// let path = [[0.5, 0.5], [0.65, 0.35], [0.64, 0.36], [0.55, 0.45]];
/// let bits: Vec<f64> = sequential_kl(&path, &[1.0, 0.0])?.iter().map(|s| s / std::f64::consts::LN_2).collect();
/// for (got, expected) in bits.iter().zip([0.378_512, -0.022_368, -0.218_640]) {
///     assert!((got - expected).abs() < 1e-6);
/// }
/// # Ok::<(), aion_market::Error>(())
/// ```
///
/// # Errors
/// [`Error`] for a price that is no distribution, lengths that differ, or [`Error::Undefined`] where
/// a step gains and loses an infinite amount at once.
pub fn sequential_kl<P: AsRef<[f64]>>(path: &[P], target: &[f64]) -> Result<Vec<f64>> {
    check_dist("a target", target)?;
    for price in path {
        check_dist("a price", price.as_ref())?;
        check_len("a price", price.as_ref().len(), target.len())?;
    }
    let steps = path.windows(2).enumerate();
    steps
        .map(|(i, pair)| step_score(pair[0].as_ref(), pair[1].as_ref(), target, i + 1))
        .collect()
}

fn step_score(before: &[f64], after: &[f64], target: &[f64], step: usize) -> Result<f64> {
    let moved = before.iter().zip(after).zip(target);
    let score: f64 = moved
        .filter(|((before, after), f)| **f > 0.0 && before != after)
        .map(|((before, after), f)| f * (after.ln() - before.ln()))
        .sum();
    if score.is_nan() {
        return Err(Error::Undefined { step });
    }
    Ok(score)
}

/// The report score `w [ln q(y) - ln p(y)]` in nats, with `p` the price before the report: the trust
/// identity. Its optimum is the belief, which paying the price move of a pseudo-count market is not.
///
/// ```
/// use aion_market::sequential::report_score;
///
/// let bits = report_score(&[0.1, 0.9], &[0.64, 0.36], 0, 1.0)? / std::f64::consts::LN_2;
/// assert!((bits - -2.678_072).abs() < 1e-6);
/// # Ok::<(), aion_market::Error>(())
/// ```
///
/// # Errors
/// [`Error`] if one is no distribution, they differ in length, or both give the outcome 0.
pub fn report_score(q: &[f64], before: &[f64], y: usize, weight: f64) -> Result<f64> {
    check_dist("a report", q)?;
    check_dist("a price", before)?;
    check_len("a report", q.len(), before.len())?;
    check_outcome(y, q.len())?;
    let score = if q[y] == before[y] {
        0.0
    } else {
        q[y].ln() - before[y].ln()
    };
    if (weight * score).is_nan() {
        return Err(Error::Undefined { step: 1 });
    }
    Ok(weight * score)
}

/// The integer level of a price on what happened: `floor(sum_k f_k round(1e6 log2 p_k))`, in
/// micro-bits. A gain is a difference of two levels, so gains along any path add up exactly.
///
/// ```
/// use aion_market::sequential::level;
/// use aion_market::Target;
/// use aion_types::PpmDist;
///
/// let price = |p| PpmDist::new(vec![p, 1_000_000 - p]);
/// let yes = Target::outcome(0, 2)?;
/// let gain = |from, to| Ok::<_, aion_market::Error>((level(&price(to)?, &yes)? - level(&price(from)?, &yes)?).get());
/// assert_eq!([gain(500_000, 700_000)?, gain(700_000, 600_000)?, gain(600_000, 900_000)?], [485_427, -222_393, 584_963]);
/// assert_eq!(gain(500_000, 900_000)?, 485_427 - 222_393 + 584_963);
/// # Ok::<(), aion_market::Error>(())
/// ```
///
/// # Errors
/// [`Error`] if the lengths differ or an outcome that happened has the price 0.
pub fn level(price: &PpmDist, target: &Target) -> Result<MicroBits> {
    check_len("a price", price.outcomes(), target.dist().outcomes())?;
    let mut sum: i128 = 0;
    for (part, share) in price.parts().iter().zip(target.dist().parts()) {
        if *share > 0 {
            sum += i128::from(MicroBits::level(Ppm::new(*part)?)?.get()) * i128::from(*share);
        }
    }
    let micro_bits = sum.div_euclid(i128::from(aion_types::PPM_ONE));
    i64::try_from(micro_bits)
        .map(MicroBits::new)
        .map_err(|_| Error::Overflow("a level"))
}
