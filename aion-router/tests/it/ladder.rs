//! The ladder of a live router: it climbs by what is doubted and not by what was drawn, what it served has the
//! probability that the log says, and a model that reads the likeliest is heard.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use aion_router::embed::{EmbedError, Embedder, embed_one};
use aion_router::{
    Decision, Engine, EngineOptions, Error, Exploration, Feature, HashingEmbedder, ItemId, LadderOptions,
    LiveRouter, LogEntry, MemoryRouterStore, Outcome, Profile, Query, Ranking, Reading, Reranker,
    RouterStore, Rung, RungRecord, ShortlistState, Surface, SurfaceBudget,
};
use aion_types::DecisionId;
use proptest::collection::vec;
use proptest::prelude::*;
use proptest::sample::select;

use crate::fixture::{query, tool, tools};

/// A question that shares no word with any tool.
const ODD: &str = "coat or umbrella";

fn id(name: &str) -> ItemId {
    ItemId::new(format!("tool:{name}")).unwrap()
}

fn asked(text: &str, max_items: usize, seed: u64) -> Query {
    let budget = SurfaceBudget::new(Surface::Tool).with_max_items(max_items);
    Query::new(text, 1_000).with_surface(budget).with_seed(seed)
}

fn rungs(ranking: &Ranking) -> Vec<Rung> {
    ranking.rungs.iter().map(|record| record.rung).collect()
}

fn explained(router: &LiveRouter, id: DecisionId) -> Decision {
    router.read(|engine| engine.explain(id).cloned()).unwrap()
}

/// Reads for one word, slowly.
#[derive(Debug)]
struct Reader {
    word: &'static str,
    logit: f64,
}

#[async_trait::async_trait]
impl Reranker for Reader {
    async fn rerank(&self, _: &str, items: &[(ItemId, String)]) -> Result<Vec<f64>, String> {
        assert!(items.len() <= 16, "no more than the likeliest are read");
        tokio::time::sleep(Duration::from_millis(2)).await;
        let logit = |text: &String| if text.contains(self.word) { self.logit } else { 0.0 };
        Ok(items.iter().map(|(_, text)| logit(text)).collect())
    }
}

async fn router(
    options: EngineOptions,
    ladder: LadderOptions,
    reranker: Option<Arc<dyn Reranker>>,
) -> LiveRouter {
    let store = Arc::new(MemoryRouterStore::new());
    let router = LiveRouter::open_with(store, Arc::new(HashingEmbedder), options, ladder, reranker)
        .await
        .unwrap();
    router.upsert_all(tools()).await.unwrap();
    router
}

/// Where a single pick or two are wanted, queries are embedded all the same, and what used a tool is learned.
#[tokio::test]
async fn a_pick_or_two_a_step_learn_vectors() {
    for max_items in [1, 2] {
        let router = router(EngineOptions::default(), LadderOptions::default(), None).await;
        let first = router.rank(&asked(ODD, max_items, 0)).await.unwrap();
        assert_eq!(rungs(&first), [Rung::Lexical, Rung::Embedding]);
        let decision = explained(&router, first.shortlist.decision);
        assert!(decision.vector.is_some());
        assert_eq!(decision.shown().count(), max_items);
        assert_ne!(first.shortlist.picks[0].item, id("plot"));
        for seed in 1..8 {
            let decision = router
                .rank(&asked(ODD, max_items, seed))
                .await
                .unwrap()
                .shortlist
                .decision;
            let outcome = Outcome::used([id("plot")]);
            router.record(decision, outcome).await.unwrap();
        }
        let learned = router
            .rank(&asked("umbrella or coat today", max_items, 9))
            .await
            .unwrap();
        let best = &learned.shortlist.picks[0];
        assert_eq!(best.item, id("plot"));
        assert!(best.why.nearest_past.is_some_and(|past| past.cosine > 0.5));
    }
}

/// A question that names what it wants costs no embedding, once it is known how far words are to be believed.
#[tokio::test]
async fn what_is_clear_by_words_is_not_climbed_for() {
    let router = router(EngineOptions::default(), LadderOptions::default(), None).await;
    for (seed, item) in (1..).zip(tools()) {
        let decision = router.rank(&asked(&item.fields().name, 1, seed)).await.unwrap();
        let outcome = Outcome::used([item.id().clone()]);
        router.record(decision.shortlist.decision, outcome).await.unwrap();
    }
    let clear = router.rank(&asked("resize_image", 1, 0)).await.unwrap();
    assert_eq!(rungs(&clear), [Rung::Lexical]);
    assert!(clear.shortlist.doubt_bits < 1.0 && clear.rungs[0].doubt_bits == clear.shortlist.doubt_bits);
}

