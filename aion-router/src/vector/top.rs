//! The best of many scores.

use std::cmp::Ordering;

use crate::sweep::at_least;

/// Scores that are compared to the same bar.
const BLOCK: usize = 256;

/// A slot with its score.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Found {
    /// The slot.
    pub slot: usize,
    /// Its score.
    pub score: f32,
}

/// The `k` best so far, unsorted until there are twice as many: then the worse half goes.
#[derive(Debug)]
pub(crate) struct Best {
    k: usize,
    found: Vec<Found>,
    /// What a score must reach to matter.
    bar: f32,
}

pub(crate) fn better_first(a: &Found, b: &Found) -> Ordering {
    b.score.total_cmp(&a.score).then(a.slot.cmp(&b.slot))
}

impl Best {
    pub(crate) fn new(k: usize) -> Self {
        let found = Vec::with_capacity(2 * k.min(1 << 16));
        Self {
            k,
            found,
            bar: f32::NEG_INFINITY,
        }
    }

    /// How many are wanted.
    pub(crate) const fn wanted(&self) -> usize {
        self.k
    }

    /// What a score must reach to matter; it rises.
    pub(crate) const fn bar(&self) -> f32 {
        self.bar
    }

    /// Raises the bar to the `k`-th best score now.
    pub(crate) fn raise(&mut self) {
        if self.k > 0 && self.found.len() >= self.k {
            self.cut();
        }
    }

    /// Looks at the scores of the slots from `from` on that are present.
    pub(crate) fn offer(&mut self, from: usize, scores: &[f32], present: &[bool]) {
        self.offer_where(from, scores, |slot| present[slot]);
    }

    /// Looks at the scores of all slots that have one above 0.
    pub(crate) fn offer_positive(&mut self, scores: &[f32]) {
        self.bar = f32::MIN_POSITIVE;
        self.offer_where(0, scores, |_| true);
    }

    fn offer_where(&mut self, from: usize, scores: &[f32], is_wanted: impl Fn(usize) -> bool) {
        if self.k == 0 {
            return;
        }
        let mut places = Vec::new();
        for (block, scores) in scores.chunks(BLOCK).enumerate() {
            places.clear();
            at_least(scores, self.bar, &mut places);
            for place in &places {
                let (slot, score) = (from + block * BLOCK + *place as usize, scores[*place as usize]);
                if score >= self.bar && is_wanted(slot) {
                    self.push(Found { slot, score });
                }
            }
        }
    }

    pub(crate) fn push(&mut self, found: Found) {
        if found.score < self.bar {
            return;
        }
        self.found.push(found);
        if self.found.len() >= 2 * self.k {
            self.cut();
        }
    }

    fn cut(&mut self) {
        self.found.select_nth_unstable_by(self.k - 1, better_first);
        self.found.truncate(self.k);
        self.bar = self.found[self.k - 1].score;
    }

    pub(crate) fn into_sorted(mut self) -> Vec<Found> {
        self.found.sort_unstable_by(better_first);
        self.found.truncate(self.k);
        self.found
    }
}
