//! What was used, by the places of the catalog.

use crate::vector::Vectors;

/// Fewer uses than this are seldom.
const SELDOM: usize = 16;

/// The history of one surface by slot.
#[derive(Debug, Clone, Default)]
pub(crate) struct Bound {
    /// Descriptions with what used them, of the items that were used.
    pub(crate) usage: Vectors,
    uses: Vec<u32>,
    total: u64,
}

impl Bound {
    /// Whether anything of it was ever used.
    pub(crate) const fn is_used(&self) -> bool {
        self.total > 0
    }

    pub(crate) fn set_uses(&mut self, slot: usize, uses: u32) {
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

    /// `1 / (1 + uses)` for items that somebody vouches for, else 0.
    pub(crate) fn newness_into(&self, unverified: &[bool], column: &mut Vec<f32>) {
        let newness = |(unverified, uses): (&bool, u32)| {
            if *unverified {
                0.0
            } else {
                1.0 / (1.0 + uses as f32)
            }
        };
        column.clear();
        column.extend(unverified.iter().zip(self.all_uses()).map(newness));
    }

    /// How often the item of each slot was used, without end.
    fn all_uses(&self) -> impl Iterator<Item = u32> {
        self.uses.iter().copied().chain(std::iter::repeat(0))
    }

    /// `log2(1 + uses)`; an item that somebody vouches for begins as often used as the mean of the used ones, and
    /// that weighs less with every use.
    pub(crate) fn popularity_into(&self, unverified: &[bool], column: &mut Vec<f32>) {
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
        column.clear();
        let items = unverified.iter().zip(self.all_uses());
        column.extend(items.map(|(unverified, uses)| match seldom.get(uses as usize) {
            Some(known) => known[usize::from(*unverified)],
            None => popularity(*unverified, uses),
        }));
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
        let mut column = Vec::new();
        bound.popularity_into(&[false, false, false, false, true], &mut column);
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
    }
}
