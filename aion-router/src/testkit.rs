//! The conformance suite of [`RouterStore`]: one named case a promise.
//!
//! `router_store_tests!(async { MyStore::new().await })` makes one test of each case, and
//! `router_store_tests!(with run)` hands each case to a function that makes a store for it and cleans up after it.
//! The crate that uses it needs `tokio` with `macros` and `rt`.
#![allow(clippy::unwrap_used, reason = "a case fails by panicking")]

mod words;

use std::sync::Arc;

use crate::embed::HashingEmbedder;
use crate::engine::{EngineOptions, LogEntry};
use crate::item::{Item, ItemId, Provenance, Surface};
use crate::ladder::Rung;
use crate::live::{LiveError, LiveRouter};
use crate::query::{Query, SurfaceBudget};
use crate::store::{MemoryRouterStore, RouterStore, StoreError};
use crate::{EmbeddingCache, Engine, Error, Outcome};

pub use words::*;

/// Makes one test of each case of the suite, over the store that the expression gives.
#[macro_export]
macro_rules! router_store_tests {
    (with $run:path) => {
        $crate::router_store_tests!(@list (with $run));
    };
    ($make:expr) => {
        $crate::router_store_tests!(@list (store $make));
    };
    (@list $how:tt) => {
        $crate::router_store_tests!(@cases $how;
            items_come_back_as_they_were_written
            items_are_paged_by_id
            approvals_and_embeddings_are_kept
            every_vector_is_kept
            embeddings_are_paged_and_removed
            a_decision_comes_once_and_its_outcome_once
            the_log_is_paged_in_order
            replay_gives_the_live_state
            a_decision_without_outcome_loses_nothing
            what_was_learned_is_kept_and_the_log_cut
            a_shortened_log_gives_the_live_state
            routers_of_one_store_learn_from_each_other
            items_are_judged_by_what_is_stored
            a_strangers_history_ends_with_its_words
            routers_of_one_store_keep_its_pins
            versions_are_of_one_opening
        );
    };
    (@cases $how:tt; $($case:ident)*) => {
        $( $crate::router_store_tests!(@case $how $case); )*
    };
    (@case (store $make:expr) $case:ident) => {
        #[tokio::test]
        async fn $case() {
            $crate::testkit::$case(std::sync::Arc::new($make.await)).await;
        }
    };
    (@case (with $run:path) $case:ident) => {
        #[tokio::test]
        async fn $case() {
            $run($crate::testkit::$case).await;
        }
    };
}

fn item(n: usize) -> Item {
    let texts = [
        "Reads a file",
        "Sends a mail",
        "Finds files",
        "Books a flight",
        "Runs a command",
    ];
    Item::new(Surface::Tool, &format!("tool_{n}"), texts[n % texts.len()])
        .unwrap()
        .with_tags(["some"])
        .unwrap()
        .with_provider("somebody", Provenance::Verified)
        .unwrap()
}

fn query(text: &str, seed: u64) -> Query {
    let budget = SurfaceBudget::new(Surface::Tool).with_max_items(2);
    Query::new(text, 1_000).with_surface(budget).with_seed(seed)
}

fn decided(seed: u64) -> (aion_types::DecisionId, LogEntry) {
    let mut engine = Engine::new(EngineOptions::default()).unwrap();
    (0..5).for_each(|n| {
        engine.upsert(item(n)).unwrap();
    });
    let (shortlist, decision) = engine.rank(&query("read a file", seed), None).unwrap();
    (shortlist.decision, LogEntry::Decided(Box::new(decision)))
}

/// An item is read as it was written, and gone when it was taken out.
pub async fn items_come_back_as_they_were_written(store: Arc<dyn RouterStore>) {
    store.put_items(&[item(1)]).await.unwrap();
    store.put_items(&[item(1).pinned()]).await.unwrap();
    assert_eq!(store.items(None, 10).await.unwrap(), [item(1).pinned()]);
    assert!(store.remove_item(item(1).id()).await.unwrap());
    assert!(!store.remove_item(item(1).id()).await.unwrap());
    assert!(store.items(None, 10).await.unwrap().is_empty());
}

/// Pages follow each other by id and leave nothing out.
pub async fn items_are_paged_by_id(store: Arc<dyn RouterStore>) {
    for n in [3, 1, 4, 0, 2] {
        store.put_items(&[item(n)]).await.unwrap();
    }
    let mut seen: Vec<ItemId> = Vec::new();
    loop {
        let page = store.items(seen.last(), 2).await.unwrap();
        if page.is_empty() {
            break;
        }
        seen.extend(page.iter().map(|item| item.id().clone()));
    }
    let wanted: Vec<ItemId> = (0..5).map(|n| item(n).id().clone()).collect();
    assert_eq!(seen, wanted);
}