/// Of one way to leave something to chance: the arms, and how much is asked of the surface.
#[derive(Debug, Clone)]
struct Chance {
    exploration: Exploration,
    max_items: usize,
    tokens: u32,
    reads: bool,
    text: &'static str,
    taught: Vec<usize>,
}

fn chance() -> impl Strategy<Value = Chance> {
    let texts = select(
        &[
            "read a file and send it by mail",
            "reads a mailbox",
            "which flights are there on a date",
            "runs a shell command",
            "resize_image",
            ODD,
        ][..],
    );
    let arms = (0.1..0.3_f64, 0.1..0.3_f64, 0.1..0.2_f64);
    let taught = vec(0_usize..24, 0..12);
    (arms, 1_usize..4, 8_u32..60, any::<bool>(), texts, taught).prop_map(
        |((holdout, uniform, content), max_items, tokens, reads, text, taught)| Chance {
            exploration: Exploration::default()
                .with_holdout(holdout)
                .with_arm(Profile::Uniform, uniform)
                .with_arm(Profile::Content, content),
            max_items,
            tokens,
            reads,
            text,
            taught,
        },
    )
}

impl Chance {
    async fn router(&self) -> LiveRouter {
        let options = EngineOptions::default().with_exploration(self.exploration.clone());
        let reader = Arc::new(Quick) as Arc<dyn Reranker>;
        let router = router(options, LadderOptions::default(), self.reads.then_some(reader)).await;
        for (seed, used) in (0..).zip(&self.taught) {
            let decision = router
                .rank(&asked(self.text, 4, seed))
                .await
                .unwrap()
                .shortlist
                .decision;
            let outcome = Outcome::used([tools()[*used].id().clone()]);
            router.record(decision, outcome).await.unwrap();
        }
        router
    }

    fn query(&self, seed: u64) -> Query {
        let mut query = asked(self.text, self.max_items, seed);
        query.total_tokens = self.tokens;
        query
    }
}

/// Reads at once; what it says differs from item to item.
#[derive(Debug)]
struct Quick;

#[async_trait::async_trait]
impl Reranker for Quick {
    async fn rerank(&self, _: &str, items: &[(ItemId, String)]) -> Result<Vec<f64>, String> {
        Ok(items.iter().map(|(_, text)| (text.len() % 7) as f64).collect())
    }
}

/// How often the same picks were served, and with what probability the log says so.
async fn served(
    router: &LiveRouter,
    chance: &Chance,
    times: u64,
) -> BTreeMap<Vec<(ItemId, usize)>, (u64, f64)> {
    let mut served = BTreeMap::new();
    let mut climbed = None;
    for seed in 0..times {
        let ranking = router.rank(&chance.query(1_000 + seed)).await.unwrap();
        let rungs: Vec<(Rung, f64)> = ranking.rungs.iter().map(|r| (r.rung, r.doubt_bits)).collect();
        let before = climbed.get_or_insert_with(|| rungs.clone());
        assert_eq!(*before, rungs, "whatever is drawn, it climbs as far");
        let decision = explained(router, ranking.shortlist.decision);
        assert_eq!(decision.propensity, ranking.shortlist.propensity);
        let mut picks: Vec<(ItemId, usize)> = ranking
            .shortlist
            .picks
            .into_iter()
            .map(|pick| (pick.item, pick.rendering))
            .collect();
        picks.sort();
        let propensity = ranking.shortlist.propensity.unwrap();
        let (count, first) = served.entry(picks).or_insert((0, propensity));
        assert!(
            (*first - propensity).abs() < 1e-12,
            "the same picks, the same propensity"
        );
        *count += 1;
    }
    served
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(12))]

    /// What a live router serves has the probability that it logs: they sum to 1 over what is served, and each is served
    /// about as often (Horvitz and Thompson 1952 need no more for an unbiased estimate).
    #[test]
    fn propensities_are_those_that_were_served(chance in chance()) {
        const TIMES: u64 = 300;
        let runtime = tokio::runtime::Builder::new_current_thread().enable_time().build().unwrap();
        let served = runtime.block_on(async {
            let router = chance.router().await;
            served(&router, &chance, TIMES).await
        });
        let total: f64 = served.values().map(|(_, p)| p).sum();
        prop_assert!((total - 1.0).abs() < 1e-9, "all that is served together: {}", total);
        for (count, p) in served.values() {
            let share = *count as f64 / TIMES as f64;
            let noise = (p * (1.0 - p) / TIMES as f64).sqrt();
            prop_assert!((share - p).abs() < 5.0 * noise + 1e-9, "{} {}", share, p);
        }
    }
}

/// Is asked only while it is up.
#[derive(Debug, Default)]
struct Away(AtomicBool);

