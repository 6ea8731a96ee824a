//! How good rankings are, offline: recall, NDCG and bits over questions whose answers are known.
//!
//! [`evaluate`] asks them by words alone, with embeddings, while learning from one half, and afterwards.
//!
//! ```
//! use aion_router::HashingEmbedder;
//! use aion_router::import::{Importer, jsonl};
//! use aion_router::quality::{Plan, evaluate, questions};
//!
//! let tools = r#"{"name": "read_file", "text": "Reads a file"}
//! {"name": "send_mail", "text": "Sends a message"}"#;
//! let asked = r#"{"text": "show me the file", "relevant": ["read_file"]}
//! {"text": "write a message to Ann", "relevant": ["send_mail"]}"#;
//! let report = evaluate(
//!     jsonl(tools, &Importer::default())?,
//!     &questions(asked)?,
//!     &HashingEmbedder,
//!     &Plan::default(),
//!     |_, _| {},
//! )?;
//! assert_eq!(report.words.recall_5(), 1.0);
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```
//!
//! # Sources
//! K. Järvelin, J. Kekäläinen, Cumulated gain-based evaluation of IR techniques, 2002 (NDCG).

mod rows;
mod run;

use serde::Serialize;
use serde::ser::SerializeStruct;

use crate::item::ItemId;

pub use rows::{Question, questions};
pub use run::{Plan, QualityError, Report, evaluate, split};

/// Recall, NDCG and bits over many questions.
#[derive(Debug, Clone, Copy, PartialEq, Default)]
pub struct Quality {
    questions: u64,
    recall_5: f64,
    recall_10: f64,
    ndcg_10: f64,
    bits: f64,
}

impl Quality {
    /// Adds a question: the items in order of rank, those that were needed (without any, nothing is added),
    /// and by how many bits they surprised.
    pub fn add<'a>(&mut self, ranked: impl IntoIterator<Item = &'a ItemId>, relevant: &[ItemId], bits: f64) {
        if relevant.is_empty() {
            return;
        }
        let hits = ranked.into_iter().take(10).map(|item| relevant.contains(item));
        let hits: Vec<bool> = hits.collect();
        let discount = |place: usize| 1.0 / (place as f64 + 2.0).log2();
        let found = |k: usize| hits.iter().take(k).filter(|hit| **hit).count() as f64;
        let gained: f64 = (0..hits.len()).filter(|place| hits[*place]).map(discount).sum();
        let best: f64 = (0..relevant.len().min(10)).map(discount).sum();
        self.questions += 1;
        self.recall_5 += found(5) / relevant.len() as f64;
        self.recall_10 += found(10) / relevant.len() as f64;
        self.ndcg_10 += gained / best;
        self.bits += bits;
    }

    /// How many questions.
    pub const fn questions(&self) -> u64 {
        self.questions
    }

    /// The mean share of what was needed among the first 5.
    pub fn recall_5(&self) -> f64 {
        self.mean(self.recall_5)
    }

    /// The mean share of what was needed among the first 10.
    pub fn recall_10(&self) -> f64 {
        self.mean(self.recall_10)
    }

    /// The mean normalised discounted cumulative gain of the first 10.
    pub fn ndcg_10(&self) -> f64 {
        self.mean(self.ndcg_10)
    }

    /// The mean surprise at what was needed, in bits.
    pub fn bits(&self) -> f64 {
        self.mean(self.bits)
    }

    /// 0 without a question.
    fn mean(&self, sum: f64) -> f64 {
        sum / self.questions.max(1) as f64
    }
}

impl Serialize for Quality {
    fn serialize<S: serde::Serializer>(&self, to: S) -> Result<S::Ok, S::Error> {
        let mut object = to.serialize_struct("Quality", 5)?;
        object.serialize_field("questions", &self.questions)?;
        object.serialize_field("recall_5", &self.recall_5())?;
        object.serialize_field("recall_10", &self.recall_10())?;
        object.serialize_field("ndcg_10", &self.ndcg_10())?;
        object.serialize_field("bits", &self.bits())?;
        object.end()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_worked_number() {
        let ids: Vec<ItemId> = ["a", "b", "c", "d"].map(|id| ItemId::new(id).unwrap()).to_vec();
        let mut quality = Quality::default();
        // Needed: b and d, found at places 2 and 4.
        quality.add(&ids, &[ids[1].clone(), ids[3].clone()], 2.0);
        let gained = 1.0 / 3f64.log2() + 1.0 / 5f64.log2();
        assert!((quality.ndcg_10() - gained / (1.0 + 1.0 / 3f64.log2())).abs() < 1e-12);
        quality.add(&ids[..1], &[ids[1].clone(), ids[2].clone()], 4.0);
        assert_eq!(
            (quality.recall_5(), quality.bits(), quality.questions()),
            (0.5, 3.0, 2)
        );
        quality.add(&ids, &[], 100.0);
        assert_eq!(quality.questions(), 2);
    }
}
