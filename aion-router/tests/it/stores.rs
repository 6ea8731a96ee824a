//! The stores, each through the same suite, and a live router over them.

use std::sync::Arc;
use std::time::Duration;

use aion_router::embed::{EmbedError, Embedder, embed_one};
use aion_router::store::{LogPage, Put};
use aion_router::{
    ContentHash, Engine, EngineOptions, Feature, HashingEmbedder, HistoryOptions, Item, ItemId, LiveError,
    LiveRouter, LogEntry, MemoryRouterStore, Outcome, RouterStore, Rung, ShortlistState, SqliteRouterStore,
    StoreError, Surface,
};

use crate::fixture::{query, sixty, tools};

mod memory {
    aion_router::router_store_tests!(async { aion_router::MemoryRouterStore::new() });
}

mod sqlite {
    aion_router::router_store_tests!(async { aion_router::SqliteRouterStore::in_memory().await.unwrap() });
}

mod postgres {
    use std::future::Future;
    use std::sync::Arc;

    use aion_router::{PostgresRouterStore, RouterStore, StoreError};
    use aion_sql::testkit::{TestDatabase, VARIABLE};

    /// Where pgvector is, if that is another server. Without it only bytes are tested, unless the first one has it.
    const WITH_VECTORS: &str = "AION_TEST_PGVECTOR";

    async fn run<C, F>(case: C)
    where
        C: FnOnce(Arc<dyn RouterStore>) -> F,
        F: Future<Output = ()>,
    {
        over(VARIABLE, case).await;
    }

    async fn over<C, F>(variable: &str, case: C)
    where
        C: FnOnce(Arc<dyn RouterStore>) -> F,
        F: Future<Output = ()>,
    {
        let Some(database) = TestDatabase::create_at(variable).await else {
            return;
        };
        let store = PostgresRouterStore::open(&database.options()).await.unwrap();
        assert!(store.has_vectors() || variable == VARIABLE);
        case(Arc::new(store.clone())).await;
        store.close().await;
        database.remove().await;
    }

    aion_router::router_store_tests!(with run);

    mod pgvector {
        use super::{Arc, Future, RouterStore, WITH_VECTORS, over};

        async fn run<C, F>(case: C)
        where
            C: FnOnce(Arc<dyn RouterStore>) -> F,
            F: Future<Output = ()>,
        {
            if std::env::var(WITH_VECTORS).is_ok() {
                over(WITH_VECTORS, case).await;
            } else {
                eprintln!("SKIPPED: {WITH_VECTORS} is not set");
            }
        }

        aion_router::router_store_tests!(with run);
    }

    /// What was kept as bytes is read after the extension came, and compared in SQL once it is written again; the
    /// table outlives the extension.
    #[tokio::test]
    async fn the_extension_comes_and_goes() {
        if std::env::var(WITH_VECTORS).is_err() {
            eprintln!("SKIPPED: {WITH_VECTORS} is not set");
            return;
        }
        let Some(database) = TestDatabase::create_at(WITH_VECTORS).await else {
            return;
        };
        let options = database.options();
        let (old, new) = ([1; 32], [2; 32]);
        let store = PostgresRouterStore::open(&options).await.unwrap();
        change(&database, "DROP EXTENSION vector CASCADE").await;
        store.close().await;
        let bytes = "INSERT INTO aion_router.embedding VALUES (decode(repeat('01', 32), 'hex'), '\\x0000803f00000040')";
        change(&database, bytes).await;
        let store = PostgresRouterStore::open(&options).await.unwrap();
        assert!(store.has_vectors());
        assert_eq!(store.embedding(old).await.unwrap().unwrap(), [1.0, 2.0]);
        store.put_embedding(new, &[3.0, 4.0]).await.unwrap();
        let distance = "SELECT vector <-> '[0,0]' FROM aion_router.embedding WHERE vector IS NOT NULL";
        assert_eq!(number(&database, distance).await, 5.0);
        store.put_embedding(old, &[0.0, 1.0]).await.unwrap();
        let both = "SELECT count(vector)::float8 FROM aion_router.embedding WHERE bytes IS NULL";
        assert_eq!(number(&database, both).await, 2.0);
        store.close().await;
        database.remove().await;
    }

