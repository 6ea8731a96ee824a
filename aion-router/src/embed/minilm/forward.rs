//! The encoder: tokens in, one vector a text out.
#![allow(
    unsafe_code,
    reason = "the same body is compiled for each level of the processor, called behind a check"
)]

use super::config::Config;
use super::math;
use super::weights::{Layer, LayerNorm, Weights};
use crate::error::Result;
use crate::vector::Level;

#[derive(Debug)]
pub(super) struct Encoder {
    config: Config,
    weights: Weights,
    level: Level,
}

/// What a pass through the layers works on, by rows of tokens.
struct Rows {
    /// Where each text starts, and the end of the last.
    starts: Vec<usize>,
    hidden: Vec<f32>,
    qkv: Vec<f32>,
    attended: Vec<f32>,
    projected: Vec<f32>,
    inner: Vec<f32>,
    scores: Vec<f32>,
}

impl Encoder {
    pub(super) fn new(config: Config, tensors: &[u8]) -> Result<Self> {
        let weights = Weights::read(&config, tensors)?;
        let level = Level::best();
        Ok(Self {
            config,
            weights,
            level,
        })
    }

    pub(super) const fn config(&self) -> &Config {
        &self.config
    }

    /// The means of the last layer over the tokens of each text, scaled to length 1.
    pub(super) fn embed(&self, texts: &[Vec<u32>], out: &mut [f32]) {
        match self.level {
            #[cfg(target_arch = "x86_64")]
            // SAFETY: the processor has the instructions.
            Level::Avx512 => unsafe { embed_avx512(self, texts, out) },
            #[cfg(target_arch = "x86_64")]
            // SAFETY: the processor has the instructions.
            Level::Avx2 => unsafe { embed_avx2(self, texts, out) },
            _ => self.embed_body(texts, out),
        }
    }

    #[inline(always)]
    fn embed_body(&self, texts: &[Vec<u32>], out: &mut [f32]) {
        let mut rows = Rows::new(&self.config, texts);
        self.look_up(texts, &mut rows);
        for layer in &self.weights.layers {
            self.attention(layer, &mut rows);
            self.feed_forward(layer, &mut rows);
        }
        let width = self.config.hidden_size;
        for (text, vector) in out.chunks_exact_mut(width).enumerate() {
            let of_text = &rows.hidden[rows.starts[text] * width..rows.starts[text + 1] * width];
            mean_to_unit(of_text, vector);
        }
    }

    #[inline(always)]
    fn look_up(&self, texts: &[Vec<u32>], rows: &mut Rows) {
        let width = self.config.hidden_size;
        let positions = texts.iter().flat_map(|text| text.iter().enumerate());
        for ((position, token), row) in positions.zip(rows.hidden.chunks_exact_mut(width)) {
            row.copy_from_slice(&self.weights.words[*token as usize * width..][..width]);
            let position = &self.weights.positions[position * width..][..width];
            self.norm(row, position, &self.weights.embedding_norm);
        }
    }

    #[inline(always)]
    fn norm(&self, row: &mut [f32], residual: &[f32], norm: &LayerNorm) {
        math::add_norm(row, residual, &norm.gain, &norm.bias, self.config.layer_norm_eps);
    }

    #[inline(always)]
    fn attention(&self, layer: &Layer, rows: &mut Rows) {
        let qkv = &layer.qkv;
        qkv.weight
            .multiply(self.level, &rows.hidden, &qkv.bias, &mut rows.qkv);
        for text in 0..rows.starts.len() - 1 {
            for head in 0..self.config.num_attention_heads {
                self.attend(rows, text, head);
            }
        }
        let Rows {
            attended,
            projected,
            hidden,
            ..
        } = rows;
        layer
            .attended
            .weight
            .multiply(self.level, attended, &layer.attended.bias, projected);
        self.add_back(projected, hidden, &layer.attention_norm);
    }

    /// One head over one text.
    #[inline(always)]
    fn attend(&self, rows: &mut Rows, text: usize, head: usize) {
        let (width, dim) = (self.config.hidden_size, self.config.head_dim());
        let (from, to) = (rows.starts[text], rows.starts[text + 1]);
        let at = |row: usize, part: usize| row * 3 * width + part * width + head * dim;
        let scores = &mut rows.scores[..to - from];
        for query in from..to {
            let q = &rows.qkv[at(query, 0)..][..dim];
            for (key, score) in (from..to).zip(scores.iter_mut()) {
                *score = math::dot(q, &rows.qkv[at(key, 1)..][..dim]);
            }
            math::softmax(scores);
            let sum = &mut rows.attended[query * width + head * dim..][..dim];
            sum.fill(0.0);
            for (value, p) in (from..to).zip(scores.iter()) {
                let v = &rows.qkv[at(value, 2)..][..dim];
                sum.iter_mut().zip(v).for_each(|(sum, v)| *sum += p * v);
            }
        }
    }

    #[inline(always)]
    fn feed_forward(&self, layer: &Layer, rows: &mut Rows) {
        let Rows {
            inner,
            projected,
            hidden,
            ..
        } = rows;
        layer
            .up
            .weight
            .multiply(self.level, hidden, &layer.up.bias, inner);
        inner.iter_mut().for_each(|x| *x = math::gelu(*x));
        layer
            .down
            .weight
            .multiply(self.level, inner, &layer.down.bias, projected);
        self.add_back(projected, hidden, &layer.output_norm);
    }

    /// `hidden <- norm(projected + hidden)`.
    #[inline(always)]
    fn add_back(&self, projected: &mut [f32], hidden: &mut [f32], norm: &LayerNorm) {
        let width = self.config.hidden_size;
        for (row, residual) in projected.chunks_exact_mut(width).zip(hidden.chunks_exact(width)) {
            self.norm(row, residual, norm);
        }
        hidden.copy_from_slice(projected);
    }
}

#[cfg(target_arch = "x86_64")]
#[target_feature(enable = "avx512f,avx512bw,avx512vl,avx2,fma")]
unsafe fn embed_avx512(encoder: &Encoder, texts: &[Vec<u32>], out: &mut [f32]) {
    encoder.embed_body(texts, out);
}

#[cfg(target_arch = "x86_64")]
#[target_feature(enable = "avx2,fma")]
unsafe fn embed_avx2(encoder: &Encoder, texts: &[Vec<u32>], out: &mut [f32]) {
    encoder.embed_body(texts, out);
}

impl Rows {
    fn new(config: &Config, texts: &[Vec<u32>]) -> Self {
        let mut starts = vec![0];
        for text in texts {
            starts.push(starts[starts.len() - 1] + text.len());
        }
        let rows = starts[starts.len() - 1];
        let longest = texts.iter().map(Vec::len).max().unwrap_or(0);
        let width = config.hidden_size;
        Self {
            starts,
            hidden: vec![0.0; rows * width],
            qkv: vec![0.0; rows * 3 * width],
            attended: vec![0.0; rows * width],
            projected: vec![0.0; rows * width],
            inner: vec![0.0; rows * config.intermediate_size],
            scores: vec![0.0; longest],
        }
    }
}

#[inline(always)]
fn mean_to_unit(rows: &[f32], vector: &mut [f32]) {
    vector.fill(0.0);
    for row in rows.chunks_exact(vector.len()) {
        vector.iter_mut().zip(row).for_each(|(sum, x)| *sum += x);
    }
    let length = math::dot(vector, vector).sqrt();
    if length > 0.0 {
        vector.iter_mut().for_each(|x| *x /= length);
    }
}