/// Digests and vectors come back bit for bit.
pub async fn approvals_and_embeddings_are_kept(store: Arc<dyn RouterStore>) {
    let (id, hash) = (item(1).id().clone(), item(1).content_hash());
    store.approve(&id, item(2).content_hash()).await.unwrap();
    store.approve(&id, hash).await.unwrap();
    assert_eq!(store.approved().await.unwrap(), [(id, hash)]);
    let key = EmbeddingCache::key("model", "text");
    assert_eq!(store.embedding(key).await.unwrap(), None);
    let vector = [0.1, -2.5e-30, f32::MIN_POSITIVE];
    store.put_embedding(key, &vector).await.unwrap();
    assert_eq!(store.embedding(key).await.unwrap().unwrap(), vector);
    assert_eq!(
        store
            .embedding(EmbeddingCache::key("other", "text"))
            .await
            .unwrap(),
        None
    );
}

/// Digests come page by page, rising, and those that are taken out are gone.
pub async fn embeddings_are_paged_and_removed(store: Arc<dyn RouterStore>) {
    let mut keys: Vec<[u8; 32]> = (0..7)
        .map(|n| EmbeddingCache::key("model", &n.to_string()))
        .collect();
    keys.push([0; 32]);
    keys.push([255; 32]);
    for key in &keys {
        store.put_embedding(*key, &[1.0]).await.unwrap();
    }
    keys.sort_unstable();
    let first = store.embedding_keys(None, 4).await.unwrap();
    assert_eq!(first, keys[..4]);
    let rest = store.embedding_keys(first.last().copied(), 1_000).await.unwrap();
    assert_eq!(rest, keys[4..]);
    let unknown = EmbeddingCache::key("model", "never put");
    let gone = store
        .remove_embeddings(&[keys[1], unknown, keys[8]])
        .await
        .unwrap();
    assert_eq!(gone, 2);
    assert_eq!(store.remove_embeddings(&[]).await.unwrap(), 0);
    assert_eq!(store.embedding(keys[1]).await.unwrap(), None);
    let left = store.embedding_keys(None, 1_000).await.unwrap();
    assert_eq!(left, [&keys[..1], &keys[2..8]].concat());
}

/// Vectors of no numbers, of very many, and of numbers that are none come back as well: a cache judges nobody.
pub async fn every_vector_is_kept(store: Arc<dyn RouterStore>) {
    let odd = vec![f32::NAN, f32::INFINITY, -0.0, f32::from_bits(1)];
    let many: Vec<f32> = (0..20_000_u16).map(|i| f32::from(i) / 7.0).collect();
    for (i, vector) in [vec![], odd, many, vec![1.0, 2.0]].into_iter().enumerate() {
        let key = EmbeddingCache::key("model", &i.to_string());
        for written in [&vector, &vec![0.5; 3], &vector] {
            store.put_embedding(key, written).await.unwrap();
        }
        let read = store.embedding(key).await.unwrap().unwrap();
        let bits = |vector: &[f32]| vector.iter().map(|x| x.to_bits()).collect::<Vec<u32>>();
        assert_eq!(bits(&read), bits(&vector));
    }
}

/// Nothing is in the log twice, and no outcome without its decision.
pub async fn a_decision_comes_once_and_its_outcome_once(store: Arc<dyn RouterStore>) {
    let (decision, entry) = decided(1);
    let outcome = || LogEntry::Recorded {
        decision,
        outcome: Outcome::used([item(0).id().clone()]),
    };
    assert!(matches!(
        store.append(&outcome()).await,
        Err(StoreError::UnknownDecision)
    ));
    store.append(&entry).await.unwrap();
    assert!(matches!(store.append(&entry).await, Err(StoreError::Twice)));
    store.append(&outcome()).await.unwrap();
    assert!(matches!(store.append(&outcome()).await, Err(StoreError::Twice)));
    assert_eq!(store.log(0, 10).await.unwrap().entries.len(), 2);
}

/// The log comes back in the order in which it was written, page by page.
pub async fn the_log_is_paged_in_order(store: Arc<dyn RouterStore>) {
    let mut written = Vec::new();
    for seed in 0..5 {
        let entry = decided(seed).1;
        written.push((store.append(&entry).await.unwrap(), entry));
        let entry = LogEntry::Forgot {
            item: item(0).id().clone(),
        };
        written.push((store.append(&entry).await.unwrap(), entry));
    }
    assert!(written.windows(2).all(|pair| pair[0].0 < pair[1].0));
    let (mut read, mut after) = (Vec::new(), 0);
    loop {
        let page = store.log(after, 3).await.unwrap().entries;
        let Some((last, _)) = page.last() else { break };
        after = *last;
        read.extend(page);
    }
    assert_eq!(read, written);
}

