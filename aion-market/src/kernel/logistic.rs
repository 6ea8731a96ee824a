//! One step of logistic regression: log loss, gradient and Hessian of `n` rows in one pass.
#![allow(dead_code, reason = "called by the logistic predictor")]

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
    let (n, d) = (y.len(), beta.len() - 1);
    assert!(x.len() == n * d && sample_weight.len() == n && gradient.len() == d + 1);
    assert!(hessian.len() == (d + 1) * (d + 1));
    hessian.fill(0.0);
    gradient.fill(0.0);
    let mut loss = 0.0;
    let mut row = vec![1.0; d + 1];
    for i in 0..n {
        row[..d].copy_from_slice(&x[i * d..(i + 1) * d]);
        let z: f64 = row.iter().zip(beta).map(|(x, b)| x * b).sum();
        let tail = (-z.abs()).exp();
        let mu = if z >= 0.0 { 1.0 / (1.0 + tail) } else { tail / (1.0 + tail) };
        loss += sample_weight[i] * (z.max(0.0) - y[i] * z + tail.ln_1p());
        let weight = sample_weight[i] * tail / ((1.0 + tail) * (1.0 + tail));
        for (j, xj) in row.iter().enumerate() {
            gradient[j] += sample_weight[i] * (mu - y[i]) * xj;
            for (k, xk) in row.iter().enumerate() {
                hessian[j * (d + 1) + k] += weight * xj * xk;
            }
        }
    }
    loss
}
