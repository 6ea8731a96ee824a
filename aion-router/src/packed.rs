//! Vectors of few of many slots, in rows side by side: what is near is read soon.

use crate::error::Result;
use crate::floats::Floats;
use crate::vector::{Asked, Quantized, Sight, Vectors};

/// So many rows are near in any case, so all of them are looked at closely.
const NEAR: usize = 4_096;
/// Where there is none.
const NONE: u32 = u32::MAX;

/// Vectors, and the slots that have one.
#[derive(Debug, Clone, Default)]
pub(crate) struct Packed {
    vectors: Vectors,
    /// The slot of each row.
    slots: Vec<u32>,
    /// The row of each slot.
    rows: Vec<u32>,
    /// Rows that are no slot's.
    free: Vec<u32>,
}

impl Packed {
    pub(crate) fn has(&self, slot: usize) -> bool {
        self.row(slot).is_some()
    }

    fn row(&self, slot: usize) -> Option<usize> {
        let row = self.rows.get(slot).copied().filter(|row| *row != NONE);
        row.map(|row| row as usize)
    }

    /// Sets the vector of a slot. One of another dimension is another model's: those before it go.
    ///
    /// # Errors
    /// Those of [`Vectors::set_quantized`].
    pub(crate) fn set(&mut self, slot: usize, vector: &Quantized) -> Result<()> {
        if self.vectors.dim() != 0 && self.vectors.dim() != vector.dim() {
            *self = Self::default();
        }
        let known = self.row(slot);
        let free = || self.free.last().map_or(self.slots.len(), |row| *row as usize);
        let row = known.unwrap_or_else(free);
        self.vectors.set_quantized(row, vector)?;
        if known.is_none() {
            self.free.pop();
            if row == self.slots.len() {
                self.slots.push(NONE);
            }
            if self.rows.len() <= slot {
                self.rows.resize(slot + 1, NONE);
            }
            (self.slots[row], self.rows[slot]) = (slot as u32, row as u32);
        }
        Ok(())
    }

    /// Takes the vector of a slot out.
    pub(crate) fn clear(&mut self, slot: usize) {
        if let Some(row) = self.row(slot) {
            self.vectors.clear(row);
            (self.slots[row], self.rows[slot]) = (NONE, NONE);
            self.free.push(row as u32);
        }
    }

    /// How closely the rows are looked at where `sight` is how closely others are.
    pub(crate) fn sight(&self, sight: Sight) -> Sight {
        if self.slots.len() <= NEAR {
            Sight::Close
        } else {
            sight
        }
    }

    /// The cosines of all slots that have a vector with the query; none if the dimensions differ.
    pub(crate) fn seen(&self, asked: &Asked, sight: Sight, mut then: impl FnMut(usize, f32)) {
        let mut cosines = Floats::new();
        self.vectors.seen_into(asked, self.sight(sight), &mut cosines);
        let rows = self.slots.iter().zip(cosines.iter());
        rows.filter(|(slot, _)| **slot != NONE)
            .for_each(|(slot, cosine)| then(*slot as usize, *cosine));
    }

    /// The cosines of these slots, as far as they have a vector, to 8 bits.
    pub(crate) fn seen_at(&self, asked: &Asked, slots: &[usize], mut then: impl FnMut(usize, f32)) {
        let rows: Vec<usize> = slots.iter().filter_map(|slot| self.row(*slot)).collect();
        self.vectors
            .cosines_at(asked, &rows, |row, cosine| then(self.slots[row] as usize, cosine));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn slots_are_seen_as_if_they_had_rows_of_their_own() {
        let vector = |n: usize| {
            Quantized::new(&[1.0, n as f32, (n % 3) as f32])
                .unwrap()
                .rounded()
        };
        let (mut packed, mut plain) = (Packed::default(), Vectors::new());
        plain.set_quantized(999, &vector(0)).unwrap();
        plain.clear(999);
        for n in 0..300_usize {
            let slot = n * 37 % 101 * 9;
            if n % 4 == 3 {
                packed.clear(slot);
                plain.clear(slot);
            } else {
                packed.set(slot, &vector(n)).unwrap();
                plain.set_quantized(slot, &vector(n)).unwrap();
            }
        }
        let asked = Asked::new(&vector(7));
        let (mut wanted, mut found, mut some) = (Vec::new(), vec![0.0; 1_000], vec![0.0; 1_000]);
        plain.seen_into(&asked, Sight::Close, &mut wanted);
        packed.seen(&asked, Sight::Rough, |slot, cosine| found[slot] = cosine);
        assert_eq!(found, wanted);
        assert!((0..1_000).all(|slot| packed.has(slot) == plain.has(slot)));
        let even: Vec<usize> = (0..1_000).step_by(2).collect();
        packed.seen_at(&asked, &even, |slot, cosine| some[slot] = cosine);
        let halves = (0..1_000).map(|slot| if slot % 2 == 0 { wanted[slot] } else { 0.0 });
        assert_eq!(some, halves.collect::<Vec<f32>>());
        assert!(
            packed.vectors.capacity() <= 101,
            "rows that are free are used again"
        );
    }

    #[test]
    fn another_model_begins_anew() {
        let mut packed = Packed::default();
        packed.set(5, &Quantized::new(&[1.0]).unwrap()).unwrap();
        packed.set(6, &Quantized::new(&[1.0, 2.0]).unwrap()).unwrap();
        assert!(!packed.has(5) && packed.has(6) && packed.slots.len() == 1);
        let mut seen = 0;
        packed.seen(
            &Asked::new(&Quantized::new(&[1.0]).unwrap()),
            Sight::Close,
            |_, _| seen += 1,
        );
        assert_eq!(seen, 0, "of another dimension");
    }
}