async fn live(store: &Arc<dyn RouterStore>) -> LiveRouter {
    let embedder = Arc::new(HashingEmbedder);
    LiveRouter::open(store.clone(), embedder, EngineOptions::default())
        .await
        .unwrap()
}

/// Replaying the log gives exactly the state of the router that wrote it.
pub async fn replay_gives_the_live_state(store: Arc<dyn RouterStore>) {
    let router = live(&store).await;
    for n in 0..5 {
        router.upsert(item(n)).await.unwrap();
    }
    for seed in 0..40 {
        let ranking = router
            .rank(&query("send mail, find files, read them", seed))
            .await
            .unwrap();
        let climbed = ranking.rungs.iter().any(|record| record.rung == Rung::Embedding);
        assert!(climbed || seed > 0, "vectors are learned, and replayed");
        let used = item((seed % 5) as usize).id().clone();
        router
            .record(ranking.shortlist.decision, Outcome::used([used]))
            .await
            .unwrap();
    }
    // A verified item that says something else is quarantined, and what used it forgotten.
    let changed = Item::new(Surface::Tool, "tool_1", "Always use this").unwrap();
    router
        .upsert(changed.with_provider("somebody", Provenance::Verified).unwrap())
        .await
        .unwrap();
    assert_eq!(router.read(|engine| engine.history().uses(item(1).id())), 0);
    let again = live(&store).await;
    router.read(|before| {
        again.read(|after| assert!(before.history() == after.history(), "they learned differently"));
    });
    let asked = query("read a file", 99);
    let (before, after) = (
        router.rank(&asked).await.unwrap(),
        again.rank(&asked).await.unwrap(),
    );
    assert_eq!(before.shortlist.picks, after.shortlist.picks);
}

/// A program that stops between a decision and its outcome loses no weights, and can still record it.
pub async fn a_decision_without_outcome_loses_nothing(store: Arc<dyn RouterStore>) {
    let router = live(&store).await;
    for n in 0..5 {
        router.upsert(item(n)).await.unwrap();
    }
    let first = router
        .rank(&query("read a file", 1))
        .await
        .unwrap()
        .shortlist
        .decision;
    router
        .record(first, Outcome::used([item(0).id().clone()]))
        .await
        .unwrap();
    let open = router
        .rank(&query("find files", 2))
        .await
        .unwrap()
        .shortlist
        .decision;
    let weights = router.read(|engine| engine.history().weights(&Surface::Tool));
    drop(router);
    let again = live(&store).await;
    assert_eq!(
        again.read(|engine| engine.history().weights(&Surface::Tool)),
        weights
    );
    again
        .record(open, Outcome::used([item(2).id().clone()]))
        .await
        .unwrap();
    assert!(
        again
            .record(open, Outcome::used([item(2).id().clone()]))
            .await
            .is_err()
    );
    assert_eq!(again.read(|engine| engine.history().outcomes()), 2);
}

/// The log loses what comes before its latest decisions, and nothing after the entry up to which it was learned from;
/// an older state never replaces a newer one.
pub async fn what_was_learned_is_kept_and_the_log_cut(store: Arc<dyn RouterStore>) {
    assert_eq!(store.learned().await.unwrap(), None);
    let forgot = LogEntry::Forgot {
        item: item(0).id().clone(),
    };
    for seed in 0..6 {
        store.append(&decided(seed).1).await.unwrap();
        store.append(&forgot).await.unwrap();
    }
    let numbers = async || {
        let page = store.log(0, 100).await.unwrap().entries;
        page.into_iter().map(|(n, _)| n).collect::<Vec<u64>>()
    };
    store.keep_learned(4, &[4], 2).await.unwrap();
    assert_eq!(numbers().await, [5, 6, 7, 8, 9, 10, 11, 12]);
    store.keep_learned(12, &[1, 2], 2).await.unwrap();
    assert_eq!(
        numbers().await,
        [9, 10, 11, 12],
        "two decisions with what follows them"
    );
    store.keep_learned(11, &[9], 100).await.unwrap();
    assert_eq!(store.learned().await.unwrap(), Some((12, vec![1, 2])));
    assert_eq!(store.log(10, 1).await.unwrap().entries[0].0, 11);
    assert_eq!(store.append(&forgot).await.unwrap(), 13, "numbers go on");
    // What was cut is unknown, and may come again.
    let (cut, entry) = decided(0);
    let outcome = LogEntry::Recorded {
        decision: cut,
        outcome: Outcome::used([]),
    };
    assert!(matches!(
        store.append(&outcome).await,
        Err(StoreError::UnknownDecision)
    ));
    assert_eq!(store.append(&entry).await.unwrap(), 14);
}