    #[tokio::test]
    async fn stores_that_open_at_once_agree() {
        let Some(database) = TestDatabase::create().await else {
            return;
        };
        let opening = (0..4).map(|_| {
            let options = database.options().with_connections(1);
            tokio::spawn(async move { PostgresRouterStore::open(&options).await.unwrap() })
        });
        for opening in opening.collect::<Vec<_>>() {
            opening.await.unwrap().close().await;
        }
        change(&database, "UPDATE aion_router.schema_version SET version = 99").await;
        let newer = PostgresRouterStore::open(&database.options()).await;
        assert!(matches!(newer, Err(StoreError::Open(_))));
        database.remove().await;
    }

    /// Two writers take turns: the log has no gap, and a reader in between never misses what commits later.
    #[tokio::test]
    async fn the_log_has_no_gap_under_two_writers() {
        let Some(database) = TestDatabase::create().await else {
            return;
        };
        let store = Arc::new(PostgresRouterStore::open(&database.options()).await.unwrap());
        let writers = (0..4).map(|_| {
            let store = store.clone();
            tokio::spawn(async move {
                for n in 0..25 {
                    let item = crate::fixture::tools()[n % 5].id().clone();
                    store
                        .append(&aion_router::LogEntry::Forgot { item })
                        .await
                        .unwrap();
                }
            })
        });
        let writers: Vec<_> = writers.collect();
        let mut seen = 0;
        while seen < 100 {
            for (n, _) in store.log(seen, 10).await.unwrap().entries {
                seen += 1;
                assert_eq!(n, seen);
            }
        }
        for writer in writers {
            writer.await.unwrap();
        }
        store.close().await;
        database.remove().await;
    }

    async fn change(database: &TestDatabase, sql: &'static str) {
        let mut connection = connect(database).await;
        sqlx::raw_sql(sql).execute(&mut connection).await.unwrap();
    }

    async fn number(database: &TestDatabase, sql: &'static str) -> f64 {
        let mut connection = connect(database).await;
        sqlx::query_scalar(sql).fetch_one(&mut connection).await.unwrap()
    }

    async fn connect(database: &TestDatabase) -> sqlx::PgConnection {
        sqlx::ConnectOptions::connect(&database.connect()).await.unwrap()
    }
}

/// Fails at queries, as a service that is down does.
#[derive(Debug)]
struct Broken;

impl Embedder for Broken {
    fn model_id(&self) -> &'static str {
        "hashing-384-v1"
    }

    fn dim(&self) -> usize {
        384
    }

    fn embed(&self, texts: &[&str], out: &mut [f32]) -> Result<(), EmbedError> {
        if texts.iter().any(|text| text.contains('?')) {
            return Err(EmbedError::Failed {
                model: "broken".to_owned(),
                source: "it is down".into(),
            });
        }
        HashingEmbedder.embed(texts, out)
    }
}

async fn live(store: Arc<dyn RouterStore>, embedder: Arc<dyn Embedder>) -> LiveRouter {
    let router = LiveRouter::open(store, embedder, EngineOptions::default())
        .await
        .unwrap();
    router.upsert_all(sixty()).await.unwrap();
    router
}

#[tokio::test]
async fn a_file_keeps_everything() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("router.db");
    let store = Arc::new(SqliteRouterStore::open(&path).await.unwrap());
    let router = live(store.clone(), Arc::new(HashingEmbedder)).await;
    let before = router.rank(&query("what is the weather", 30)).await.unwrap();
    store.close().await;
    drop(router);
    let store = Arc::new(SqliteRouterStore::open(&path).await.unwrap());
    let router = LiveRouter::open(store, Arc::new(HashingEmbedder), EngineOptions::default())
        .await
        .unwrap();
    assert_eq!(router.read(|engine| engine.catalog().len()), 60);
    let after = router.rank(&query("what is the weather", 30)).await.unwrap();
    assert_eq!(after.shortlist.picks, before.shortlist.picks);
    std::fs::write(
        folder.path().join("other.db"),
        b"not a database at all, not at all",
    )
    .unwrap();
    let other = SqliteRouterStore::open(folder.path().join("other.db")).await;
    assert!(matches!(other, Err(StoreError::Open(_))));
}