impl Embedder for Away {
    fn model_id(&self) -> &'static str {
        "hashing-384-v1"
    }

    fn dim(&self) -> usize {
        384
    }

    fn embed(&self, texts: &[&str], out: &mut [f32]) -> Result<(), EmbedError> {
        if self.0.load(Ordering::SeqCst) {
            return Err(EmbedError::Failed {
                model: "away".to_owned(),
                source: "nobody answers".into(),
            });
        }
        HashingEmbedder.embed(texts, out)
    }
}

/// A ranking by words alone, because the embedder is away, is not the one that is made when it is back: each is stored,
/// and each outcome is learned with what it was about.
#[tokio::test]
async fn a_ranking_with_an_embedding_is_another_decision() {
    let embedder = Arc::new(Away::default());
    let store = Arc::new(MemoryRouterStore::new());
    let router = LiveRouter::open(store.clone(), embedder.clone(), EngineOptions::default())
        .await
        .unwrap();
    router.upsert_all(tools()).await.unwrap();
    embedder.0.store(true, Ordering::SeqCst);
    let without = router.rank(&asked(ODD, 2, 0)).await.unwrap().shortlist;
    embedder.0.store(false, Ordering::SeqCst);
    let with = router.rank(&asked(ODD, 2, 0)).await.unwrap().shortlist;
    assert_ne!(without.decision, with.decision);
    let again = router.rank(&asked(ODD, 2, 0)).await.unwrap().shortlist;
    assert_eq!(again, with);
    for (shortlist, has_vector) in [(&without, false), (&with, true)] {
        let decision = explained(&router, shortlist.decision);
        assert_eq!(decision.vector.is_some(), has_vector);
        let shown: Vec<&ItemId> = shortlist.picks.iter().map(|pick| &pick.item).collect();
        assert_eq!(decision.shown().collect::<Vec<_>>(), shown);
        let used = Outcome::used([id("weather_now")]);
        router.record(shortlist.decision, used).await.unwrap();
    }
    assert_eq!(store.log(0, 100).await.unwrap().entries.len(), 4);
}

/// An id says what was asked, by what vector, what was read, what was picked, and how likely that was.
#[test]
fn ids_are_those_of_what_was_served() {
    let engine = |options: EngineOptions| {
        let mut engine = Engine::new(options).unwrap();
        for item in tools() {
            let (id, vector) = (
                item.id().clone(),
                embed_one(&HashingEmbedder, &item.embedded_text()).unwrap(),
            );
            engine.upsert(item).unwrap();
            engine.set_vector(&id, &vector).unwrap();
        }
        engine
    };
    let (plain, asked) = (engine(EngineOptions::default()), query("read a mailbox", 30));
    let vectors = ["a", "b"].map(|text| embed_one(&HashingEmbedder, text).unwrap());
    let reading = |logit| {
        let item = id("read_mail");
        vec![Reading { item, logit }]
    };
    let rank = |vector: Option<&Vec<f32>>, readings: &[Reading]| {
        let (shortlist, decision) = plain
            .rank_read(&asked, vector.map(Vec::as_slice), readings)
            .unwrap();
        assert_eq!(shortlist.decision, decision.id);
        decision.id
    };
    let ids = [
        rank(None, &[]),
        rank(Some(&vectors[0]), &[]),
        rank(Some(&vectors[1]), &[]),
        rank(None, &reading(1.0)),
        rank(None, &reading(2.0)),
    ];
    assert_eq!(ids.iter().collect::<std::collections::BTreeSet<_>>().len(), 5);
    assert_eq!(rank(Some(&vectors[0]), &[]), ids[1]);
    assert_eq!(rank(None, &reading(2.0)), ids[4]);

    // The same question to an engine that leaves something to chance: where other items are picked, it is another id.
    let explores =
        EngineOptions::default().with_exploration(Exploration::default().with_arm(Profile::Uniform, 0.9));
    let (served, _) = engine(explores).rank(&asked, None).unwrap();
    assert_ne!(served.decision, ids[0]);
    let rarely =
        EngineOptions::default().with_exploration(Exploration::default().with_arm(Profile::Uniform, 0.8));
    let (rarer, _) = engine(rarely).rank(&asked, None).unwrap();
    assert!(rarer.decision != served.decision && rarer.propensity != served.propensity);
}

