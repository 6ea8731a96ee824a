//! Rows of query and key matrices, in the order of one form of checkpoint or of the other.

use bytes::Bytes;

/// Pairs that turn together lie side by side: row `2 i + p` of a head is what was row `i + p half`.
pub(super) fn to_adjacent(matrix: &Bytes, head_dim: usize, rows: usize) -> Bytes {
    reordered(matrix, head_dim, rows, |row| row / 2 + row % 2 * (head_dim / 2))
}

/// The inverse: pairs lie half a head apart.
pub(super) fn to_halves(matrix: &Bytes, head_dim: usize, rows: usize) -> Bytes {
    let half = head_dim / 2;
    reordered(matrix, head_dim, rows, move |row| row % half * 2 + row / half)
}

fn reordered(matrix: &Bytes, head_dim: usize, rows: usize, source_of: impl Fn(usize) -> usize) -> Bytes {
    let row_bytes = matrix.len() / rows;
    let mut out = Vec::with_capacity(matrix.len());
    for head in matrix.chunks_exact(head_dim * row_bytes) {
        for row in 0..head_dim {
            out.extend_from_slice(&head[source_of(row) * row_bytes..][..row_bytes]);
        }
    }
    out.into()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_two_orders_are_inverse() {
        let matrix: Bytes = (0..32u8).collect();
        assert_eq!(
            to_halves(&matrix, 4, 8)[..16],
            [0, 1, 2, 3, 8, 9, 10, 11, 4, 5, 6, 7, 12, 13, 14, 15]
        );
        for (head_dim, rows) in [(4, 8), (8, 16), (2, 4), (8, 8)] {
            let there = to_adjacent(&matrix, head_dim, rows);
            assert_eq!(to_halves(&there, head_dim, rows), matrix, "{head_dim} {rows}");
        }
    }
}