#[tokio::test]
async fn an_embedder_that_fails_is_left_out_and_said() {
    let router = live(Arc::new(MemoryRouterStore::new()), Arc::new(Broken)).await;
    let ranking = router
        .rank(&query("something for the weekend?", 30))
        .await
        .unwrap();
    assert!(matches!(ranking.shortlist.state, ShortlistState::Degraded { .. }));
    assert!(ranking.rungs.iter().any(|record| record.rung == Rung::Embedding));
    let fine = router
        .rank(&query("something for the weekend", 30))
        .await
        .unwrap();
    assert_eq!(fine.shortlist.state, ShortlistState::Active);
}

#[tokio::test]
async fn the_same_question_twice_is_one_decision() {
    let router = live(Arc::new(MemoryRouterStore::new()), Arc::new(HashingEmbedder)).await;
    let first = router.rank(&query("read a file", 30)).await.unwrap().shortlist;
    let again = router.rank(&query("read a file", 30)).await.unwrap().shortlist;
    assert_eq!(first, again);
    let used = || aion_router::Outcome::used([tools()[0].id().clone()]);
    router.record(first.decision, used()).await.unwrap();
    assert!(matches!(
        router.record(first.decision, used()).await,
        Err(LiveError::Engine(_))
    ));
}

/// A store that lets others go first: it writes, then waits for what is slow.
#[derive(Debug, Default)]
struct Slow(MemoryRouterStore);

#[async_trait::async_trait]
impl RouterStore for Slow {
    async fn open_again(&self) -> Result<u64, StoreError> {
        self.0.open_again().await
    }