/// A model that reads the likeliest items moves them, says how much doubt it took away, and changes nothing of what
/// weights are learned from or what is held out.
#[tokio::test]
async fn a_model_that_reads_is_heard() {
    let reader = Arc::new(Reader {
        word: "chart",
        logit: 9.0,
    });
    let store = Arc::new(MemoryRouterStore::new());
    let router = LiveRouter::open_with(
        store.clone(),
        Arc::new(HashingEmbedder),
        EngineOptions::default(),
        LadderOptions::default(),
        Some(reader),
    )
    .await
    .unwrap();
    // No more than are read, so that the one in question is among them.
    let few: Vec<_> = tools().into_iter().skip(10).collect();
    router.upsert_all(few).await.unwrap();
    let ranking = router.rank(&asked(ODD, 1, 0)).await.unwrap();
    assert_eq!(rungs(&ranking), [Rung::Lexical, Rung::Embedding, Rung::Rerank]);
    let best = &ranking.shortlist.picks[0];
    assert_eq!(best.item, id("plot"));
    assert_eq!(best.why.terms.last(), Some(&(Feature::Read, 9.0)));
    let logit = (best.p / ranking.shortlist.none[0]).ln();
    assert!((best.why.logit() - logit).abs() < 1e-9);

    let [.., embedded, read] = ranking.rungs.as_slice() else {
        panic!("three rungs");
    };
    assert!(read.gain_bits > 0.0, "{read:?}");
    assert!((read.gain_bits - (embedded.doubt_bits - read.doubt_bits)).abs() < 1e-12);
    assert_eq!(read.doubt_bits, ranking.shortlist.doubt_bits);
    assert!(read.took_us >= 2_000 && read.cost_us == 1_000_000, "{read:?}");
    let kept: Vec<RungRecord> = match &store.log(0, 10).await.unwrap().entries[..] {
        [(_, LogEntry::Decided(decision))] => decision.rungs.clone(),
        other => panic!("one decision, not {other:?}"),
    };
    assert_eq!(kept, ranking.rungs, "the log says what the rungs took");

    let decision = explained(&router, ranking.shortlist.decision);
    let vector = embed_one(&HashingEmbedder, ODD).unwrap();
    let unread = router.read(|engine| engine.rank(&asked(ODD, 1, 0), Some(&vector)).unwrap().1);
    let by_item = |decision: &Decision| {
        let candidates = decision.surfaces[0].candidates.iter();
        candidates
            .map(|logged| (logged.item.clone(), (logged.features, logged.p)))
            .collect::<BTreeMap<_, _>>()
    };
    assert_eq!(by_item(&decision), by_item(&unread));
    assert_ne!(unread.shown().next(), Some(&id("plot")));
}

/// A rung that the budget does not pay for is not climbed; one that fails is said, beside everything else that is amiss.
#[tokio::test]
async fn what_is_amiss_is_said_together() {
    #[derive(Debug)]
    struct Mumbles;
    #[async_trait::async_trait]
    impl Reranker for Mumbles {
        async fn rerank(&self, _: &str, _: &[(ItemId, String)]) -> Result<Vec<f64>, String> {
            Ok(vec![f64::NAN])
        }
    }
    let embedder = Arc::new(Away::default());
    let open = async |ladder| {
        let store = Arc::new(MemoryRouterStore::new());
        let options = EngineOptions::default();
        let router = LiveRouter::open_with(store, embedder.clone(), options, ladder, Some(Arc::new(Mumbles)))
            .await
            .unwrap();
        router.upsert_all(tools()).await.unwrap();
        let dear = tool("always", &"a long word ".repeat(80)).pinned();
        router.upsert(dear).await.unwrap();
        router
    };
    let reason = |ranking: Ranking| match ranking.shortlist.state {
        ShortlistState::Degraded { reason } => reason,
        state => panic!("degraded, and not {state:?}"),
    };
    let (rich, poor) = (
        open(LadderOptions::default()).await,
        open(LadderOptions::default().with_budget_us(20_000)).await,
    );
    embedder.0.store(true, Ordering::SeqCst);
    let mut small = asked(ODD, 1, 0);
    small.total_tokens = 1;
    let all = reason(rich.rank(&small).await.unwrap());
    let parts: Vec<&str> = all.split("; ").collect();
    assert_eq!(parts.len(), 3, "{all}");
    assert!(parts[0].contains("tool:always must be in"), "{all}");
    assert!(
        parts[1].contains("nobody answers") && parts[2].contains("finite numbers"),
        "{all}"
    );
    let ranking = poor.rank(&small).await.unwrap();
    assert_eq!(rungs(&ranking), [Rung::Lexical, Rung::Embedding]);
    assert!(!reason(ranking).contains("finite numbers"));
    let unread = rich.read(|engine| {
        let item = id("plot");
        let readings = [Reading {
            item,
            logit: f64::NAN,
        }];
        engine.rank_read(&small, None, &readings).map(|_| ())
    });
    assert!(matches!(unread, Err(Error::OutOfRange { .. })));
}
