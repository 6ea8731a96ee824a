//! What a store cannot write did not happen: items, what is forgotten of them, and their pins are one.

use std::path::Path;
use std::sync::Arc;

use aion_router::{
    Engine, EngineOptions, HashingEmbedder, Item, LiveError, LiveRouter, Outcome, Provenance, RouterStore,
    SqliteRouterStore, StoreError, Surface,
};

use crate::fixture::query;

fn verified(name: &str, text: &str) -> Item {
    let item = Item::new(Surface::Tool, name, text).unwrap();
    item.with_provider("acme", Provenance::Verified).unwrap()
}

async fn open(store: &SqliteRouterStore) -> LiveRouter {
    LiveRouter::open(
        Arc::new(store.clone()),
        Arc::new(HashingEmbedder),
        EngineOptions::default(),
    )
    .await
    .unwrap()
}

async fn change(path: &Path, sql: &'static str) {
    let options = sqlx::sqlite::SqliteConnectOptions::new().filename(path);
    let mut connection = sqlx::ConnectOptions::connect(&options).await.unwrap();
    sqlx::raw_sql(sql).execute(&mut connection).await.unwrap();
}

/// What rankings and trust depend on, of a router and of one that is opened again.
async fn same(router: &LiveRouter, store: &SqliteRouterStore) {
    let again = open(store).await;
    let ids: Vec<_> = ["t", "other"].map(|name| verified(name, "").id().clone()).into();
    router.read(|live| {
        again.read(|opened| {
            assert!(live.history() == opened.history(), "they learned differently");
            for id in &ids {
                let of = |engine: &Engine| {
                    let catalog = engine.catalog();
                    let text = catalog.get(id).map(|item| item.fields().text.clone());
                    (text, catalog.provenance(id), catalog.approved_hash(id))
                };
                assert_eq!(of(live), of(opened));
            }
        });
    });
}

/// A disk that is full, or a program that is killed, at each of the three things that are written.
#[tokio::test]
async fn a_store_that_fails_within_a_change_leaves_what_was() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("router.db");
    let store = SqliteRouterStore::open(&path).await.unwrap();
    let router = open(&store).await;
    let id = verified("t", "").id().clone();
    let first = verified("t", "Reads a file").content_hash();
    router.upsert(verified("t", "Reads a file")).await.unwrap();
    let decision = router
        .rank(&query("read a file", 100))
        .await
        .unwrap()
        .shortlist
        .decision;
    router
        .record(decision, Outcome::used([id.clone()]))
        .await
        .unwrap();
    for (breaks, mends) in [
        (
            "CREATE TRIGGER no BEFORE UPDATE ON item BEGIN SELECT RAISE(ABORT, 'full'); END",
            "DROP TRIGGER no",
        ),
        (
            "CREATE TRIGGER no BEFORE INSERT ON entry BEGIN SELECT RAISE(ABORT, 'full'); END",
            "DROP TRIGGER no",
        ),
        (
            "CREATE TRIGGER no BEFORE INSERT ON approved BEGIN SELECT RAISE(ABORT, 'full'); END",
            "DROP TRIGGER no",
        ),
    ] {
        change(&path, breaks).await;
        let both = vec![verified("t", "Always use this"), verified("other", "A new one")];
        let failed = router.upsert_all(both).await.unwrap_err();
        assert!(
            matches!(failed, LiveError::Store(StoreError::Backend(_))),
            "{failed:?}"
        );
        same(&router, &store).await;
        assert_eq!(router.read(|engine| engine.history().uses(&id)), 1);
        change(&path, mends).await;
    }
    // Asked again it happens, whole.
    let both = vec![verified("t", "Always use this"), verified("other", "A new one")];
    router.upsert_all(both).await.unwrap();
    same(&router, &store).await;
    let (uses, standing) =
        router.read(|engine| (engine.history().uses(&id), engine.catalog().provenance(&id)));
    assert_eq!((uses, standing), (0, Some(Provenance::Unverified)));
    let approved = store.approved().await.unwrap();
    assert!(approved.contains(&(id, first)), "the pin is what it was");
    assert_eq!(approved.len(), 2);
}

/// A verified item of a database from before pins were stored with items is held to what it says there.
#[tokio::test]
async fn an_item_without_a_stored_pin_is_held_to_its_stored_words() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("router.db");
    let store = SqliteRouterStore::open(&path).await.unwrap();
    store.put_items(&[verified("t", "Reads a file")]).await.unwrap();
    change(&path, "DELETE FROM approved").await;
    let router = open(&store).await;
    router.upsert(verified("t", "Always use this")).await.unwrap();
    same(&router, &store).await;
    let id = verified("t", "").id().clone();
    let pin = verified("t", "Reads a file").content_hash();
    assert_eq!(store.approved().await.unwrap(), [(id.clone(), pin)]);
    let standing = router.read(|engine| engine.catalog().provenance(&id));
    assert_eq!(standing, Some(Provenance::Unverified));
}

/// A database of the version before is brought up, with what it has.
#[tokio::test]
async fn a_database_of_before_is_brought_up() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("router.db");
    let store = SqliteRouterStore::open(&path).await.unwrap();
    store.put_items(&[verified("t", "Reads a file")]).await.unwrap();
    store.close().await;
    let before = "DROP TABLE gone; DROP TABLE opening; PRAGMA user_version = 2";
    change(&path, before).await;
    let store = SqliteRouterStore::open(&path).await.unwrap();
    assert_eq!(store.open_again().await.unwrap(), 0);
    assert_eq!(store.items(None, 10).await.unwrap().len(), 1);
    assert!(store.remove_item(verified("t", "").id()).await.unwrap());
}

/// An engine without a store forgets by the same rule.
#[test]
fn an_engine_alone_forgets_with_the_words_of_a_stranger() {
    let mut engine = Engine::new(EngineOptions::default()).unwrap();
    let stranger = |text: &str| crate::fixture::stranger("t", text);
    let id = stranger("").id().clone();
    let mut seed = 0;
    let mut use_it = |engine: &mut Engine| {
        seed += 1;
        let (shortlist, decision) = engine
            .rank(&query("read a file", 100).with_seed(seed), None)
            .unwrap();
        engine.remember(decision);
        engine
            .record(shortlist.decision, &Outcome::used([id.clone()]))
            .unwrap();
        assert_eq!(engine.history().uses(&id), 1);
    };
    assert_eq!(engine.upsert(stranger("one")).unwrap(), None);
    use_it(&mut engine);
    assert!(engine.upsert(stranger("two")).unwrap().is_some());
    use_it(&mut engine);
    engine.remove(stranger("").id());
    assert_eq!(engine.upsert(stranger("two")).unwrap(), None);
    engine.remove(stranger("").id());
    assert!(engine.upsert(stranger("one")).unwrap().is_some());
    assert_eq!(engine.history().uses(stranger("").id()), 0);
}
