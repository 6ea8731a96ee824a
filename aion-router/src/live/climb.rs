//! The ladder climbed: words, then an embedding, then a model's reading, each only where the one before leaves doubt.

use std::sync::Arc;
use std::time::Instant;

use super::{LiveError, LiveRouter, Ranking, said};
use crate::ladder::{Ladder, Rung};
use crate::query::Query;
use crate::rerank::{Reading, Reranker};
use crate::{Decision, Shortlist};

/// What is known of a query beyond its words.
#[derive(Debug, Default)]
struct Seen {
    vector: Option<Arc<[f32]>>,
    readings: Vec<Reading>,
}

impl LiveRouter {
    /// Ranks, climbing the ladder as far as it pays, and stores the decision with what each rung took.
    ///
    /// How far it climbs depends on the query, the items and what was learned, and neither on what is left to chance
    /// nor on time.
    ///
    /// It computes, and an embedder may wait for a server: in an async program it belongs on a thread for that.
    ///
    /// # Errors
    /// [`LiveError::Engine`] for a query that is refused, [`LiveError::Store`]. An embedder or a model that
    /// fails is left out, and the shortlist says so.
    pub async fn rank(&self, query: &Query) -> Result<Ranking, LiveError> {
        let (mut ladder, mut seen) = (Ladder::new(self.0.ladder), Seen::default());
        let start = Instant::now();
        let (mut shortlist, mut decision) = self.rank_seen(query, &seen)?;
        ladder.stood(Rung::Lexical, shortlist.doubt_bits, start.elapsed());
        let mut lost = Vec::new();
        while let Some(rung) = ladder.next() {
            let start = Instant::now();
            let found = match (rung, &self.0.reranker) {
                (Rung::Rerank, Some(reranker)) => {
                    let read = self.read_by(&**reranker, query, &decision).await;
                    read.map(|readings| seen.readings = readings)
                }
                (Rung::Rerank, None) => break,
                _ => {
                    let vector = self.0.cache.get_or_embed(&*self.0.embedder, &query.text);
                    vector
                        .map(|vector| seen.vector = Some(vector))
                        .map_err(|error| said(&error))
                }
            };
            match found {
                Ok(()) => (shortlist, decision) = self.rank_seen(query, &seen)?,
                Err(reason) => lost.push(reason),
            }
            ladder.stood(rung, shortlist.doubt_bits, start.elapsed());
        }
        for reason in lost {
            shortlist.state = shortlist.state.because(reason);
        }
        let rungs = ladder.records().to_vec();
        decision.rungs.clone_from(&rungs);
        self.keep(decision).await?;
        Ok(Ranking { shortlist, rungs })
    }

    fn rank_seen(&self, query: &Query, seen: &Seen) -> Result<(Shortlist, Decision), LiveError> {
        let vector = seen.vector.as_deref();
        Ok(self.read(|engine| engine.rank_read(query, vector, &seen.readings))?)
    }

    async fn read_by(
        &self,
        reranker: &dyn Reranker,
        query: &Query,
        decision: &Decision,
    ) -> Result<Vec<Reading>, String> {
        let items = self.read(|engine| engine.to_read(decision));
        let logits = reranker.rerank(&query.text, &items).await?;
        if logits.len() != items.len() || logits.iter().any(|logit| !logit.is_finite()) {
            let (found, wanted) = (logits.len(), items.len());
            return Err(format!(
                "a model that reads {wanted} items gives as many finite numbers, and not these {found}"
            ));
        }
        let readings = items.into_iter().zip(logits);
        Ok(readings
            .map(|((item, _), logit)| Reading { item, logit })
            .collect())
    }
}