    async fn put_items(&self, items: &[Item]) -> Result<Put, StoreError> {
        let done = self.0.put_items(items).await;
        if items.iter().any(|item| item.fields().text.contains("slow")) {
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
        done
    }

    async fn remove_item(&self, id: &ItemId) -> Result<bool, StoreError> {
        let done = self.0.remove_item(id).await;
        tokio::time::sleep(Duration::from_millis(20)).await;
        done
    }

    async fn items(&self, after: Option<&ItemId>, limit: usize) -> Result<Vec<Item>, StoreError> {
        self.0.items(after, limit).await
    }

    async fn approve(&self, id: &ItemId, hash: ContentHash) -> Result<(), StoreError> {
        self.0.approve(id, hash).await
    }

    async fn approved(&self) -> Result<Vec<(ItemId, ContentHash)>, StoreError> {
        self.0.approved().await
    }

    async fn put_embedding(&self, key: [u8; 32], vector: &[f32]) -> Result<(), StoreError> {
        self.0.put_embedding(key, vector).await
    }

    async fn embedding(&self, key: [u8; 32]) -> Result<Option<Vec<f32>>, StoreError> {
        self.0.embedding(key).await
    }

    async fn embedding_keys(
        &self,
        after: Option<[u8; 32]>,
        limit: usize,
    ) -> Result<Vec<[u8; 32]>, StoreError> {
        self.0.embedding_keys(after, limit).await
    }

    async fn remove_embeddings(&self, keys: &[[u8; 32]]) -> Result<u64, StoreError> {
        self.0.remove_embeddings(keys).await
    }

    async fn append(&self, entry: &LogEntry) -> Result<u64, StoreError> {
        let done = self.0.append(entry).await?;
        if done.is_multiple_of(3) {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
        Ok(done)
    }

    async fn log(&self, after: u64, limit: usize) -> Result<LogPage, StoreError> {
        self.0.log(after, limit).await
    }

    async fn keep_learned(&self, at: u64, learned: &[u8], decisions: usize) -> Result<(), StoreError> {
        self.0.keep_learned(at, learned, decisions).await
    }

    async fn learned(&self) -> Result<Option<(u64, Vec<u8>)>, StoreError> {
        self.0.learned().await
    }
}

#[tokio::test]
async fn what_is_changed_at_once_ends_alike_in_store_and_memory() {
    let store = Arc::new(Slow::default());
    let router = live(store.clone(), Arc::new(HashingEmbedder)).await;
    let item = |text: &str| Item::new(Surface::Tool, "changing", text).unwrap();
    let id = item("x").id().clone();
    let stored = async || {
        let items = store.items(None, 100).await.unwrap();
        items.into_iter().find(|item| *item.id() == id)
    };
    let known = || router.read(|engine| engine.catalog().get(&id).cloned());
    let (slow, quick) = tokio::join!(
        router.upsert(item("a slow one")),
        router.upsert(item("a quick one"))
    );
    slow.and(quick).unwrap();
    assert_eq!(stored().await, known());
    assert_eq!(known().unwrap().fields().text, "a quick one");
    let (gone, back) = tokio::join!(router.remove(&id), router.upsert(item("back again")));
    assert!(gone.unwrap());
    back.unwrap();
    assert!(known().is_some());
    assert_eq!(stored().await, known());
}

#[tokio::test]
async fn decisions_and_outcomes_at_once_are_learned_in_the_order_of_the_log() {
    let store = Arc::new(Slow::default());
    let router = live(store.clone(), Arc::new(HashingEmbedder)).await;
    let work = (0..8_usize).map(|worker| {
        let router = router.clone();
        async move {
            for step in 0..10 {
                let text = format!("read a file {worker} and send {step}");
                let decision = router.rank(&query(&text, 300)).await.unwrap().shortlist.decision;
                let used = sixty()[(worker * 10 + step) % 60].id().clone();
                let outcome = aion_router::Outcome::used([used]);
                router.record(decision, outcome).await.unwrap();
            }
        }
    });
    futures::future::join_all(work).await;
    let again = LiveRouter::open(store, Arc::new(HashingEmbedder), EngineOptions::default())
        .await
        .unwrap();
    router.read(|live| {
        again.read(|replayed| assert!(live.history() == replayed.history(), "they learned differently"));
    });
}

/// A program that is stopped between the store and the engine is caught up with by the next entry.
#[tokio::test]
async fn what_was_stopped_half_way_is_learned_all_the_same() {
    let store = Arc::new(Slow::default());
    let router = live(store.clone(), Arc::new(HashingEmbedder)).await;
    let mut stopped = 0;
    for step in 0..30 {
        let text = format!("read a file {step}");
        let decision = router.rank(&query(&text, 300)).await.unwrap().shortlist.decision;
        let outcome = aion_router::Outcome::used([sixty()[step * 7 % 60].id().clone()]);
        let recording = router.record(decision, outcome);
        let done = tokio::time::timeout(Duration::from_micros(100), recording).await;
        stopped += u32::from(done.is_err());
    }
    assert!(stopped > 0);
    router.rank(&query("and the last one", 300)).await.unwrap();
    assert_eq!(router.read(|engine| engine.history().outcomes()), 30);
    let again = LiveRouter::open(store, Arc::new(HashingEmbedder), EngineOptions::default())
        .await
        .unwrap();
    router.read(|live| {
        again.read(|replayed| assert!(live.history() == replayed.history(), "they learned differently"));
    });
}

/// What is learned goes on the same from its bytes, also in a ring of past queries that has wrapped; bytes of another
/// program are refused.
#[tokio::test]
async fn learned_bytes_are_read_or_refused() {
    let options = || {
        let history = HistoryOptions::default().with_past_queries(7);
        EngineOptions::default().with_history(history).with_kept(16)
    };
    let store = Arc::new(MemoryRouterStore::new());
    let open = || LiveRouter::open(store.clone(), Arc::new(HashingEmbedder), options());
    let router = open().await.unwrap();
    router.upsert_all(sixty()).await.unwrap();
    for step in 0..40 {
        let text = format!("what is the weather {step}");
        let decision = router.rank(&query(&text, 300)).await.unwrap().shortlist.decision;
        let outcome = aion_router::Outcome::used([sixty()[step * 7 % 60].id().clone()]);
        router.record(decision, outcome).await.unwrap();
    }
    let again = open().await.unwrap();
    router.read(|live| {
        again.read(|restored| assert!(live.history() == restored.history(), "they learned differently"));
    });
    let smaller = HistoryOptions::default().with_past_queries(3);
    let bytes = router.read(|engine| engine.history().to_bytes().unwrap());
    let start = router.read(|engine| *engine.history().start());
    assert!(aion_router::History::from_bytes(start, smaller, &bytes).is_ok());
    for broken in [&bytes[..bytes.len() / 2], b"", b"nothing of ours"] {
        let refused = aion_router::History::from_bytes(start, smaller, broken);
        assert!(matches!(refused, Err(aion_router::Error::BadState { .. })));
    }
    store.keep_learned(1_000, b"nothing of ours", 1).await.unwrap();
    assert!(open().await.is_err());
}

/// Vectors of texts that no item has go, but for as many as may stay; those of items never do.
#[tokio::test]
async fn the_cache_of_embeddings_is_bounded() {
    let store = Arc::new(MemoryRouterStore::new());
    let router = live(store.clone(), Arc::new(HashingEmbedder)).await;
    let item = |text: &str| Item::new(Surface::Tool, "changing", text).unwrap();
    for n in 0..9 {
        router
            .upsert(item(&format!("what it says now: {n}")))
            .await
            .unwrap();
    }
    let count = async || store.embedding_keys(None, 1_000).await.unwrap().len();
    let items = router.read(|engine| engine.catalog().len());
    let before = count().await;
    assert_eq!(before, items + 8, "each text that it ever said");
    assert_eq!(router.forget_embeddings(3).await.unwrap(), 5);
    assert_eq!(count().await, items + 3);
    assert_eq!(router.forget_embeddings(3).await.unwrap(), 0);
    assert_eq!(router.forget_embeddings(0).await.unwrap(), 3);
    let now = item("what it says now: 8").embedded_text();
    let key = aion_router::EmbeddingCache::key(router.embedder().model_id(), &now);
    assert!(store.embedding(key).await.unwrap().is_some());
}

/// Hashing under another name, as an embedder of the same dimension.
#[derive(Debug)]
struct Renamed(&'static str);

impl Embedder for Renamed {
    fn model_id(&self) -> &str {
        self.0
    }

    fn dim(&self) -> usize {
        HashingEmbedder.dim()
    }

    fn embed(&self, texts: &[&str], out: &mut [f32]) -> Result<(), EmbedError> {
        HashingEmbedder.embed(texts, out)
    }
}

/// What past queries say of `plot`, by a router with this embedder; then it is used once more.
async fn past_of(store: &Arc<MemoryRouterStore>, model: &'static str, seed: u64) -> f32 {
    let options = EngineOptions::default();
    let router = LiveRouter::open(store.clone(), Arc::new(Renamed(model)), options)
        .await
        .unwrap();
    router.upsert_all(tools()).await.unwrap();
    let asked = query("what will the sky be like", 1_000).with_seed(seed);
    let id = router.rank(&asked).await.unwrap().shortlist.decision;
    let plot = ItemId::new("tool:plot").unwrap();
    let past = router.read(|engine| {
        let decision = engine.explain(id).unwrap();
        assert_eq!(decision.model.as_deref(), Some(model));
        let candidates = &decision.surfaces[0].candidates;
        let found = candidates
            .iter()
            .find(|candidate| candidate.item == plot)
            .unwrap();
        found.features[Feature::Past.index()]
    });
    router.record(id, Outcome::used([plot.clone()])).await.unwrap();
    assert_eq!(router.read(|engine| engine.history().uses(&plot)), seed as u32);
    // What is kept in place of the log says whose vectors it has.
    let bytes = router.read(|engine| engine.history().to_bytes()).unwrap();
    let votes = |model: &str| {
        let mut engine = Engine::new(EngineOptions::default().with_model(model)).unwrap();
        tools()
            .into_iter()
            .for_each(|item| drop(engine.upsert(item).unwrap()));
        engine.restore(&bytes).unwrap();
        let vector = embed_one(&HashingEmbedder, "what will the sky be like").unwrap();
        let (shortlist, _) = engine.rank(&asked, Some(&vector)).unwrap();
        shortlist
            .picks
            .iter()
            .filter(|pick| pick.why.nearest_past.is_some())
            .count()
    };
    assert_eq!((votes(model), votes("another")), (1, 0));
    past
}

/// Vectors of two models cannot be compared, whatever their dimension; uses count all the same.
#[tokio::test]
async fn vectors_of_another_model_are_left_out() {
    let store = Arc::new(MemoryRouterStore::new());
    assert_eq!(past_of(&store, "one", 1).await, 0.0);
    assert!(past_of(&store, "one", 2).await > 0.5);
    assert_eq!(past_of(&store, "two", 3).await, 0.0);
    assert!(past_of(&store, "two", 4).await > 0.5);
}
