//! Sorts lane by lane: compare-and-exchange networks, which need no branch.

use super::Vector;

/// Puts the smaller of two entries first.
macro_rules! exchange {
    ($x:ident, $i:literal, $j:literal) => {
        let low = $x[$i].min($x[$j]);
        $x[$j] = $x[$i].max($x[$j]);
        $x[$i] = low;
    };
}

/// Sorts 16 entries in registers.
///
/// # Sources
/// M. W. Green's network of 60 exchanges: D. E. Knuth, *The Art of Computer Programming* 3, 5.3.4.
#[inline(always)]
pub(super) fn sort_16<V: Vector>(x: &mut [V; 16]) {
    macro_rules! all {
        ($(($i:literal $j:literal))*) => { $(exchange!(x, $i, $j);)* };
    }
    all! {
        (0 1) (2 3) (4 5) (6 7) (8 9) (10 11) (12 13) (14 15)
        (0 2) (4 6) (8 10) (12 14) (1 3) (5 7) (9 11) (13 15)
        (0 4) (8 12) (1 5) (9 13) (2 6) (10 14) (3 7) (11 15)
        (0 8) (1 9) (2 10) (3 11) (4 12) (5 13) (6 14) (7 15)
        (5 10) (6 9) (3 12) (13 14) (4 8) (7 11) (1 2)
        (1 4) (7 13) (2 8) (11 14)
        (2 4) (5 6) (9 10) (11 13) (3 8) (7 12)
        (6 8) (10 12) (3 5) (7 9)
        (3 4) (5 6) (7 8) (9 10) (11 12)
        (6 7) (8 9)
    }
}

/// Sorts any number of entries.
///
/// # Sources
/// K. E. Batcher's merge exchange: D. E. Knuth, *The Art of Computer Programming* 3, 5.2.2, Algorithm M.
#[inline(always)]
pub(super) fn sort<V: Vector>(x: &mut [V]) {
    let n = x.len();
    let top = n.next_power_of_two() / 2;
    let mut p = top;
    while p > 0 {
        let (mut q, mut r, mut d) = (top, 0, p);
        loop {
            merge(x, p, r, d);
            if q == p {
                break;
            }
            d = q - p;
            q /= 2;
            r = p;
        }
        p /= 2;
    }
}

/// Exchanges entries `i` and `i + d` for every `i` whose bit `p` is that of `r`: runs of `p` entries.
#[inline(always)]
fn merge<V: Vector>(x: &mut [V], p: usize, r: usize, d: usize) {
    let mut start = r;
    while start + d < x.len() {
        let end = (start + p).min(x.len() - d);
        for i in start..end {
            let (low, high) = (x[i].min(x[i + d]), x[i].max(x[i + d]));
            x[i] = low;
            x[i + d] = high;
        }
        start += 2 * p;
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::kernel::Float;

    type V = <f64 as Float>::Portable;

    /// A network that sorts every sequence of zeros and ones sorts everything (Knuth 5.3.4, theorem Z).
    #[test]
    fn both_networks_sort_all_zeros_and_ones() {
        for bits in (0..1_u32 << 16).step_by(if cfg!(miri) { 1021 } else { 1 }) {
            let entries: [V; 16] = std::array::from_fn(|i| V::splat((), f64::from(bits >> i & 1)));
            let ones = bits.count_ones() as usize;
            let is_sorted = |x: &[V]| {
                let values = x.iter().map(|v| v.sum() / 4.0);
                values
                    .enumerate()
                    .all(|(i, v)| v == if i < x.len() - ones { 0.0 } else { 1.0 })
            };
            let mut network = entries;
            sort_16(&mut network);
            assert!(is_sorted(&network), "{bits:b}");
            if bits < 1 << 11 {
                for n in 11..=16 {
                    let mut merged = entries;
                    sort(&mut merged[..n]);
                    assert!(is_sorted(&merged[..n]), "{bits:b} of {n}");
                }
            }
        }
    }

    #[test]
    fn any_number_of_entries_is_sorted() {
        for n in 0..130 {
            let mut x: Vec<V> = (0..n).map(|i| V::splat((), f64::from(i * 7919 % 131))).collect();
            sort(&mut x);
            assert!(
                x.windows(2).all(|pair| pair[0].sum() <= pair[1].sum()),
                "{n} entries"
            );
        }
    }
}
