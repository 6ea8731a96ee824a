//! What fits into a budget of tokens, beside the best that could fit.

use aion_router::budget::{Bin, Candidate, fill};
use aion_router::embed::embed_one;
use aion_router::quality::Question;
use aion_router::{Embedder, EngineOptions, Query, Surface, SurfaceBudget};

use super::Result;
use super::sets::Set;

/// How much of what was needed was shown, in percent.
#[derive(Debug, Clone, Copy)]
pub struct Fitting {
    /// By the router's greedy filling.
    pub greedy: f64,
    /// By the best filling that there is.
    pub exact: f64,
    /// The value of the greedy filling as a share of the best one, in percent, over all questions.
    pub value: f64,
}

/// Recall within `budget` tokens, every item shown in full or not at all; both fillings see the same probabilities.
///
/// # Errors
/// When the embedder or the engine fails.
pub fn measure(set: &Set, asked: &[&Question], embedder: &dyn Embedder, budget: u32) -> Result<Fitting> {
    let engine = set.engine(embedder, EngineOptions::default())?;
    let everything = SurfaceBudget::new(Surface::Tool).with_max_items(set.items.len());
    let bin = Bin {
        max_items: usize::MAX,
        max_cost: budget,
        floor: 0,
        max_of_group: usize::MAX,
    };
    let (mut greedy, mut exact, mut values) = (0.0, 0.0, (0.0, 0.0));
    for question in asked {
        let query = Query::new(&question.text, u32::MAX).with_surface(everything.clone());
        let (shortlist, _) = engine.rank(&query, Some(&embed_one(embedder, &question.text)?))?;
        let full = |pick: &aion_router::Pick| {
            engine
                .catalog()
                .get(&pick.item)
                .map_or(u32::MAX, aion_router::Item::full_tokens)
        };
        let choices: Vec<Candidate> = shortlist
            .picks
            .iter()
            .map(|pick| Candidate {
                bin: 0,
                group: None,
                value: pick.p,
                costs: vec![full(pick)],
                must: false,
            })
            .collect();
        let ours: Vec<bool> = fill(&choices, std::slice::from_ref(&bin), budget)
            .iter()
            .map(Option::is_some)
            .collect();
        let best = knapsack(&choices, budget);
        let recall = |chosen: &[bool]| {
            let shown = shortlist.picks.iter().zip(chosen).filter(|(_, chosen)| **chosen);
            let found = shown
                .filter(|(pick, _)| question.relevant.contains(&pick.item))
                .count();
            found as f64 / question.relevant.len() as f64
        };
        let value = |chosen: &[bool]| {
            let taken = choices.iter().zip(chosen).filter(|(_, chosen)| **chosen);
            taken.map(|(choice, _)| choice.value).sum::<f64>()
        };
        greedy += recall(&ours);
        exact += recall(&best);
        values = (values.0 + value(&ours), values.1 + value(&best));
    }
    let percent = 100.0 / asked.len().max(1) as f64;
    Ok(Fitting {
        greedy: percent * greedy,
        exact: percent * exact,
        value: 100.0 * values.0 / values.1,
    })
}

/// The most valuable choice within a budget, by dynamic programming over every number of tokens.
///
/// # Sources
/// H. Kellerer, U. Pferschy, D. Pisinger, Knapsack Problems, 2004, section 2.3.
pub fn knapsack(choices: &[Candidate], budget: u32) -> Vec<bool> {
    let room = budget as usize;
    let mut best = vec![0.0_f64; room + 1];
    let mut taken = vec![false; choices.len() * (room + 1)];
    for (choice, taken) in choices.iter().zip(taken.chunks_exact_mut(room + 1)) {
        let cost = choice.costs[0] as usize;
        for left in (cost..=room).rev() {
            let with = best[left - cost] + choice.value;
            if with > best[left] {
                (best[left], taken[left]) = (with, true);
            }
        }
    }
    let mut left = room;
    let mut chosen = vec![false; choices.len()];
    for (i, taken) in taken.chunks_exact(room + 1).enumerate().rev() {
        if taken[left] {
            chosen[i] = true;
            left -= choices[i].costs[0] as usize;
        }
    }
    chosen
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_knapsack_finds_what_greed_misses() {
        let item = |value, cost| Candidate {
            bin: 0,
            group: None,
            value,
            costs: vec![cost],
            must: false,
        };
        let choices = [item(6.0, 5), item(5.0, 4), item(5.0, 4), item(1.0, 9)];
        assert_eq!(knapsack(&choices, 8), [false, true, true, false]);
        assert_eq!(knapsack(&choices, 3), [false; 4]);
        assert_eq!(knapsack(&choices, 22), [true; 4]);
    }
}
