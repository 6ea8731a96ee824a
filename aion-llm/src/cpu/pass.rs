//! One pass over the weights for rows of several sequences.
#![allow(
    unsafe_code,
    reason = "threads write different rows and heads of the same buffers and pages"
)]

mod mixture;

use std::ops::Range;

use super::cache::PagedCache;
use super::kernel::{
    Activations, Attend, BLOCK, Cap, Gate, Norm, PAGE, Quantise, Rotate, SEGMENT, Square, StoreKeys,
    StoreValues, XBlock, dispatch, merge, partial_len,
};
use super::matrix::{Input, Linear, Product, multiply_all};
use super::model::{Engine, Ffn, Network, Weights};
use super::pool::{Pool, Split};
use crate::config::{FeedForward, ModelConfig};
use crate::model::{Output, Want};

/// What a pass does for one sequence.
#[derive(Debug)]
pub(crate) struct Sequence<'a> {
    pub(crate) tokens: &'a [u32],
    pub(crate) cache: &'a mut PagedCache,
    pub(crate) want: Want,
}

/// Rows that are computed together at most.
const MAX_ROWS: usize = 256;

/// Up to so many rows, threads share the segments of a row's attention; beyond, they share the rows.
const FEW_ROWS: usize = 16;

/// Multiplications below which attention is not worth a second thread.
const ALONE_BELOW: usize = 1 << 17;

/// Buffers of a pass, `rows` times the width of each.
#[derive(Debug, Default)]
pub(super) struct Scratch {
    x: Vec<f32>,
    normed: Vec<f32>,
    qkv: Vec<f32>,
    mixed: Vec<f32>,
    y: Vec<f32>,
    up: Vec<f32>,
    h: Vec<f32>,
    blocks: Vec<XBlock>,
    cos: Vec<f32>,
    sin: Vec<f32>,
    partials: Vec<f32>,
    mixture: mixture::Scratch,
}

/// One row: which of the open caches it belongs to, and where it stands.
#[derive(Debug, Clone, Copy)]
struct Row {
    cache: usize,
    token: u32,
    position: usize,
}

impl Row {
    /// The first position that it sees.
    fn first(&self, window: Option<usize>) -> usize {
        (self.position + 1).saturating_sub(window.unwrap_or(usize::MAX))
    }

    /// The segments of what it sees.
    fn segments(&self, window: Option<usize>) -> Range<usize> {
        self.first(window) / SEGMENT..(self.position + 1).div_ceil(SEGMENT)
    }
}

/// Some tokens of one sequence.
struct Part {
    sequence: usize,
    start: usize,
    end: usize,
}

/// Where the pages of a cache begin.
struct Pages(Vec<*mut u8>);

// SAFETY: rows of the same pass write different positions, and reading begins when all have written.
unsafe impl Sync for Pages {}

