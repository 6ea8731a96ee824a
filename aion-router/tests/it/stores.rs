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
