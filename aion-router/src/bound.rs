//! What was used, by the places of the catalog.

use std::sync::OnceLock;

use crate::packed::Packed;

/// Fewer uses than this are seldom.
const SELDOM: usize = 16;

/// The history of one surface by slot.
#[derive(Debug, Clone, Default)]
pub(crate) struct Bound {
    /// Descriptions with what used them, of the items that were used.
    pub(crate) usage: Packed,
    uses: Vec<u32>,
    total: u64,
    /// What follows from the uses alone, made when it is first asked for.
    counted: OnceLock<Counted>,
}

/// Columns by slot.
#[derive(Debug, Clone)]
pub(crate) struct Counted {
    /// `1 / (1 + uses)` for items that somebody vouches for, else 0.
    pub(crate) newness: Vec<f32>,
    /// `log2(1 + uses)`; an item that somebody vouches for begins as often used as the mean of the used ones, and
    /// that weighs less with every use.
    pub(crate) popularity: Vec<f32>,
}

impl Bound {
    /// Whether anything of it was ever used.
    pub(crate) const fn is_used(&self) -> bool {
        self.total > 0
    }

    pub(crate) fn set_uses(&mut self, slot: usize, uses: u32) {
        self.counted.take();
        if self.uses.len() <= slot {
            self.uses.resize(slot + 1, 0);
        }
        self.total = self.total + u64::from(uses) - u64::from(self.uses[slot]);
        self.uses[slot] = uses;
    }

    pub(crate) fn clear(&mut self, slot: usize) {
        self.usage.clear(slot);
        if slot < self.uses.len() {
            self.set_uses(slot, 0);
        }
    }

    /// What follows from the uses, given for whom nobody vouches. Whoever changes that sets the uses again.
    pub(crate) fn counted(&self, unverified: &[bool]) -> &Counted {
        self.counted.get_or_init(|| Counted {
            newness: self.newness(unverified),
            popularity: self.popularity(unverified),
        })
    }

    fn newness(&self, unverified: &[bool]) -> Vec<f32> {
        let newness = |(unverified, uses): (&bool, u32)| {
            if *unverified {
                0.0
            } else {
                1.0 / (1.0 + uses as f32)
            }
        };
        unverified.iter().zip(self.all_uses()).map(newness).collect()
    }

    /// How often the item of each slot was used, without end.
    fn all_uses(&self) -> impl Iterator<Item = u32> {
        self.uses.iter().copied().chain(std::iter::repeat(0))
    }

    fn popularity(&self, unverified: &[bool]) -> Vec<f32> {
        let used = self.uses.iter().filter(|uses| **uses > 0).count().max(1);
        let mean = self.total as f32 / used as f32;
        let popularity = |unverified: bool, uses: u32| {
            let known = 1.0 + uses as f32;
            let credit = if unverified { 0.0 } else { mean / known };
            (known + credit).log2()
        };
        // Most were used never or seldom.
        let seldom: [[f32; 2]; SELDOM] =
            std::array::from_fn(|uses| [false, true].map(|unverified| popularity(unverified, uses as u32)));
        let items = unverified.iter().zip(self.all_uses());
        let of = |(unverified, uses): (&bool, u32)| match seldom.get(uses as usize) {
            Some(known) => known[usize::from(*unverified)],
            None => popularity(*unverified, uses),
        };
        items.map(of).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_new_item_begins_as_one_of_the_middle() {
        let mut bound = Bound::default();
        for (slot, uses) in [(0, 16), (1, 8), (2, 0), (3, 1), (4, 0)] {
            bound.set_uses(slot, uses);
        }
        // The mean of 16, 8 and 1 is 25/3; nobody vouches for the last item.
        let column = bound
            .counted(&[false, false, false, false, true])
            .popularity
            .clone();
        let mean = 25.0_f32 / 3.0;
        let wanted = [
            17.0 + mean / 17.0,
            9.0 + mean / 9.0,
            1.0 + mean,
            2.0 + mean / 2.0,
            1.0,
        ];
        assert_eq!(column, wanted.map(f32::log2));
        assert!(column[2] > column[3] && column[3] > column[4]);
        assert_eq!(bound.counted(&[false; 5]).newness[3], 0.5);
        bound.set_uses(3, 3);
        assert_eq!(
            bound.counted(&[false; 5]).newness[3],
            0.25,
            "a use is counted anew"
        );
    }
}
