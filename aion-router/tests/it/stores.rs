//! The stores, each through the same suite, and a live router over them.

use std::sync::Arc;

use aion_router::embed::{EmbedError, Embedder};
use aion_router::{
    EngineOptions, HashingEmbedder, LiveError, LiveRouter, MemoryRouterStore, RouterStore, Rung,
    ShortlistState, SqliteRouterStore, StoreError,
};

use crate::fixture::{query, tools};

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
    for item in tools() {
        router.upsert(item).await.unwrap();
    }
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
    assert_eq!(router.read(|engine| engine.catalog().len()), 24);
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
