//! Recall, NDCG and bits over many queries.

use aion_router::{ItemId, Shortlist};

/// Sums over queries.
#[derive(Debug, Default)]
pub(crate) struct Table {
    queries: f64,
    recall_5: f64,
    recall_10: f64,
    ndcg_10: f64,
    bits: f64,
}

impl Table {
    /// Adds a query whose shortlist is in order of rank.
    pub(crate) fn add(&mut self, shortlist: &Shortlist, relevant: &[ItemId], bits: f64) {
        let hits = shortlist
            .picks
            .iter()
            .take(10)
            .map(|pick| relevant.contains(&pick.item));
        let hits: Vec<bool> = hits.collect();
        let discount = |place: usize| 1.0 / (place as f64 + 2.0).log2();
        let recall =
            |k: usize| hits.iter().take(k).filter(|hit| **hit).count() as f64 / relevant.len() as f64;
        let gained = hits
            .iter()
            .enumerate()
            .filter(|(_, hit)| **hit)
            .map(|(place, _)| discount(place));
        let best: f64 = (0..relevant.len().min(10)).map(discount).sum();
        self.queries += 1.0;
        self.recall_5 += recall(5);
        self.recall_10 += recall(10);
        self.ndcg_10 += gained.sum::<f64>() / best;
        self.bits += bits;
    }

    /// One line: percentages, and bits a query.
    pub(crate) fn print(&self, what: &str) {
        let percent = |sum: f64| 100.0 * sum / self.queries;
        println!(
            "{what:<34} {:>6.2} {:>6.2} {:>7.2} {:>7.3}",
            percent(self.recall_5),
            percent(self.recall_10),
            percent(self.ndcg_10),
            self.bits / self.queries,
        );
    }
}
