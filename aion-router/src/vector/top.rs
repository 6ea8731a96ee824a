//! The best of many scores.

use std::cmp::Ordering;

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

    /// Looks at the scores of the slots from `from` on that are present.
    pub(crate) fn offer(&mut self, from: usize, scores: &[f32], present: &[bool]) {
        if self.k > 0 {
            self.offer_where(from, scores, |slot| present[slot], |_, score| score);
        }
    }

    /// Looks at the slots from `from` on that are present by what their score is at most, and at its `score` where
    /// that matters.
    pub(crate) fn offer_at_most(
        &mut self,
        from: usize,
        bounds: &[f32],
        present: &[bool],
        score: impl Fn(usize) -> f32,
    ) {
        if self.k > 0 {
            self.offer_where(from, bounds, |slot| present[slot], |slot, _| score(slot));
        }
    }

    fn offer_where(
        &mut self,
        from: usize,
        scores: &[f32],
        is_wanted: impl Fn(usize) -> bool,
        exact: impl Fn(usize, f32) -> f32,
    ) {
        for (block, chunk) in scores.chunks(16).enumerate() {
            // One comparison for sixteen scores that are mostly too low.
            let most = chunk.iter().fold(
                f32::NEG_INFINITY,
                |most, score| if *score > most { *score } else { most },
            );
            if most < self.bar {
                continue;
            }
            for (i, score) in chunk.iter().enumerate() {
                let slot = from + block * 16 + i;
                if *score >= self.bar && is_wanted(slot) {
                    let score = exact(slot, *score);
                    if score >= self.bar {
                        self.push(Found { slot, score });
                    }
                }
            }
        }
    }

    /// Looks at the scores of all slots that have one above 0.
    pub(crate) fn offer_positive(&mut self, scores: &[f32]) {
        self.bar = f32::MIN_POSITIVE;
        if self.k > 0 {
            self.offer_where(0, scores, |_| true, |_, score| score);
        }
    }

    pub(crate) fn push(&mut self, found: Found) {
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
