//! The laws of a ranking, each named.

use std::collections::BTreeMap;

use aion_router::budget::{Bin, Candidate, fill, share};
use aion_router::index::{Bm25, Index};
use aion_router::item::Fields;
use aion_router::{Item, ItemId, Provenance, Query, Router, ShortlistState, Surface, SurfaceBudget, Weights};
use proptest::collection::vec;
use proptest::prelude::*;
use proptest::sample::select;

use crate::fixture::{catalog, stranger, tool, tools};

const WORDS: [&str; 12] = [
    "read",
    "write",
    "file",
    "mail",
    "rain",
    "run",
    "search",
    "list",
    "price",
    "flight",
    "text",
    "read_file",
];

fn text() -> impl Strategy<Value = String> {
    vec(select(&WORDS[..]), 0..8).prop_map(|words| words.join(" "))
}

fn items() -> impl Strategy<Value = Vec<Item>> {
    vec((text(), 0_u8..4), 1..25).prop_map(|rows| {
        let make = |(n, (text, mark)): (usize, (String, u8))| {
            let name = format!("item_{n}");
            match mark {
                0 => tool(&name, &text).pinned(),
                1 => stranger(&name, &text),
                _ => tool(&name, &text),
            }
        };
        rows.into_iter().enumerate().map(make).collect()
    })
}

fn query() -> impl Strategy<Value = Query> {
    (text(), 0_u32..400, 0_usize..12, 0_u32..300).prop_map(|(text, total, max_items, max_tokens)| {
        let budget = SurfaceBudget::new(Surface::Tool)
            .with_max_items(max_items)
            .with_max_tokens(max_tokens);
        Query::new(text, total).with_surface(budget)
    })
}