impl Weights {
    pub(super) fn run(&self, engine: &mut Engine, sequences: &mut [Sequence<'_>]) -> Vec<Output> {
        let mut outputs: Vec<Output> = sequences.iter().map(|_| Output::default()).collect();
        let lens: Vec<usize> = sequences.iter().map(|sequence| sequence.tokens.len()).collect();
        for parts in passes(&lens, MAX_ROWS) {
            self.pass(engine, sequences, &parts, &mut outputs);
        }
        outputs
    }

    fn pass(
        &self,
        engine: &mut Engine,
        sequences: &mut [Sequence<'_>],
        parts: &[Part],
        outputs: &mut [Output],
    ) {
        let (mut rows, mut pages) = (Vec::new(), Vec::new());
        for part in parts {
            let sequence = &mut sequences[part.sequence];
            assert!(sequence.cache.is_of(self.pages), "a cache of another model");
            let (tokens, start) = (&sequence.tokens[part.start..part.end], sequence.cache.len());
            rows.extend(tokens.iter().enumerate().map(|(i, token)| Row {
                cache: pages.len(),
                token: *token,
                position: start + i,
            }));
            pages.push(Pages(sequence.cache.open(tokens.len())));
        }
        let page_bytes = sequences
            .first()
            .map_or(0, |sequence| sequence.cache.page_bytes());
        let pass = Pass {
            weights: self,
            rows: &rows,
            pages: &pages,
            page_bytes,
        };
        engine.scratch.make_room(self, &rows);
        pass.blocks(engine);
        for part in parts {
            sequences[part.sequence].cache.advance(part.end - part.start);
        }
        pass.outputs(engine, sequences, parts, outputs);
    }
}

/// Cuts the tokens of all sequences into passes of at most `most` rows.
fn passes(lens: &[usize], most: usize) -> Vec<Vec<Part>> {
    let (mut passes, mut now, mut room) = (Vec::new(), Vec::new(), most);
    for (sequence, len) in lens.iter().enumerate() {
        let mut start = 0;
        while start < *len {
            let end = (*len).min(start + room);
            now.push(Part { sequence, start, end });
            room -= end - start;
            start = end;
            if room == 0 {
                passes.push(std::mem::take(&mut now));
                room = most;
            }
        }
    }
    if !now.is_empty() {
        passes.push(now);
    }
    passes
}

/// Bytes of the buffers of a pass of so many rows, before there are any: no more than [`MAX_ROWS`] run together.
pub(super) fn scratch_bytes(c: &ModelConfig, rows: usize) -> usize {
    let product = |sizes: &[usize]| sizes.iter().fold(1usize, |all, n| all.saturating_mul(*n));
    let (rows, d, q) = (rows.clamp(1, MAX_ROWS), c.n_embd, c.q_width());
    let used = c.experts.map_or(1, |experts| experts.used);
    let hidden = product(&[used, c.n_ff]);
    let partials = product(&[2, c.n_head, partial_len(c.head_dim.next_multiple_of(16))]);
    let experts = c
        .experts
        .map_or(0, |experts| product(&[2, used, d]).saturating_add(experts.count));
    let floats = [
        product(&[3, d]),
        product(&[2, q]),
        product(&[2, c.kv_width()]),
        product(&[3, hidden]),
        c.head_dim,
        partials,
        experts,
    ];
    let floats = floats.iter().fold(0usize, |all, n| all.saturating_add(*n));
    let routed = if c.experts.is_some() {
        product(&[used, d])
    } else {
        0
    };
    let blocks = (d.max(q).max(hidden).saturating_add(routed)) / BLOCK;
    let row = product(&[floats, size_of::<f32>()]).saturating_add(product(&[blocks, size_of::<XBlock>()]));
    row.saturating_mul(rows)
}

impl Scratch {
    #[cfg(all(test, feature = "testkit"))]
    pub(super) fn bytes(&self) -> usize {
        let floats = [
            &self.x,
            &self.normed,
            &self.qkv,
            &self.mixed,
            &self.y,
            &self.up,
            &self.h,
            &self.cos,
            &self.sin,
            &self.partials,
        ];
        let floats: usize = floats.iter().map(|buffer| buffer.len()).sum();
        floats * size_of::<f32>() + self.blocks.len() * size_of::<XBlock>() + self.mixture.bytes()
    }

    fn make_room(&mut self, weights: &Weights, rows: &[Row]) {
        let c = &weights.config;
        let n = rows.len();
        let (d, q, kv) = (c.n_embd, c.q_width(), c.kv_width());
        let segments = segments_kept(rows, c.window);
        // Rows that go through a feed-forward network.
        let routed = n * c.experts.map_or(1, |experts| experts.used);
        for (buffer, len) in [
            (&mut self.x, n * d),
            (&mut self.normed, n * d),
            (&mut self.qkv, n * (q + 2 * kv)),
            (&mut self.mixed, n * q),
            (&mut self.y, n * d),
            (&mut self.up, routed * 2 * c.n_ff),
            (&mut self.h, routed * c.n_ff),
            (&mut self.cos, n * c.head_dim / 2),
            (&mut self.sin, n * c.head_dim / 2),
            (
                &mut self.partials,
                n * segments * c.n_head * partial_len(weights.pages.padded_dim),
            ),
        ] {
            if buffer.len() < len {
                buffer.resize(len, 0.0);
            }
        }
        let blocks = (n * d.max(q)).max(routed * c.n_ff) / BLOCK;
        if self.blocks.len() < blocks {
            self.blocks.resize(blocks, XBlock::default());
        }
        if let Some(experts) = c.experts {
            self.mixture.make_room(experts, n, d);
        }
    }
}

/// How many segments of each row are kept at once.
fn segments_kept(rows: &[Row], window: Option<usize>) -> usize {
    if rows.len() > FEW_ROWS {
        return 2;
    }
    let of_each = rows.iter().map(|row| row.segments(window).len());
    of_each.max().unwrap_or(1)
}

/// What waits to be added to the residual stream.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Before {
    Nothing,
    Product,
}

struct Pass<'a> {
    weights: &'a Weights,
    rows: &'a [Row],
    pages: &'a [Pages],
    page_bytes: usize,
}

