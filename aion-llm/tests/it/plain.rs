//! The model again, written as plainly as its definition: position by position in `f64`, with nothing shared but the
//! weights.

use std::collections::HashMap;

use aion_llm::testkit::TinyModel;
use aion_llm::{Experts, Gating, Selection};

struct Weights(HashMap<String, (Vec<usize>, Vec<f64>)>);

impl Weights {
    fn row(&self, name: &str, i: usize) -> &[f64] {
        let (shape, data) = &self.0[name];
        &data[i * shape[1]..(i + 1) * shape[1]]
    }

    fn apply(&self, name: &str, x: &[f64]) -> Vec<f64> {
        (0..self.0[name].0[0])
            .map(|i| self.row(name, i).iter().zip(x).map(|(w, x)| w * x).sum())
            .collect()
    }

    fn norm(&self, name: &str, x: &[f64]) -> Vec<f64> {
        let scale = (x.iter().map(|x| x * x).sum::<f64>() / x.len() as f64 + 1e-5).sqrt();
        x.iter()
            .zip(&self.0[name].1)
            .map(|(x, w)| x / scale * w)
            .collect()
    }
}

fn rotate(head: &mut [f64], position: usize) {
    let half = head.len() / 2;
    for i in 0..half {
        let angle = position as f64 * 10_000f64.powf(-(i as f64) / half as f64);
        let (a, b) = (head[i], head[i + half]);
        head[i] = a * angle.cos() - b * angle.sin();
        head[i + half] = b * angle.cos() + a * angle.sin();
    }
}

fn softmax(x: &[f64]) -> Vec<f64> {
    let max = x.iter().copied().fold(f64::MIN, f64::max);
    let sum: f64 = x.iter().map(|x| (x - max).exp()).sum();
    x.iter().map(|x| (x - max).exp() / sum).collect()
}

fn capped(x: f64, cap: Option<f64>) -> f64 {
    cap.map_or(x, |cap| cap * (x / cap).tanh())
}

fn network(weights: &Weights, [gate, up, down]: [String; 3], x: &[f64]) -> Vec<f64> {
    let (gate, up) = (weights.apply(&gate, x), weights.apply(&up, x));
    let h: Vec<f64> = gate
        .iter()
        .zip(up)
        .map(|(g, u)| g / (1.0 + (-g).exp()) * u)
        .collect();
    weights.apply(&down, &h)
}

/// Every expert, multiplied by 0 where it was not chosen.
fn mixture(weights: &Weights, layer: usize, rule: Experts, x: &[f64]) -> Vec<f64> {
    let name = |part: &str| format!("model.layers.{layer}.block_sparse_moe.{part}");
    let logits = weights.apply(&name("gate.weight"), x);
    let level = |x: f64| match rule.gating {
        Gating::Softmax => x.exp(),
        Gating::Sigmoid => 1.0 / (1.0 + (-x).exp()),
    };
    let levels: Vec<f64> = logits.iter().map(|x| level(*x)).collect();
    let scores: Vec<f64> = match rule.selection {
        Selection::Logits => logits,
        Selection::Biased => {
            let sum = match rule.gating {
                Gating::Softmax => levels.iter().sum(),
                Gating::Sigmoid => 1.0,
            };
            let (_, bias) = &weights.0[&name("e_score_correction_bias")];
            levels.iter().zip(bias).map(|(p, bias)| p / sum + bias).collect()
        }
    };
    let chosen = |i: usize| scores.iter().filter(|score| **score > scores[i]).count() < rule.used;
    let total: f64 = (0..rule.count).filter(|i| chosen(*i)).map(|i| levels[i]).sum();
    let mut y = vec![0.0; x.len()];
    for (expert, level) in levels.iter().enumerate() {
        let gate = if chosen(expert) { level / total } else { 0.0 };
        let part = |matrix: &str| name(&format!("experts.{expert}.{matrix}.weight"));
        let out = network(weights, [part("w1"), part("w3"), part("w2")], x);
        y.iter_mut().zip(out).for_each(|(y, out)| *y += gate * out);
    }
    y
}

pub(crate) fn surprises(model: &TinyModel, tokens: &[u32]) -> Vec<f64> {
    let c = model.config();
    let to_f64 = |bytes: Vec<u8>| {
        bytes
            .chunks_exact(4)
            .map(|b| f64::from(f32::from_le_bytes(b.try_into().unwrap())))
            .collect()
    };
    let weights = Weights(
        model
            .hub_tensors()
            .into_iter()
            .map(|(n, s, b)| (n, (s, to_f64(b))))
            .collect(),
    );
    let embedding = "model.embed_tokens.weight";
    let head = match c.head {
        aion_llm::Head::Tied => embedding,
        aion_llm::Head::Untied => "lm_head.weight",
    };
    let mut xs: Vec<Vec<f64>> = tokens
        .iter()
        .map(|t| weights.row(embedding, *t as usize).to_vec())
        .collect();
    for layer in 0..c.n_layer {
        let name = |part: &str| format!("model.layers.{layer}.{part}.weight");
        let normed: Vec<_> = xs
            .iter()
            .map(|x| weights.norm(&name("input_layernorm"), x))
            .collect();
        let project = |part: &str, turned: bool| -> Vec<Vec<f64>> {
            let mut rows: Vec<_> = normed.iter().map(|x| weights.apply(&name(part), x)).collect();
            for (position, row) in rows.iter_mut().enumerate().filter(|_| turned) {
                row.chunks_exact_mut(c.head_dim)
                    .for_each(|head| rotate(head, position));
            }
            rows
        };
        let (q, k, v) = (
            project("self_attn.q_proj", true),
            project("self_attn.k_proj", true),
            project("self_attn.v_proj", false),
        );
        for position in 0..xs.len() {
            let mut mixed = vec![0.0; c.n_head * c.head_dim];
            for head in 0..c.n_head {
                let kv = head / (c.n_head / c.n_head_kv) * c.head_dim;
                let query = &q[position][head * c.head_dim..][..c.head_dim];
                let score = |at: usize| -> f64 {
                    let dot: f64 = query.iter().zip(&k[at][kv..]).map(|(q, k)| q * k).sum();
                    capped(dot / (c.head_dim as f64).sqrt(), c.attention_cap)
                };
                let seen = (position + 1).saturating_sub(c.window.unwrap_or(position + 1))..=position;
                let shares = softmax(&seen.clone().map(score).collect::<Vec<_>>());
                for (at, share) in seen.zip(shares) {
                    for i in 0..c.head_dim {
                        mixed[head * c.head_dim + i] += share * v[at][kv + i];
                    }
                }
            }
            let out = weights.apply(&name("self_attn.o_proj"), &mixed);
            xs[position].iter_mut().zip(out).for_each(|(x, y)| *x += y);
        }
        for x in &mut xs {
            let h = weights.norm(&name("post_attention_layernorm"), x);
            let y = match c.experts {
                None => network(
                    &weights,
                    [name("mlp.gate_proj"), name("mlp.up_proj"), name("mlp.down_proj")],
                    &h,
                ),
                Some(experts) => mixture(&weights, layer, experts, &h),
            };
            x.iter_mut().zip(y).for_each(|(x, y)| *x += y);
        }
    }
    let row = |(i, x): (usize, &Vec<f64>)| {
        let logits = weights.apply(head, &weights.norm("model.norm.weight", x));
        let logits: Vec<f64> = logits.into_iter().map(|x| capped(x, c.logit_cap)).collect();
        tokens
            .get(i + 1)
            .map(|next| -softmax(&logits)[*next as usize].ln())
    };
    xs.iter().enumerate().filter_map(row).collect()
}
