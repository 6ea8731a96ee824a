//! Rotary positions (Su et al. 2021): pairs of coordinates turn by an angle that grows with the position.

use burn::tensor::{Device, Tensor, TensorData};

use crate::config::ModelConfig;

/// The angle by which each pair of coordinates turns at each step, `[head_dim / 2]`.
///
/// Angles are computed for the positions of a call, so a file that claims an endless context costs nothing.
#[derive(Debug)]
pub(super) struct Rotary {
    frequencies: Vec<f64>,
    device: Device,
}

/// Cosines and sines of the positions of one call, `[seq, 1, head_dim / 2]`.
#[derive(Debug)]
pub(super) struct Turn {
    cos: Tensor<3>,
    sin: Tensor<3>,
}

impl Rotary {
    pub(super) fn new(config: &ModelConfig, divisors: Option<&[f32]>, device: &Device) -> Self {
        let pairs = config.head_dim / 2;
        let frequencies = (0..pairs)
            .map(|i| {
                config.rope_base.powf(-(i as f64) / pairs as f64) / divisors.map_or(1.0, |d| f64::from(d[i]))
            })
            .collect();
        Self {
            frequencies,
            device: device.clone(),
        }
    }

    pub(super) fn at(&self, start: usize, n: usize) -> Turn {
        let angles = || (start..start + n).flat_map(|at| self.frequencies.iter().map(move |f| at as f64 * f));
        let shape = [n, 1, self.frequencies.len()];
        let table = |values: Vec<f32>| Tensor::from_data(TensorData::new(values, shape), &self.device);
        Turn {
            cos: table(angles().map(|angle| angle.cos() as f32).collect()),
            sin: table(angles().map(|angle| angle.sin() as f32).collect()),
        }
    }
}

impl Turn {
    /// Turns `[seq, heads, head_dim]`, pairs half a head apart.
    pub(super) fn apply(&self, x: Tensor<3>) -> Tensor<3> {
        let half = x.dims()[2] / 2;
        let (a, b) = (x.clone().narrow(2, 0, half), x.narrow(2, half, half));
        let (cos, sin) = (self.cos.clone(), self.sin.clone());
        let first = a.clone() * cos.clone() - b.clone() * sin.clone();
        let second = b * cos + a * sin;
        Tensor::cat(vec![first, second], 2)
    }
}
