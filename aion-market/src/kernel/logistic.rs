//! One step of logistic regression: log loss, gradient and Hessian of `n` rows in one pass.

use super::elementary::sigmoid;
use super::{SimdLevel, Vector, Work, dispatch};

/// Writes the Hessian `X^T W X` and the gradient `X^T (mu - y)` of the weighted log loss, with the
/// intercept as the last column, and gives the loss in nats.
///
/// `x` is row-major `[n, d]`, `y` in `[0, 1]` and `sample_weight` are `[n]`, `beta` and `gradient`
/// `[d + 1]` with the intercept last, `hessian` `[d + 1, d + 1]`, both triangles.
///
/// # Panics
/// If the lengths do not fit together.
pub(crate) fn irls_step(
    x: &[f64],
    y: &[f64],
    sample_weight: &[f64],
    beta: &[f64],
    hessian: &mut [f64],
    gradient: &mut [f64],
) -> f64 {
    irls_step_at(
        SimdLevel::detect(),
        [x, y, sample_weight, beta],
        hessian,
        gradient,
    )
}

/// [`irls_step`] with the instructions of `level`.
fn irls_step_at(level: SimdLevel, input: [&[f64]; 4], hessian: &mut [f64], gradient: &mut [f64]) -> f64 {
    let [x, y, weight, beta] = input;
    let (n, d) = (y.len(), beta.len() - 1);
    assert!(x.len() == n * d && weight.len() == n && gradient.len() == d + 1);
    assert!(hessian.len() == (d + 1) * (d + 1));
    dispatch(
        level,
        Step {
            x,
            y,
            weight,
            beta,
            hessian,
            gradient,
        },
    )
}

struct Step<'a> {
    x: &'a [f64],
    y: &'a [f64],
    weight: &'a [f64],
    beta: &'a [f64],
    hessian: &'a mut [f64],
    gradient: &'a mut [f64],
}

/// Rows of a block: its features, and their products with the weights, stay in the first cache.
const BLOCK: usize = 64;

/// Rows of the product that are added up at once, in registers.
const TILE: usize = 6;

/// A block of rows, padded with zeros to whole vectors and tiles.
struct Block {
    /// `[BLOCK, width]`: the features.
    x: Vec<f64>,
    /// `[BLOCK, height]`: weight times feature, then the weight, then the residual.
    left: Vec<f64>,
    width: usize,
    height: usize,
}

impl Work<f64> for Step<'_> {
    type Out = f64;

    #[inline(always)]
    fn run<V: Vector<Scalar = f64>>(self, proof: V::Proof) -> f64 {
        let d = self.beta.len() - 1;
        let width = d.next_multiple_of(V::LANES).max(V::LANES);
        let height = (d + 2).next_multiple_of(TILE);
        let mut block = Block {
            x: vec![0.0; BLOCK * width],
            left: vec![0.0; BLOCK * height],
            width,
            height,
        };
        let mut product = vec![0.0; height * width];
        let mut slope = vec![0.0; width];
        slope[..d].copy_from_slice(&self.beta[..d]);
        let mut sums = [0.0; 3];
        for start in (0..self.y.len()).step_by(BLOCK) {
            let rows = start..self.y.len().min(start + BLOCK);
            self.fill::<V>(proof, rows, &slope, &mut block, &mut sums);
            add_products::<V>(proof, &block, d, &mut product);
        }
        self.finish(&product, width, sums)
    }
}