/// Calls `job` for each row, on several threads when there are many.
fn each_row(pool: &mut Pool, n: usize, job: &(dyn Fn(usize) + Sync)) {
    if n <= 2 {
        (0..n).for_each(job);
    } else {
        let step = n.div_ceil(4 * pool.threads());
        pool.run(n.div_ceil(step), &|chunk| {
            (chunk * step..n.min((chunk + 1) * step)).for_each(job);
        });
    }
}

impl Pass<'_> {
    /// From tokens to the hidden states after the last block.
    fn blocks(&self, engine: &mut Engine) {
        let (n, d) = (self.rows.len(), self.weights.config.n_embd);
        self.begin(&mut engine.scratch);
        for (i, block) in self.weights.blocks.iter().enumerate() {
            let Engine { pool, scratch } = &mut *engine;
            let before = if i == 0 { Before::Nothing } else { Before::Product };
            self.enter(pool, scratch, before, &block.attn_norm, block.qkv.input());
            multiply(
                self.weights,
                &block.qkv,
                &scratch.normed,
                &scratch.blocks,
                n,
                &mut scratch.qkv,
                pool,
            );
            self.remember(pool, scratch, i);
            self.attend(pool, scratch, i);
            multiply(
                self.weights,
                &block.out,
                &scratch.mixed,
                &scratch.blocks,
                n,
                &mut scratch.y,
                pool,
            );
            self.enter(pool, scratch, Before::Product, &block.ffn_norm, block.ffn.input());
            match &block.ffn {
                Ffn::One(network) => self.network(pool, scratch, network),
                Ffn::Mixture(mixture) => self.mixture(pool, scratch, mixture),
            }
        }
        let Scratch { x, y, .. } = &mut engine.scratch;
        x[..n * d].iter_mut().zip(&y[..n * d]).for_each(|(x, y)| *x += y);
    }

    /// The feed-forward network of all rows.
    fn network(&self, pool: &mut Pool, s: &mut Scratch, network: &Network) {
        let (weights, n) = (self.weights, self.rows.len());
        multiply(weights, &network.up, &s.normed, &s.blocks, n, &mut s.up, pool);
        self.activate(pool, s, n, network.down.input());
        multiply(weights, &network.down, &s.h, &s.blocks, n, &mut s.y, pool);
    }

    /// Embeddings of the tokens, and the angles of their positions.
    fn begin(&self, scratch: &mut Scratch) {
        let (d, half) = (self.weights.config.n_embd, self.weights.frequencies.len());
        for (i, row) in self.rows.iter().enumerate() {
            let embedding = self.weights.embedding.part(0);
            embedding.row(row.token as usize, &mut scratch.x[i * d..(i + 1) * d]);
            for (j, frequency) in self.weights.frequencies.iter().enumerate() {
                let (sin, cos) = (row.position as f64 * frequency).sin_cos();
                (scratch.sin[i * half + j], scratch.cos[i * half + j]) = (sin as f32, cos as f32);
            }
        }
    }

    /// Adds the last product to the residual stream, normalises, and makes bytes.
    fn enter(&self, pool: &mut Pool, s: &mut Scratch, before: Before, weight: &[f32], next: Input) {
        let (n, d, body) = (self.rows.len(), self.weights.config.n_embd, self.weights.body);
        let (x, normed) = (
            Split::new(&mut s.x[..n * d], d),
            Split::new(&mut s.normed[..n * d], d),
        );
        let blocks = Split::new(&mut s.blocks, d / BLOCK);
        let (y, eps) = (&s.y, self.weights.config.norm_eps as f32);
        each_row(pool, n, &|row| {
            // SAFETY: each row once.
            let (x, out) = unsafe { (x.piece(row), normed.piece(row)) };
            if before == Before::Product {
                x.iter_mut().zip(&y[row * d..]).for_each(|(x, y)| *x += y);
            }
            dispatch(body, Norm { x, weight, eps, out });
            if next == Input::Bytes {
                // SAFETY: each row once.
                let blocks = unsafe { blocks.piece(row) };
                dispatch(body, Quantise { x: out, out: blocks });
            }
        });
    }

    /// Turns queries and keys, and writes keys and values to the pages.
    fn remember(&self, pool: &mut Pool, s: &mut Scratch, layer: usize) {
        let c = &self.weights.config;
        let (n, q, kv, dim) = (self.rows.len(), c.q_width(), c.kv_width(), c.head_dim);
        let width = q + 2 * kv;
        let qkv = Split::new(&mut s.qkv[..n * width], width);
        let (cos, sin, half) = (&s.cos, &s.sin, dim / 2);
        each_row(pool, n, &|i| {
            // SAFETY: each row once.
            let (turned, values) = unsafe { qkv.piece(i) }.split_at_mut(q + kv);
            let angles = i * half..(i + 1) * half;
            let (cos, sin) = (&cos[angles.clone()], &sin[angles]);
            dispatch(
                self.weights.body,
                Rotate {
                    heads: turned,
                    cos,
                    sin,
                },
            );
            let heads = turned[q..].chunks_exact(dim).zip(values.chunks_exact(dim));
            for (head, (key, value)) in heads.enumerate() {
                self.store(layer, head, &self.rows[i], key, value);
            }
        });
    }

    fn store(&self, layer: usize, head: usize, row: &Row, key: &[f32], value: &[f32]) {
        let (shape, body) = (&self.weights.pages, self.weights.body);
        let page = self.pages[row.cache].0[row.position / PAGE];
        let keys = shape.keys(layer, head);
        let mut put = |i: usize, half: u16| {
            // SAFETY: within the page, whose positions from the cache's length on belong to this pass; one row writes
            // this position.
            let place = unsafe { page.add(keys + shape.key_element(row.position, i)) }.cast::<u16>();
            // SAFETY: as above.
            unsafe { place.write_unaligned(half.to_le()) };
        };
        dispatch(
            body,
            StoreKeys {
                row: key,
                put: &mut put,
            },
        );
        let values = shape.values(layer, head) + shape.value_row(row.position);
        // SAFETY: as above; the row's values are a range of their own.
        let out = unsafe { std::slice::from_raw_parts_mut(page.add(values), 2 * shape.padded_dim) };
        dispatch(body, StoreValues { row: value, out });
    }

    /// Attention of all rows, mixed values of all heads, and their bytes.
    fn attend(&self, pool: &mut Pool, s: &mut Scratch, layer: usize) {
        let c = &self.weights.config;
        let (n, kv, group) = (self.rows.len(), c.n_head_kv, c.n_head / c.n_head_kv);
        let part = group * partial_len(self.weights.pages.padded_dim);
        let kept = segments_kept(self.rows, c.window);
        let queries = Queries {
            values: &s.qkv,
            width: c.q_width() + 2 * c.kv_width(),
            group: group * c.head_dim,
        };
        let partials = Split::new(&mut s.partials[..n * kv * kept * part], part);
        let of_segment = |row: usize, head: usize, segment: usize, out: usize| {
            // SAFETY: each part is written by one task, and merged by the one that wrote it or after all have.
            let out = unsafe { partials.piece((row * kv + head) * kept + out) };
            self.segment(layer, row, head, segment, queries.of(row, head), out);
        };
        if n <= FEW_ROWS {
            let tasks: Vec<(usize, usize, usize)> = self.segments(kv).collect();
            let seen = |row: &Row| row.position + 1 - row.first(c.window);
            let total: usize = self.rows.iter().map(|row| seen(row) * c.q_width()).sum();
            let job = |i: usize| {
                let (row, head, segment) = tasks[i];
                let first = self.rows[row].segments(c.window).start;
                of_segment(row, head, segment, segment - first);
            };
            if total < ALONE_BELOW {
                (0..tasks.len()).for_each(job);
            } else {
                pool.run(tasks.len(), &job);
            }
        } else {
            pool.run(n * kv, &|task| {
                let (head, row) = (task / n, task % n);
                let segments = self.rows[row].segments(c.window);
                of_segment(row, head, segments.start, 0);
                for segment in segments.skip(1) {
                    of_segment(row, head, segment, 1);
                    let first = (row * kv + head) * kept;
                    // SAFETY: this task alone has both.
                    let (into, from) = unsafe { (partials.piece(first), partials.piece(first + 1)) };
                    self.join(into, from);
                }
            });
        }
        self.mix(pool, s, layer, (kept, part));
    }

    /// All segments of all heads of all rows.
    fn segments(&self, kv: usize) -> impl Iterator<Item = (usize, usize, usize)> {
        let window = self.weights.config.window;
        let of_row = move |(i, row): (usize, &Row)| {
            let segments = row.segments(window);
            (0..kv).flat_map(move |head| segments.clone().map(move |segment| (i, head, segment)))
        };
        self.rows.iter().enumerate().flat_map(of_row)
    }

    fn segment(
        &self,
        layer: usize,
        row: usize,
        head: usize,
        segment: usize,
        queries: &[f32],
        out: &mut [f32],
    ) {
        let (c, shape, row) = (&self.weights.config, &self.weights.pages, &self.rows[row]);
        let pages = &self.pages[row.cache].0;
        let (start, end) = (segment * SEGMENT, (row.position + 1).min((segment + 1) * SEGMENT));
        let first = start / PAGE;
        let mut views: [&[u8]; SEGMENT / PAGE] = [&[]; SEGMENT / PAGE];
        for (view, page) in views.iter_mut().zip(&pages[first..]) {
            // SAFETY: a whole page; nobody writes to pages until the next layer, and this layer's part not at all.
            *view = unsafe { std::slice::from_raw_parts(*page, self.page_bytes) };
        }
        let work = Attend {
            pages: &views,
            keys: shape.keys(layer, head),
            values: shape.values(layer, head),
            queries,
            head_dim: c.head_dim,
            padded_dim: shape.padded_dim,
            scale: (c.head_dim as f32).sqrt().recip(),
            cap: c.attention_cap.map(|cap| cap as f32),
            first: row.first(c.window).saturating_sub(start),
            positions: end - start,
            out,
        };
        dispatch(self.weights.body, work);
    }

    /// Joins a later segment's heads into an earlier one's.
    fn join(&self, into: &mut [f32], from: &[f32]) {
        let len = partial_len(self.weights.pages.padded_dim);
        for (into, from) in into.chunks_exact_mut(len).zip(from.chunks_exact(len)) {
            merge(into, from);
        }
    }

    /// The weighted means from the parts of all segments, and their bytes.
    fn mix(&self, pool: &mut Pool, s: &mut Scratch, layer: usize, (kept, part): (usize, usize)) {
        let c = &self.weights.config;
        let (n, q, kv, dim) = (self.rows.len(), c.q_width(), c.n_head_kv, c.head_dim);
        let per_row = kv * kept * part;
        let partials = Split::new(&mut s.partials[..n * per_row], per_row);
        let mixed = Split::new(&mut s.mixed[..n * q], q);
        let blocks = Split::new(&mut s.blocks, q / BLOCK);
        let next = self.weights.blocks[layer].out.input();
        each_row(pool, n, &|row| {
            // SAFETY: each row once.
            let (partials, mixed) = unsafe { (partials.piece(row), mixed.piece(row)) };
            let segments = self.rows[row].segments(c.window).len();
            let len = partial_len(self.weights.pages.padded_dim);
            for (head, out) in partials
                .chunks_exact_mut(kept * part)
                .zip(mixed.chunks_exact_mut(part / len * dim))
            {
                let (first, rest) = head.split_at_mut(part);
                if n <= FEW_ROWS {
                    rest.chunks_exact(part)
                        .take(segments - 1)
                        .for_each(|from| self.join(first, from));
                }
                for (head, out) in first.chunks_exact(len).zip(out.chunks_exact_mut(dim)) {
                    let scale = 1.0 / head[1];
                    out.iter_mut()
                        .zip(&head[2..])
                        .for_each(|(out, x)| *out = x * scale);
                }
            }
            if next == Input::Bytes {
                // SAFETY: each row once.
                let out = unsafe { blocks.piece(row) };
                dispatch(self.weights.body, Quantise { x: mixed, out });
            }
        });
    }

    /// A feed-forward network between its two products, of `n` rows.
    fn activate(&self, pool: &mut Pool, s: &mut Scratch, n: usize, next: Input) {
        let (ff, body) = (self.weights.config.n_ff, self.weights.body);
        let width = match self.weights.config.feed_forward {
            FeedForward::SwiGlu => 2 * ff,
            FeedForward::ReluSquared => ff,
        };
        let h = Split::new(&mut s.h[..n * ff], ff);
        let blocks = Split::new(&mut s.blocks, ff / BLOCK);
        let up = &s.up;
        each_row(pool, n, &|row| {
            let up = &up[row * width..(row + 1) * width];
            // SAFETY: each row once.
            let out = unsafe { h.piece(row) };
            match self.weights.config.feed_forward {
                FeedForward::SwiGlu => {
                    let (gate, up) = up.split_at(ff);
                    dispatch(body, Gate { gate, up, out });
                }
                FeedForward::ReluSquared => dispatch(body, Square { x: up, out }),
            }
            if next == Input::Bytes {
                // SAFETY: each row once.
                let blocks = unsafe { blocks.piece(row) };
                dispatch(body, Quantise { x: out, out: blocks });
            }
        });
    }

    /// Hidden states or logits of the rows that are wanted.
    fn outputs(
        &self,
        engine: &mut Engine,
        sequences: &[Sequence<'_>],
        parts: &[Part],
        outputs: &mut [Output],
    ) {
        let (d, vocab) = (self.weights.config.n_embd, self.weights.config.vocab_size);
        let (mut row, mut heads) = (0, Vec::new());
        for part in parts {
            let sequence = &sequences[part.sequence];
            let rows = row..row + part.end - part.start;
            row = rows.end;
            let out = &mut outputs[part.sequence].values;
            match sequence.want {
                Want::Nothing => {}
                Want::Hidden => rows.for_each(|row| {
                    let start = out.len();
                    out.resize(start + d, 0.0);
                    self.normalise(&engine.scratch.x, row, &mut out[start..]);
                }),
                Want::LastLogits if part.end < sequence.tokens.len() => {}
                Want::LastLogits => heads.push((part.sequence, rows.end - 1..rows.end)),
                Want::AllLogits => heads.push((part.sequence, rows)),
            }
        }
        let (mut wanted, mut places) = (Vec::new(), Vec::new());
        for (sequence, rows) in heads {
            let out = &mut outputs[sequence].values;
            let start = out.len();
            out.resize(start + rows.len() * vocab, 0.0);
            places.extend(out[start..].chunks_exact_mut(vocab).map(<[f32]>::as_mut_ptr));
            wanted.extend(rows);
        }
        if !wanted.is_empty() {
            self.logits(engine, &wanted, &places);
        }
    }

    fn normalise(&self, x: &[f32], row: usize, out: &mut [f32]) {
        let d = self.weights.config.n_embd;
        let work = Norm {
            x: &x[row * d..(row + 1) * d],
            weight: &self.weights.norm,
            eps: self.weights.config.norm_eps as f32,
            out,
        };
        dispatch(self.weights.body, work);
    }

    fn logits(&self, engine: &mut Engine, wanted: &[usize], places: &[*mut f32]) {
        let d = self.weights.config.n_embd;
        let Engine { pool, scratch: s } = engine;
        let head = self.weights.head();
        for (i, row) in wanted.iter().enumerate() {
            let out = &mut s.normed[i * d..(i + 1) * d];
            self.normalise(&s.x, *row, out);
            if head.input() == Input::Bytes {
                let blocks = &mut s.blocks[i * d / BLOCK..(i + 1) * d / BLOCK];
                dispatch(self.weights.body, Quantise { x: out, out: blocks });
            }
        }
        let x = Activations {
            floats: &s.normed,
            blocks: &s.blocks,
            rows: wanted.len(),
            width: d,
        };
        let (body, out, vocab) = (self.weights.body, places, self.weights.config.vocab_size);
        // SAFETY: each place is a row of an output, as long as the vocabulary, of which no other reference is in use.
        unsafe { multiply_all(&[Product { linear: head, x, out }], body, pool) };
        let Some(cap) = self.weights.config.logit_cap else {
            return;
        };
        for place in places {
            // SAFETY: as above; the products are done.
            let x = unsafe { std::slice::from_raw_parts_mut(*place, vocab) };
            dispatch(body, Cap { x, cap: cap as f32 });
        }
    }
}

/// Products of `n` rows into a buffer.
fn multiply(
    weights: &Weights,
    linear: &Linear,
    floats: &[f32],
    blocks: &[XBlock],
    n: usize,
    out: &mut [f32],
    pool: &mut Pool,
) {
    let width = linear.outputs();
    let places: Vec<*mut f32> = out[..n * width]
        .chunks_exact_mut(width)
        .map(<[f32]>::as_mut_ptr)
        .collect();
    let x = Activations {
        floats,
        blocks,
        rows: n,
        width: linear.inputs(),
    };
    let out = &places;
    // SAFETY: each place is a row of `out`, which is borrowed for writing.
    unsafe { multiply_all(&[Product { linear, x, out }], weights.body, pool) };
}

/// Queries of a pass, within the rows of the joint product.
struct Queries<'a> {
    values: &'a [f32],
    width: usize,
    group: usize,
}

impl Queries<'_> {
    fn of(&self, row: usize, head: usize) -> &[f32] {
        &self.values[row * self.width + head * self.group..][..self.group]
    }
}
