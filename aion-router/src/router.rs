//! The ranking without learning: weights and a catalog, nothing else.

use std::collections::BTreeMap;

use crate::assemble;
use crate::catalog::Catalog;
use crate::error::{Error, Result};
use crate::feature::Weights;
use crate::index::Bm25;
use crate::query::{Query, Shortlist};
use crate::rank::Sources;
use crate::vector::{Asked, Quantized};
use crate::words::QueryWords;

/// Ranks catalogs. It holds weights and nothing else, so equal inputs give equal answers.
///
/// An [`Engine`](crate::Engine) also learns from what was used.
#[derive(Debug, Clone, Copy, PartialEq, Default)]
pub struct Router {
    weights: Weights,
    bm25: Bm25,
}

impl Router {
    /// A router with these weights.
    ///
    /// # Errors
    /// [`Error::OutOfRange`] for a weight that is not finite, or of the wrong sign.
    pub fn new(weights: Weights, bm25: Bm25) -> Result<Self> {
        weights.check()?;
        let fields = bm25.field_weights.map(|weight| ("the weight of a field", weight));
        for (what, value) in [("k1", bm25.k1), ("b", bm25.b)].into_iter().chain(fields) {
            if !(value.is_finite() && value >= 0.0 && (what != "b" || value <= 1.0)) {
                return Err(Error::OutOfRange {
                    what,
                    range: "finite and not negative, b at most 1",
                    value,
                });
            }
        }
        Ok(Self { weights, bm25 })
    }

    pub(crate) const fn weights(&self) -> &Weights {
        &self.weights
    }

    pub(crate) const fn bm25(&self) -> &Bm25 {
        &self.bm25
    }

    /// Picks what belongs in the next step, by words alone.
    ///
    /// Pinned items and items that the query names go in first; ties are decided by id. The budget
    /// holds even for them: where they do not fit, the answer says so.
    ///
    /// # Errors
    /// [`Error`] for a query with too many surfaces, one of them twice, or floors over its budget.
    pub fn rank(&self, catalog: &Catalog, query: &Query) -> Result<Shortlist> {
        self.rank_near(catalog, query, None)
    }

    /// The same with the embedding of the query, for a catalog whose items have vectors of the same model.
    ///
    /// # Errors
    /// As [`Router::rank`].
    pub fn rank_near(
        &self,
        catalog: &Catalog,
        query: &Query,
        vector: Option<&Quantized>,
    ) -> Result<Shortlist> {
        assemble::check(query)?;
        let words = QueryWords::new(&query.text);
        let sources = Sources {
            nameable: catalog.nameable(&words),
            catalog,
            query,
            words,
            asked: vector.map(Asked::new),
            bm25: &self.bm25,
            fixed: &self.weights,
            learned: None,
            ruled: BTreeMap::new(),
        };
        let ranked = sources.rank_all();
        let (slate, fits) = assemble::choose(&ranked, query, |_| None);
        let picks = assemble::picks(&ranked, query, &slate);
        let tokens = picks.iter().map(|pick| pick.tokens).sum();
        let basis = assemble::basis(query, catalog, [self.weights.version, 0], vector, &[]);
        Ok(Shortlist {
            decision: assemble::decision_id(query, &basis, &ranked, &slate, None),
            tokens,
            saved_tokens: assemble::everything(&ranked).saturating_sub(u64::from(tokens)),
            none: assemble::none(&ranked),
            doubt_bits: assemble::doubt_bits(&ranked),
            picks,
            catalog: catalog.version(),
            weights: self.weights.version,
            propensity: None,
            state: assemble::state(&ranked, &slate, fits, []),
        })
    }
}
