//! The sum of the exponentials of a maker's shares after an order: `sum exp((q_k + d_k - most) / b)`.

use super::{Float, SimdLevel, Vector, Work, dispatch};

/// Fewer outcomes than this are summed one by one: a vector would be mostly empty.
const FEW: usize = 4;

/// `sum exp((q_k + d_k - most) / b)` for numbers within `2^51` of 0, the largest `q_k + d_k` being
/// `most`; allocates nothing.
///
/// Adding the same to all `q` and to `most` changes no bit of it.
///
/// # Panics
/// If the lists differ in length.
pub(crate) fn exp_sum(shares: &[i64], order: &[i64], most: i64, b: f64) -> f64 {
    assert_eq!(shares.len(), order.len());
    let work = ExpSum {
        shares,
        order,
        most,
        b,
    };
    if shares.len() < FEW {
        return work.one_by_one();
    }
    dispatch(SimdLevel::detect(), work)
}

#[derive(Clone, Copy)]
struct ExpSum<'a> {
    shares: &'a [i64],
    order: &'a [i64],
    most: i64,
    b: f64,
}

impl ExpSum<'_> {
    fn one_by_one(self) -> f64 {
        let below = self.shares.iter().zip(self.order).map(|(q, d)| q + d - self.most);
        below
            .map(|x| if x == 0 { 1.0 } else { (x as f64 / self.b).exp() })
            .sum()
    }
}

impl Work<f64> for ExpSum<'_> {
    type Out = f64;

    #[inline(always)]
    fn run<V: Vector<Scalar = f64>>(self, proof: V::Proof) -> f64 {
        let (b, most) = (V::splat(proof, self.b), V::splat(proof, self.most as f64));
        // The largest term is 1, beside which e^-700 is nothing; below it lie numbers that take a
        // processor a hundred cycles.
        let nothing = V::splat(proof, -700.0);
        let mut sum = V::splat(proof, 0.0);
        for (shares, order) in self.shares.chunks(V::LANES).zip(self.order.chunks(V::LANES)) {
            let count = shares.len();
            // SAFETY: these are the lengths of the chunks, and no vector has more lanes than there are numbers.
            let (q, d, lane) = unsafe {
                (
                    V::load_i64(proof, shares.as_ptr(), count),
                    V::load_i64(proof, order.as_ptr(), count),
                    V::load(proof, LANE.as_ptr()),
                )
            };
            let x = (((q + d) - most) / b).max(nothing);
            let is_outcome = lane.lt(b.same(count as f64));
            sum = sum + <f64 as Float>::exp(V::select(is_outcome, x, nothing));
        }
        sum.sum()
    }
}

/// The number of each lane.
const LANE: [f64; 16] = [
    0.0, 1.0, 2.0, 3.0, 4.0, 5.0, 6.0, 7.0, 8.0, 9.0, 10.0, 11.0, 12.0, 13.0, 14.0, 15.0,
];

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_level_gives_the_sum() {
        for outcomes in [2, 7, 8, 9, 10, 16, 17, 100, 4_096] {
            let shares: Vec<i64> = (0..outcomes).map(|k| k * 7_919 % 900_000 - 1_000_000).collect();
            let order: Vec<i64> = (0..outcomes).map(|k| k * 104_729 % 300_000).collect();
            let most = shares.iter().zip(&order).map(|(q, d)| q + d).max().unwrap();
            let (shares, order) = (&shares[..], &order[..]);
            let b = 250_000.0;
            let work = ExpSum {
                shares,
                order,
                most,
                b,
            };
            let expected = work.one_by_one();
            for level in SimdLevel::ALL {
                let got: f64 = dispatch(level, work);
                assert!(
                    (got / expected - 1.0).abs() < 1e-13,
                    "{outcomes} {level}: {got} {expected}"
                );
            }
            assert!((exp_sum(shares, order, most, b) / expected - 1.0).abs() < 1e-13);
        }
    }

    #[test]
    fn equal_shares_count_exactly_and_far_ones_count_nothing() {
        for outcomes in [2, 8, 9, 100] {
            let shares = vec![-5_000_000; outcomes];
            let zero = vec![0; outcomes];
            assert_eq!(exp_sum(&shares, &zero, -5_000_000, 1e6), outcomes as f64);
            let mut one = zero;
            one[0] = i64::from(u32::MAX);
            assert_eq!(exp_sum(&shares, &one, one[0] - 5_000_000, 1.0), 1.0);
        }
    }
}