impl Step<'_> {
    /// Fills the block with some rows; adds loss, weight and residual to the sums.
    #[inline(always)]
    fn fill<V: Vector<Scalar = f64>>(
        &self,
        proof: V::Proof,
        rows: std::ops::Range<usize>,
        slope: &[f64],
        block: &mut Block,
        sums: &mut [f64; 3],
    ) {
        let (d, n, width) = (self.beta.len() - 1, rows.len(), block.width);
        let mut z = [0.0; BLOCK];
        for (i, z) in z.iter_mut().enumerate().take(n) {
            let row = &mut block.x[i * width..(i + 1) * width];
            row[..d].copy_from_slice(&self.x[(rows.start + i) * d..(rows.start + i + 1) * d]);
            *z = self.beta[d] + dot::<V>(proof, row, slope);
        }
        // Rows past the end have no weight.
        let (mut y, mut weight) = ([0.0; BLOCK], [0.0; BLOCK]);
        y[..n].copy_from_slice(&self.y[rows.clone()]);
        weight[..n].copy_from_slice(&self.weight[rows]);
        let [residual, curvature] = weigh::<V>(proof, &z, &y, &weight, sums);
        for i in 0..BLOCK {
            let row = &block.x[i * width..i * width + d];
            let left = &mut block.left[i * block.height..(i + 1) * block.height];
            for (left, x) in left.iter_mut().zip(row) {
                *left = curvature[i] * x;
            }
            left[d] = curvature[i];
            left[d + 1] = residual[i];
        }
    }

    /// Puts the sums where the caller wants them.
    fn finish(self, product: &[f64], width: usize, [loss, curvature, residual]: [f64; 3]) -> f64 {
        let d = self.beta.len() - 1;
        let size = d + 1;
        for i in 0..d {
            for j in 0..=i {
                self.hessian[i * size + j] = product[i * width + j];
                self.hessian[j * size + i] = product[i * width + j];
            }
            self.hessian[d * size + i] = product[d * width + i];
            self.hessian[i * size + d] = product[d * width + i];
            self.gradient[i] = product[(d + 1) * width + i];
        }
        self.hessian[d * size + d] = curvature;
        self.gradient[d] = residual;
        loss
    }
}

/// The residuals `w (mu - y)` and curvatures `w mu (1 - mu)` of a block.
#[inline(always)]
fn weigh<V: Vector<Scalar = f64>>(
    proof: V::Proof,
    z: &[f64; BLOCK],
    y: &[f64; BLOCK],
    weight: &[f64; BLOCK],
    sums: &mut [f64; 3],
) -> [[f64; BLOCK]; 2] {
    let mut out = [[0.0; BLOCK]; 2];
    let zero = V::splat(proof, 0.0);
    let (mut loss, mut curvatures, mut residuals) = (zero, zero, zero);
    for i in (0..BLOCK).step_by(V::LANES) {
        // SAFETY: a block is a whole number of vectors.
        let load = |from: &[f64; BLOCK]| unsafe { V::load(proof, from.as_ptr().add(i)) };
        let (z, y, w) = (load(z), load(y), load(weight));
        let (mu, slope, ln) = sigmoid(z);
        let residual = w * (mu - y);
        let curvature = w * slope;
        loss = w.mul_add(z.max(zero) - y * z + ln, loss);
        curvatures = curvatures + curvature;
        residuals = residuals + residual;
        // SAFETY: as above.
        unsafe {
            residual.store(out[0].as_mut_ptr().add(i));
            curvature.store(out[1].as_mut_ptr().add(i));
        }
    }
    sums[0] += loss.sum();
    sums[1] += curvatures.sum();
    sums[2] += residuals.sum();
    out
}

/// The inner product of two rows of whole vectors.
#[inline(always)]
fn dot<V: Vector<Scalar = f64>>(proof: V::Proof, a: &[f64], b: &[f64]) -> f64 {
    let mut sum = V::splat(proof, 0.0);
    for (a, b) in a.chunks_exact(V::LANES).zip(b.chunks_exact(V::LANES)) {
        // SAFETY: the chunks are whole vectors.
        sum = unsafe { V::load(proof, a.as_ptr()).mul_add(V::load(proof, b.as_ptr()), sum) };
    }
    sum.sum()
}

/// Adds `left^T x` of the block to the product, where it is on or below the diagonal.
#[inline(always)]
fn add_products<V: Vector<Scalar = f64>>(proof: V::Proof, block: &Block, d: usize, product: &mut [f64]) {
    for i in (0..block.height).step_by(TILE) {
        // The last rows, of the intercept and the gradient, are whole.
        let end = if i + TILE > d { d } else { i + TILE };
        for j in (0..end).step_by(V::LANES) {
            add_tile::<V>(proof, block, [i, j], product);
        }
    }
}

