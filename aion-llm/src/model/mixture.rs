//! A mixture of experts on Burn: every expert computes every row, and those that a row did not choose count 0.
//!
//! This is the reference that the processor's own kernels are held against: they compute the chosen ones alone.

use burn::tensor::{Bool, Device, Tensor, TensorData};

use super::decoder::{activated, network, to_host};
use super::linear::{Fused, Linear};
use crate::checkpoint::{Checkpoint, Part};
use crate::config::FeedForward;
use crate::error::Result;
use crate::experts::Experts;

#[derive(Debug)]
pub(super) struct Mixture {
    rule: Experts,
    router: Linear,
    bias: Option<Vec<f32>>,
    /// `[experts, n_embd, n_ff]`, twice as wide with a gate.
    up: Tensor<3>,
    /// `[experts, n_ff, n_embd]`.
    down: Tensor<3>,
}

impl Mixture {
    pub(super) fn load(
        checkpoint: &dyn Checkpoint,
        i: usize,
        rule: Experts,
        device: &Device,
    ) -> Result<Self> {
        let (d, ff) = (checkpoint.config().n_embd, checkpoint.config().n_ff);
        let router = checkpoint.stored(Part::Router(i), &[rule.count, d])?;
        let (mut ups, mut downs) = (Vec::new(), Vec::new());
        for e in 0..rule.count {
            let parts = (
                Part::ExpertGate(i, e),
                Part::ExpertUp(i, e),
                Part::ExpertDown(i, e),
            );
            let (up, down) = network(checkpoint, parts)?;
            ups.extend(up.transposed()?.0);
            downs.extend(down.transposed()?.0);
        }
        let stacked = |values: Vec<f32>, rows: usize| {
            let columns = values.len() / rule.count / rows;
            Tensor::from_data(TensorData::new(values, [rule.count, rows, columns]), device)
        };
        Ok(Self {
            rule,
            router: Fused::new(d).with(router).load(device)?,
            bias: checkpoint.router_bias(i)?,
            up: stacked(ups, d),
            down: stacked(downs, ff),
        })
    }

    /// `[seq, n_embd]` to `[seq, n_embd]`. The choice is made where the caller runs.
    ///
    /// # Errors
    /// [`Error::Numeric`](crate::Error::Numeric) when the device fails to hand over the router's logits.
    pub(super) fn forward(&self, x: Tensor<2>, kind: FeedForward) -> Result<Tensor<2>> {
        let [n, d] = x.dims();
        let (gates, idle) = self.gates(&to_host(self.router.forward(x.clone()))?, n);
        let shape = [self.rule.count, n, 1];
        let gates = Tensor::<3>::from_data(TensorData::new(gates, shape), &x.device());
        let idle = Tensor::<3, Bool>::from_data(TensorData::new(idle, shape), &x.device());
        let h = activated(x.unsqueeze_dim::<3>(0).matmul(self.up.clone()), kind);
        let y = h.matmul(self.down.clone()) * gates;
        // Not a product with 0: what an expert gives that nobody chose may be no number.
        let y = y.mask_fill(idle.expand([self.rule.count, n, d]), 0.0);
        Ok(y.sum_dim(0).reshape([n, d]))
    }

    /// What each expert counts in each row, `[experts, n]`, and whether the row did not choose it.
    fn gates(&self, logits: &[f32], n: usize) -> (Vec<f32>, Vec<bool>) {
        let (mut gates, mut idle) = (vec![0.0; self.rule.count * n], vec![true; self.rule.count * n]);
        for (row, logits) in logits.chunks_exact(self.rule.count).enumerate() {
            for routed in self.rule.route(logits, self.bias.as_deref()) {
                gates[routed.expert * n + row] = routed.gate;
                idle[routed.expert * n + row] = false;
            }
        }
        (gates, idle)
    }
}