proptest! {
    /// The budget is never exceeded: not in all, not by a surface, not in number.
    #[test]
    fn budgets_hold(items in items(), query in query()) {
        let shortlist = Router::default().rank(&catalog(items), &query).unwrap();
        let tokens: u32 = shortlist.picks.iter().map(|pick| pick.tokens).sum();
        prop_assert_eq!(tokens, shortlist.tokens);
        prop_assert!(tokens <= query.total_tokens && tokens <= query.surfaces[0].max_tokens);
        prop_assert!(shortlist.picks.len() <= query.surfaces[0].max_items);
    }

    /// The order in which items came, and coming twice, changes nothing but the version.
    #[test]
    fn insertion_order_does_not_matter(items in items(), query in query()) {
        let forward = Router::default().rank(&catalog(items.clone()), &query).unwrap();
        let backward = items.iter().rev().chain(&items).cloned();
        let backward = Router::default().rank(&catalog(backward), &query).unwrap();
        prop_assert_eq!(forward.picks, backward.picks);
        prop_assert_eq!(forward.tokens, backward.tokens);
        prop_assert_eq!(forward.state, backward.state);
    }

    /// Pinned and named items are in, or the answer says that one of them does not fit.
    #[test]
    fn what_must_be_in_is_in(items in items(), text in text(), total in 50_u32..400) {
        let named = format!("{text} item_0 now");
        let query = Query::new(named, total).with_surface(SurfaceBudget::new(Surface::Tool));
        let shortlist = Router::default().rank(&catalog(items.clone()), &query).unwrap();
        let is_in = |item: &Item| shortlist.picks.iter().any(|pick| pick.item == *item.id());
        let wanted = items.iter().filter(|item| item.is_pinned() || item.fields().name == "item_0");
        let all = wanted.into_iter().all(is_in);
        let degraded = matches!(shortlist.state, ShortlistState::Degraded { .. });
        prop_assert_eq!(all, !degraded);
    }

    /// The parts of an explanation add up to the logit, and the probabilities to at most 1.
    #[test]
    fn explanations_add_up(items in items(), query in query()) {
        let shortlist = Router::default().rank(&catalog(items), &query).unwrap();
        let mut before = f64::INFINITY;
        for pick in &shortlist.picks {
            let sum: f64 = pick.why.terms.iter().map(|(_, part)| part).sum();
            prop_assert_eq!(sum, pick.why.logit());
            prop_assert!(sum <= before);
            before = sum;
        }
        let total: f64 = shortlist.picks.iter().map(|pick| pick.p).sum();
        prop_assert!(total < 1.0 + 1e-9);
        let ratio = |a: usize, b: usize| (shortlist.picks[a].p / shortlist.picks[b].p).ln();
        for i in 1..shortlist.picks.len() {
            let apart = shortlist.picks[i - 1].why.logit() - shortlist.picks[i].why.logit();
            prop_assert!((ratio(i - 1, i) - apart).abs() < 1e-6);
        }
    }

    /// Monotone: more of a feature never lowers an item's place among all.
    #[test]
    fn being_used_just_now_never_lowers_a_rank(items in items(), text in text(), which in any::<prop::sample::Index>()) {
        let catalog = catalog(items.clone());
        let id = items[which.index(items.len())].id().clone();
        let wide = SurfaceBudget::new(Surface::Tool).with_max_items(100).with_max_unverified(100);
        let query = Query::new(text, 1_000_000).with_surface(wide);
        let place = |query: &Query| {
            let shortlist = Router::default().rank(&catalog, query).unwrap();
            // A stranger's copy of something better is left out, and so last.
            shortlist.picks.iter().position(|pick| pick.item == id).unwrap_or(usize::MAX)
        };
        let before = place(&query);
        prop_assert!(place(&query.clone().with_recent(vec![id.clone()])) <= before);
    }

    /// No provider that nobody vouches for gets more than its share.
    #[test]
    fn provider_caps_hold(items in items(), query in query(), cap in 0_usize..4) {
        let mut query = query;
        query.surfaces[0] = query.surfaces[0].clone().with_max_unverified(cap);
        let catalog = catalog(items);
        let shortlist = Router::default().rank(&catalog, &query).unwrap();
        let unverified = |id: &ItemId| catalog.get(id).unwrap().provenance() == Provenance::Unverified;
        prop_assert!(shortlist.picks.iter().filter(|pick| unverified(&pick.item)).count() <= cap);
    }

    /// The index after any additions and removals is the one built anew.
    #[test]
    fn the_incremental_index_is_the_rebuilt_one(
        steps in vec((0_u8..8, text(), any::<bool>()), 0..40),
        asked in text(),
    ) {
        let mut index = Index::new();
        let mut kept: BTreeMap<ItemId, Fields> = BTreeMap::new();
        for (n, text, keep) in steps {
            let id = ItemId::new(format!("item{n}")).unwrap();
            let fields = Fields { name: format!("item{n}"), text, ..Fields::default() };
            if keep {
                index.insert(&id, &fields, Provenance::Builtin);
                kept.insert(id, fields);
            } else {
                prop_assert_eq!(index.remove(&id), kept.remove(&id).is_some());
            }
        }
        let mut rebuilt = Index::new();
        for (id, fields) in kept.iter().rev() {
            rebuilt.insert(id, fields, Provenance::Builtin);
        }
        prop_assert_eq!(&index, &rebuilt);
        let bm25 = Bm25::default();
        prop_assert_eq!(index.scores(&asked, &bm25), rebuilt.scores(&asked, &bm25));
        prop_assert!(index.scores(&asked, &bm25).values().all(|score| (0.0..1.0).contains(score)));
    }

    /// BM25 is what its formula says, computed without postings.
    #[test]
    fn scores_are_the_formula(texts in vec(text(), 1..60), asked in text()) {
        let ids: Vec<ItemId> = (0..texts.len()).map(|n| ItemId::new(format!("i{n}")).unwrap()).collect();
        let mut index = Index::new();
        for (id, text) in ids.iter().zip(&texts) {
            let fields = Fields { text: text.clone(), ..Fields::default() };
            index.insert(id, &fields, Provenance::Builtin);
        }
        let terms = |text: &str| aion_router::text::terms(text).collect::<Vec<String>>();
        let docs: Vec<Vec<String>> = texts.iter().map(|text| terms(text)).collect();
        let mut wanted = terms(&asked);
        wanted.sort();
        wanted.dedup();
        let bm25 = Bm25::default();
        let n = docs.len() as f64;
        let mean = docs.iter().map(Vec::len).sum::<usize>() as f64 / n;
        let having = |term: &String| docs.iter().filter(|doc| doc.contains(term)).count() as f64;
        let idf = |term: &String| (1.0 + (n - having(term) + 0.5) / (having(term) + 0.5)).ln();
        let share = |term: &String| if having(term) > 0.0 { 1.0 } else { 0.5 };
        let best: f64 = wanted.iter().map(|term| share(term) * idf(term)).sum();
        let scores = index.scores(&asked, &bm25);
        for (id, doc) in ids.iter().zip(&docs) {
            let part = |term: &String| {
                let count = doc.iter().filter(|word| *word == term).count() as f64;
                let tf = count / (1.0 - bm25.b + bm25.b * doc.len() as f64 / mean);
                if count == 0.0 { 0.0 } else { idf(term) * tf / (bm25.k1 + tf) }
            };
            let expected: f64 = wanted.iter().map(part).sum();
            let got = scores.get(id).copied().unwrap_or(0.0);
            let expected = if best > 0.0 { expected / best } else { 0.0 };
            prop_assert!((got - expected).abs() < 1e-6, "{got} {expected}");
        }
    }

    /// The greedy filling of one bin is at least half of the best possible one.
    #[test]
    fn the_filling_is_at_least_half_of_the_best(rows in vec((1_u32..40, 0.0..1.0_f64), 0..12), total in 0_u32..100) {
        let candidates: Vec<Candidate> = rows.iter().map(|(cost, value)| Candidate {
            bin: 0, group: None, value: *value, costs: vec![*cost], must: false,
        }).collect();
        let bins = [Bin { max_items: 99, max_cost: u32::MAX, floor: 0, max_of_group: 99 }];
        let chosen = fill(&candidates, &bins, total);
        let got: f64 = candidates.iter().zip(&chosen).filter(|(_, c)| c.is_some()).map(|(c, _)| c.value).sum();
        let mut best = vec![0.0_f64; total as usize + 1];
        for (cost, value) in &rows {
            for room in (*cost as usize..=total as usize).rev() {
                best[room] = best[room].max(best[room - *cost as usize] + value);
            }
        }
        prop_assert!(2.0 * got >= best[total as usize] - 1e-12, "{got} of {}", best[total as usize]);
    }

    /// Floors: where a surface has enough to fill what is kept for it, the others cannot take it.
    #[test]
    fn floors_are_honoured(floor in 0_u32..60, total in 60_u32..120) {
        let candidate = |bin, value| Candidate { bin, group: None, value, costs: vec![5], must: false };
        let mut candidates: Vec<Candidate> = (0..40).map(|_| candidate(0, 0.9)).collect();
        candidates.extend((0..40).map(|_| candidate(1, 0.01)));
        let bin = |floor| Bin { max_items: 99, max_cost: u32::MAX, floor, max_of_group: 99 };
        let chosen = fill(&candidates, &[bin(0), bin(floor)], total);
        let kept: u32 = chosen[40..].iter().flatten().map(|_| 5).sum();
        prop_assert!(kept >= floor / 5 * 5, "{kept} of {floor}");
        prop_assert!(chosen.iter().flatten().count() as u32 * 5 <= total);
    }
}

#[test]
fn fuller_renderings_are_worth_more() {
    for n in 1..=3 {
        let shares: Vec<f64> = (0..n).map(|i| share(i, n)).collect();
        assert!(shares.windows(2).all(|pair| pair[0] < pair[1]));
        assert_eq!(shares[n - 1], 1.0);
    }
}

#[test]
fn weights_have_signs() {
    let mut weights = Weights::default();
    weights.lexical = -1.0;
    assert!(Router::new(weights, Bm25::default()).is_err());
    let mut weights = Weights::default();
    weights.unverified = 1.0;
    assert!(Router::new(weights, Bm25::default()).is_err());
    assert!(Router::new(Weights::default(), Bm25::default()).is_ok());
    assert_eq!(tools().len(), 24);
}