/// Adds `TILE` rows of one vector of columns.
#[inline(always)]
fn add_tile<V: Vector<Scalar = f64>>(
    proof: V::Proof,
    block: &Block,
    [i, j]: [usize; 2],
    product: &mut [f64],
) {
    let (width, height) = (block.width, block.height);
    let mut sums = [V::splat(proof, 0.0); TILE];
    let lefts = block.left.chunks_exact(height);
    for (x, left) in block.x.chunks_exact(width).zip(lefts) {
        // SAFETY: a row is a whole number of vectors.
        let x = unsafe { V::load(proof, x[j..j + V::LANES].as_ptr()) };
        let left = &left[i..i + TILE];
        for (sum, left) in sums.iter_mut().zip(left) {
            *sum = V::splat(proof, *left).mul_add(x, *sum);
        }
    }
    for (k, sum) in sums.into_iter().enumerate() {
        let at = (i + k) * width + j;
        let to = &mut product[at..at + V::LANES];
        // SAFETY: these are as many scalars as the vector has.
        unsafe { (V::load(proof, to.as_ptr()) + sum).store(to.as_mut_ptr()) };
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The same sums, one row after the other.
    fn plain(x: &[f64], y: &[f64], w: &[f64], beta: &[f64]) -> (f64, Vec<f64>, Vec<f64>) {
        let d = beta.len() - 1;
        let (mut loss, mut h, mut g) = (0.0, vec![0.0; (d + 1) * (d + 1)], vec![0.0; d + 1]);
        for i in 0..y.len() {
            let row: Vec<f64> = x[i * d..(i + 1) * d].iter().copied().chain([1.0]).collect();
            let z: f64 = row.iter().zip(beta).map(|(x, b)| x * b).sum();
            let mu = 1.0 / (1.0 + (-z).exp());
            loss += w[i] * (z.max(0.0) - y[i] * z + (-z.abs()).exp().ln_1p());
            for j in 0..=d {
                g[j] += w[i] * (mu - y[i]) * row[j];
                for k in 0..=d {
                    h[j * (d + 1) + k] += w[i] * mu * (1.0 - mu) * row[j] * row[k];
                }
            }
        }
        (loss, h, g)
    }

    #[test]
    fn every_level_gives_the_plain_sums() {
        for d in if cfg!(miri) { 3..4 } else { 0..20 } {
            for n in [0, 1, 7, 64, 65, 130] {
                let number = |i: usize| (i * 7919 % 1009) as f64 / 504.5 - 1.0;
                let x: Vec<f64> = (0..n * d).map(number).collect();
                let y: Vec<f64> = (0..n).map(|i| (i % 3) as f64 / 2.0).collect();
                let w: Vec<f64> = (0..n).map(|i| 1.0 + (i % 2) as f64).collect();
                let beta: Vec<f64> = (0..=d).map(|i| 3.0 * number(i + 5)).collect();
                let (loss, h, g) = plain(&x, &y, &w, &beta);
                for level in SimdLevel::ALL.into_iter().filter(|level| level.is_available()) {
                    let (mut hessian, mut gradient) = (vec![9.0; h.len()], vec![9.0; g.len()]);
                    let got = irls_step_at(level, [&x, &y, &w, &beta], &mut hessian, &mut gradient);
                    let close = |a: f64, b: f64| (a - b).abs() <= 1e-11 * (1.0 + b.abs());
                    assert!(close(got, loss), "{level}, {n} rows of {d}: {got} is not {loss}");
                    assert!(
                        hessian.iter().zip(&h).all(|(a, b)| close(*a, *b)),
                        "{level}, {n} rows of {d}"
                    );
                    assert!(
                        gradient.iter().zip(&g).all(|(a, b)| close(*a, *b)),
                        "{level}, {n} rows of {d}"
                    );
                }
            }
        }
    }
}
