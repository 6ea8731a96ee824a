//! A mixture of experts: rows are grouped by the experts that they chose, and the weights of an expert are read once for
//! all of its rows. Those of an expert that no row chose are not read.

use super::super::kernel::{Activations, BLOCK, XBlock};
use super::super::matrix::{Input, Product, multiply_all};
use super::super::model::{Mixture, Network};
use super::super::pool::{Pool, Split};
use super::{Pass, each_row, multiply};
use crate::experts::{Experts, Routed};

/// Buffers of a mixture.
#[derive(Debug, Default)]
pub(super) struct Scratch {
    /// Logits of the router, `[rows, experts]`.
    logits: Vec<f32>,
    /// Inputs of the experts, grouped, `[rows * used, n_embd]`.
    x: Vec<f32>,
    blocks: Vec<XBlock>,
    /// Their outputs.
    y: Vec<f32>,
}

impl Scratch {
    #[cfg(all(test, feature = "testkit"))]
    pub(super) fn bytes(&self) -> usize {
        let floats = self.logits.len() + self.x.len() + self.y.len();
        floats * size_of::<f32>() + self.blocks.len() * size_of::<XBlock>()
    }

    pub(super) fn make_room(&mut self, rule: Experts, rows: usize, width: usize) {
        let routed = rows * rule.used * width;
        for (buffer, len) in [
            (&mut self.logits, rows * rule.count),
            (&mut self.x, routed),
            (&mut self.y, routed),
        ] {
            if buffer.len() < len {
                buffer.resize(len, 0.0);
            }
        }
        if self.blocks.len() < routed / BLOCK {
            self.blocks.resize(routed / BLOCK, XBlock::default());
        }
    }
}

/// Which rows go where.
struct Routes {
    /// `[rows, used]`, the best first.
    routed: Vec<Routed>,
    /// Where each of them lies among those that are grouped by expert.
    places: Vec<usize>,
    /// The row of each grouped one.
    rows: Vec<usize>,
    groups: Vec<Group>,
}

/// The rows of one expert, among the grouped ones.
struct Group {
    expert: usize,
    start: usize,
    len: usize,
}

impl Routes {
    fn new(logits: &[f32], mixture: &Mixture) -> Self {
        let (rule, bias) = (mixture.rule, mixture.bias.as_deref());
        let routed: Vec<Routed> = logits
            .chunks_exact(rule.count)
            .flat_map(|logits| rule.route(logits, bias))
            .collect();
        let mut lens = vec![0; rule.count];
        routed.iter().for_each(|route| lens[route.expert] += 1);
        let (mut groups, mut next, mut start) = (Vec::new(), vec![0; rule.count], 0);
        for (expert, len) in lens.into_iter().enumerate().filter(|(_, len)| *len > 0) {
            groups.push(Group { expert, start, len });
            next[expert] = start;
            start += len;
        }
        let mut rows = vec![0; routed.len()];
        let place = |(i, route): (usize, &Routed)| {
            let place = next[route.expert];
            next[route.expert] += 1;
            rows[place] = i / rule.used;
            place
        };
        let places = routed.iter().enumerate().map(place).collect();
        Self {
            routed,
            places,
            rows,
            groups,
        }
    }
}

impl Pass<'_> {
    /// The experts of all rows, weighted, into `y`.
    pub(super) fn mixture(&self, pool: &mut Pool, s: &mut super::Scratch, mixture: &Mixture) {
        let (weights, n, d) = (self.weights, self.rows.len(), self.weights.config.n_embd);
        let logits = &mut s.mixture.logits;
        multiply(weights, &mixture.router, &s.normed, &s.blocks, n, logits, pool);
        let routes = Routes::new(&s.mixture.logits[..n * mixture.rule.count], mixture);
        gather(s, &routes, d);
        let own = &s.mixture;
        self.products(
            pool,
            (&routes, mixture),
            |expert| &expert.up,
            (&own.x, &own.blocks),
            &mut s.up,
        );
        let downs = routes
            .groups
            .iter()
            .map(|group| &mixture.experts[group.expert].down);
        self.activate(pool, s, routes.rows.len(), Input::of(downs));
        self.products(
            pool,
            (&routes, mixture),
            |expert| &expert.down,
            (&s.h, &s.blocks),
            &mut s.mixture.y,
        );
        self.combine(pool, s, &routes, mixture.rule.used);
    }

    /// One product of each expert that was chosen, with its rows.
    fn products(
        &self,
        pool: &mut Pool,
        (routes, mixture): (&Routes, &Mixture),
        part: impl Fn(&Network) -> &super::Linear,
        (floats, blocks): (&[f32], &[XBlock]),
        out: &mut [f32],
    ) {
        let Some(first) = routes.groups.first() else {
            return;
        };
        let linear = part(&mixture.experts[first.expert]);
        let (width, outputs) = (linear.inputs(), linear.outputs());
        let places: Vec<*mut f32> = out[..routes.rows.len() * outputs]
            .chunks_exact_mut(outputs)
            .map(<[f32]>::as_mut_ptr)
            .collect();
        let product = |group: &Group| Product {
            linear: part(&mixture.experts[group.expert]),
            x: Activations {
                floats: &floats[group.start * width..],
                blocks: &blocks[group.start * (width / BLOCK)..],
                rows: group.len,
                width,
            },
            out: &places[group.start..group.start + group.len],
        };
        let products: Vec<Product<'_>> = routes.groups.iter().map(product).collect();
        // SAFETY: each place is a row of `out`, which is borrowed for writing, and belongs to one group.
        unsafe { multiply_all(&products, self.weights.body, pool) };
    }

    /// The weighted sums, each in the order in which the row chose, whatever the experts' numbers are.
    fn combine(&self, pool: &mut Pool, s: &mut super::Scratch, routes: &Routes, used: usize) {
        let (n, d) = (self.rows.len(), self.weights.config.n_embd);
        let (sums, outputs) = (Split::new(&mut s.y[..n * d], d), &s.mixture.y);
        each_row(pool, n, &|row| {
            // SAFETY: each row once.
            let sum = unsafe { sums.piece(row) };
            sum.fill(0.0);
            for i in row * used..(row + 1) * used {
                let (gate, y) = (routes.routed[i].gate, &outputs[routes.places[i] * d..][..d]);
                sum.iter_mut().zip(y).for_each(|(sum, y)| *sum += gate * y);
            }
        });
    }
}

/// Copies the rows to where their experts' rows lie one after the other.
fn gather(s: &mut super::Scratch, routes: &Routes, d: usize) {
    let blocks = d / BLOCK;
    for (place, row) in routes.rows.iter().enumerate() {
        s.mixture.x[place * d..][..d].copy_from_slice(&s.normed[row * d..][..d]);
        s.mixture.blocks[place * blocks..][..blocks].copy_from_slice(&s.blocks[row * blocks..][..blocks]);
    }
}