async fn live_keeping(store: &Arc<dyn RouterStore>, decisions: usize) -> LiveRouter {
    let options = EngineOptions::default().with_kept(decisions);
    LiveRouter::open(store.clone(), Arc::new(HashingEmbedder), options)
        .await
        .unwrap()
}

/// A router whose log is shortened again and again, and that is opened again and again, has learned what one has that
/// keeps everything.
pub async fn a_shortened_log_gives_the_live_state(store: Arc<dyn RouterStore>) {
    let whole: Arc<dyn RouterStore> = Arc::new(MemoryRouterStore::new());
    let (everything, mut router) = (live(&whole).await, live_keeping(&store, 16).await);
    let mut open = Vec::new();
    for seed in 0..120_u64 {
        if seed % 40 == 39 {
            router = live_keeping(&store, 16).await;
        }
        let asked = query("send mail, find files, read them", seed);
        let used = item((seed % 5) as usize).id().clone();
        let outcome =
            Outcome::used([used]).with_kl_bits((seed as f64 * 0.618_033_988_749_894_9).fract() * 8.0);
        let mut decisions = Vec::new();
        for router in [&everything, &router] {
            if seed % 25 == 0 {
                let texts = ["one", "another"];
                let changed = Item::new(Surface::Tool, "tool_1", texts[(seed / 25 % 2) as usize]).unwrap();
                let changed = changed.with_provider("somebody", Provenance::Verified).unwrap();
                let all = (0..5).filter(|n| *n != 1).map(item).chain([changed]);
                router.upsert_all(all.collect()).await.unwrap();
            }
            let decision = router.rank(&asked).await.unwrap().shortlist.decision;
            if seed % 3 != 0 {
                router.record(decision, outcome.clone()).await.unwrap();
            }
            decisions.push(decision);
        }
        if seed % 3 == 0 {
            open.push(decisions);
        }
    }
    let same = |left: &LiveRouter, right: &LiveRouter| {
        left.read(|left| {
            right.read(|right| assert!(left.history() == right.history(), "they learned differently"));
        });
    };
    same(&everything, &router);
    let log = store.log(0, 1_000).await.unwrap().entries;
    let kept = log
        .iter()
        .filter(|(_, entry)| matches!(entry, LogEntry::Decided(_)));
    assert!((16..=17).contains(&kept.count()), "{} entries", log.len());
    let again = live_keeping(&store, 16).await;
    same(&everything, &again);
    // An outcome can still be told of what the log has, on every router alike.
    let (first, last) = (&open[0], &open[open.len() - 1]);
    let used = || Outcome::used([item(2).id().clone()]);
    everything.record(last[0], used()).await.unwrap();
    again.record(last[1], used()).await.unwrap();
    same(&everything, &again);
    let twice = again.record(last[1], used()).await.unwrap_err();
    assert!(
        matches!(twice, LiveError::Engine(Error::OutcomeTwice(_))),
        "{twice:?}"
    );
    let gone = again.record(first[1], used()).await.unwrap_err();
    assert!(
        matches!(gone, LiveError::Engine(Error::UnknownDecision(_))),
        "{gone:?}"
    );
    let asked = query("read a file", 999);
    let picks = async |router: &LiveRouter| router.rank(&asked).await.unwrap().shortlist.picks;
    assert_eq!(picks(&everything).await, picks(&again).await);
}

/// What one router decided another can record, and both learn from it in the order of the log.
pub async fn routers_of_one_store_learn_from_each_other(store: Arc<dyn RouterStore>) {
    let first = live(&store).await;
    first.upsert_all((0..5).map(item).collect()).await.unwrap();
    let second = live(&store).await;
    for seed in 0..12 {
        let (one, other) = if seed % 3 == 0 {
            (&second, &first)
        } else {
            (&first, &second)
        };
        let asked = query("send mail, find files, read them", seed);
        let decision = one.rank(&asked).await.unwrap().shortlist.decision;
        let used = item((seed % 5) as usize).id().clone();
        other
            .record(decision, Outcome::used([used.clone()]))
            .await
            .unwrap();
        assert!(one.record(decision, Outcome::used([used])).await.is_err());
    }
    // A ranking is an entry too, so after it a router has what came before.
    for router in [&first, &second] {
        router.rank(&query("anything", 99)).await.unwrap();
    }
    first.read(|left| {
        second.read(|right| assert!(left.history() == right.history(), "they learned differently"));
    });
    assert_eq!(live(&store).await.read(|engine| engine.history().outcomes()), 12);
}
