//! Past queries with what was used for them, the last so many.

use std::collections::BTreeMap;

use aion_types::TaskId;
use serde::{Deserialize, Serialize};

use crate::bytes::Bytes;
use crate::error::{Error, Result};
use crate::item::ItemId;
use crate::vector::{Found, Quantized, Vectors};

/// Past queries that are asked.
const NEIGHBOURS: usize = 16;
/// How fast a past query loses its say with distance.
const SHARPNESS: f32 = 12.0;
/// The cosine at which a past query has as much say as the doubt that is always there.
const DOUBT_AT: f32 = 0.5;

/// A ring of past queries.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Past {
    room: usize,
    vectors: Vectors,
    used: Vec<Vec<ItemId>>,
    tasks: Vec<Option<TaskId>>,
    next: usize,
}

/// A past query as it is kept.
#[derive(Serialize, Deserialize)]
pub(crate) struct KeptQuery {
    integers: Bytes,
    scale: f32,
    task: Option<TaskId>,
    used: Vec<ItemId>,
}

impl KeptQuery {
    fn vector(&self) -> Result<Quantized> {
        let integers: Vec<i8> = self.integers.0.iter().map(|x| x.cast_signed()).collect();
        Quantized::from_parts(&integers, self.scale).ok_or(Error::BadVector { dim: integers.len() })
    }
}

/// A share of their say that is little.
const LITTLE: f32 = 0.1;

/// What the nearest past queries say of an item.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) struct Vote {
    /// The share of their say that used it, in `[0, 1)`.
    pub(crate) share: f32,
    /// The nearest one that used it: its task and cosine.
    pub(crate) nearest: (Option<TaskId>, f32),
}

impl Vote {
    /// The share on a logarithmic scale from 0 to 1: a little evidence is far from none, and much is not far from all.
    pub(crate) fn strength(&self) -> f32 {
        (self.share / LITTLE).ln_1p() / (1.0 / LITTLE).ln_1p()
    }
}

impl Past {
    pub(crate) fn new(room: usize) -> Self {
        Self {
            room,
            vectors: Vectors::new(),
            used: Vec::new(),
            tasks: Vec::new(),
            next: 0,
        }
    }

    pub(crate) fn push(&mut self, vector: &Quantized, task: Option<TaskId>, used: Vec<ItemId>) {
        if self.room == 0 {
            return;
        }
        if self.vectors.dim() != 0 && self.vectors.dim() != vector.dim() {
            // Another model: what the old one said cannot be compared.
            *self = Self::new(self.room);
        }
        let at = self.next % self.room;
        // To 8 bits, as it is stored: what is read again is the same.
        if self.vectors.set_quantized(at, &vector.clone().rounded()).is_err() {
            return;
        }
        if at == self.used.len() {
            self.used.push(used);
            self.tasks.push(task);
        } else {
            (self.used[at], self.tasks[at]) = (used, task);
        }
        self.next = at + 1;
    }

    /// The queries by place, and the place of the next one.
    pub(crate) fn kept(&self) -> (Vec<KeptQuery>, usize) {
        let query = |(at, used): (usize, &Vec<ItemId>)| {
            let vector = self.vectors.get(at)?;
            let bytes = vector.integers().iter().map(|x| x.cast_unsigned());
            Some(KeptQuery {
                integers: Bytes(bytes.collect()),
                scale: vector.scale(),
                task: self.tasks[at],
                used: used.clone(),
            })
        };
        (
            self.used.iter().enumerate().filter_map(query).collect(),
            self.next,
        )
    }

    /// The ring that [`Past::kept`] gave; in one of another size the latest ones stay.
    pub(crate) fn restored(room: usize, mut kept: Vec<KeptQuery>, next: usize) -> Result<Self> {
        let mut past = Self::new(room);
        let wrapped = next < kept.len();
        let same_size = room == kept.len();
        if wrapped && !same_size {
            // Oldest first.
            kept.rotate_left(next);
        }
        for query in kept {
            past.push(&query.vector()?, query.task, query.used);
        }
        if wrapped && same_size {
            past.next = next;
        }
        Ok(past)
    }

    /// What the past queries nearest to this one say, by the place of each item that has one.
    pub(crate) fn votes<P: Ord>(
        &self,
        query: &Quantized,
        place: impl Fn(&ItemId) -> Option<P>,
    ) -> BTreeMap<P, Vote> {
        let near = self.vectors.nearest(query, NEIGHBOURS);
        let say = |found: &Found| (SHARPNESS * (found.score.min(1.0) - 1.0)).exp();
        let doubt = (SHARPNESS * (DOUBT_AT - 1.0)).exp();
        let all = doubt + near.iter().map(say).sum::<f32>();
        let mut votes: BTreeMap<P, Vote> = BTreeMap::new();
        for found in &near {
            for place in self.used[found.slot].iter().filter_map(&place) {
                let nearest = (self.tasks[found.slot], found.score);
                let vote = votes.entry(place).or_insert(Vote { share: 0.0, nearest });
                vote.share += say(found) / all;
            }
        }
        votes
    }

    pub(crate) fn forget(&mut self, item: &ItemId) {
        for used in &mut self.used {
            used.retain(|used| used != item);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn filled(room: usize, queries: usize) -> Past {
        let mut past = Past::new(room);
        for n in 0..queries {
            let vector = Quantized::new(&[1.0, n as f32]).unwrap();
            past.push(&vector, None, vec![ItemId::new(format!("tool:{n}")).unwrap()]);
        }
        past
    }

    fn again(past: &Past, room: usize) -> Past {
        let (kept, next) = past.kept();
        Past::restored(room, kept, next).unwrap()
    }

    #[test]
    fn a_ring_of_the_same_size_is_the_same() {
        for queries in [0, 1, 6, 7, 8, 13, 14, 40] {
            let past = filled(7, queries);
            assert_eq!(again(&past, 7), past, "{queries}");
        }
    }

    #[test]
    fn a_ring_of_another_size_has_the_latest() {
        let names = |past: &Past| {
            let mut names: Vec<String> = past.used.iter().flatten().map(ToString::to_string).collect();
            names.sort();
            names
        };
        let past = filled(7, 9);
        assert_eq!(names(&again(&past, 3)), ["tool:6", "tool:7", "tool:8"]);
        assert_eq!(names(&again(&past, 20)), names(&past));
        assert_eq!(again(&filled(7, 5), 20), filled(20, 5));
        // What is pushed next takes the oldest one's place.
        let mut smaller = again(&past, 3);
        let vector = Quantized::new(&[1.0, 1.0]).unwrap();
        smaller.push(&vector, None, vec![ItemId::new("tool:9").unwrap()]);
        assert_eq!(names(&smaller), ["tool:7", "tool:8", "tool:9"]);
        assert!(again(&past, 0).used.is_empty());
    }
}
