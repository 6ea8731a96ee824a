//! [`Reranker`]: a model that reads the likeliest items, and what it says of each.

use async_trait::async_trait;

use crate::item::ItemId;

/// The furthest that a reading moves a logit: to a share of `e^30`, beyond which nothing else would count.
const FURTHEST: f64 = 30.0;

/// What reading an item said of it.
#[derive(Debug, Clone, PartialEq)]
pub struct Reading {
    /// The item.
    pub item: ItemId,
    /// What it adds to the item's logit: the natural logarithm of how much likelier such a text is where the item is
    /// needed than where it is not. 0 says nothing; beyond 30 and -30 more of it changes nothing.
    pub logit: f64,
}

impl Reading {
    /// What counts of it.
    pub(crate) const fn counted(&self) -> f64 {
        self.logit.clamp(-FURTHEST, FURTHEST)
    }
}

/// A model that reads the likeliest items and says of each how far its text speaks for it.
///
/// It is the last rung of the [`Ladder`](crate::Ladder): asked only where words and embeddings leave more doubt than
/// the options allow. Texts that nobody vouches for are among what it reads; whatever it says of them, no provider of
/// such takes more than its share.
#[async_trait]
pub trait Reranker: std::fmt::Debug + Send + Sync + 'static {
    /// A finite number for each item, in their order, that is added to its logit: see [`Reading::logit`]. The logit of a
    /// cross-encoder is one; of a model that gives nothing but an order, `-ln(place)` is a choice.
    ///
    /// The items are the 16 likeliest of each surface, whatever their cost and whatever is left to chance.
    ///
    /// # Errors
    /// In words, for the state of the shortlist.
    async fn rerank(&self, query: &str, items: &[(ItemId, String)]) -> Result<Vec<f64>, String>;
}
