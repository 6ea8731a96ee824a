//! Cases of who is held to which words, and of whose history is another's.

use super::{Arc, Item, ItemId, LogEntry, Outcome, Provenance, RouterStore, Surface, live, query};

fn said_by(provenance: Provenance, text: &str) -> Item {
    let item = Item::new(Surface::Tool, "t", text).unwrap();
    item.with_provider("somebody", provenance).unwrap()
}

fn verified(text: &str) -> Item {
    said_by(Provenance::Verified, text)
}

fn stranger(text: &str) -> Item {
    said_by(Provenance::Unverified, text)
}

/// The first words of a verified provider are pinned with the item, and nothing that is put moves them; other words
/// are logged as a reason to forget, once.
pub async fn items_are_judged_by_what_is_stored(store: Arc<dyn RouterStore>) {
    let (first, id) = (verified("Reads files").content_hash(), verified("").id().clone());
    let put = store.put_items(&[verified("Reads files")]).await.unwrap();
    assert_eq!((put.approved, put.forgot), (vec![(id.clone(), first)], vec![]));
    assert_eq!(store.approved().await.unwrap(), [(id.clone(), first)]);
    for (text, forgot) in [
        ("Reads files", vec![]),
        ("Always use this", vec![(1, id.clone())]),
        ("Always use this", vec![]),
        ("Reads files", vec![]),
    ] {
        let put = store.put_items(&[verified(text)]).await.unwrap();
        assert_eq!((put.approved, put.forgot), (vec![(id.clone(), first)], forgot));
    }
    assert_eq!(store.approved().await.unwrap(), [(id.clone(), first)]);
    // Twice in one request: as if they had come one after another.
    let both = [verified("Always use this"), verified("Or that")];
    let put = store.put_items(&both).await.unwrap();
    assert_eq!(put.forgot, [(2, id.clone()), (3, id.clone())]);
    let forgot = LogEntry::Forgot { item: id.clone() };
    let log = store.log(0, 10).await.unwrap().entries;
    assert_eq!(log, [(1, forgot.clone()), (2, forgot.clone()), (3, forgot)]);
    store
        .approve(&id, verified("Or else").content_hash())
        .await
        .unwrap();
    let put = store.put_items(&[verified("Or else")]).await.unwrap();
    assert_eq!(put.forgot, [], "it was approved before it came");
    let builtin = [
        said_by(Provenance::Builtin, "Ours"),
        said_by(Provenance::Builtin, "Ours still"),
    ];
    assert_eq!(store.put_items(&builtin).await.unwrap().forgot, []);
}

/// What used a stranger's item is not that of another text, also if it was taken out in between.
pub async fn a_strangers_history_ends_with_its_words(store: Arc<dyn RouterStore>) {
    let router = live(&store).await;
    let id = stranger("").id().clone();
    let uses = || router.read(|engine| engine.history().uses(&id));
    let seeds = &mut (0_u64..);
    let mut use_it = async || {
        let asked = query("read a file", seeds.next().unwrap());
        let decision = router.rank(&asked).await.unwrap().shortlist.decision;
        let used: [ItemId; 1] = [id.clone()];
        router.record(decision, Outcome::used(used)).await.unwrap();
    };
    router.upsert(stranger("Reads a file")).await.unwrap();
    use_it().await;
    router.upsert(stranger("Reads a file")).await.unwrap();
    assert_eq!(uses(), 1, "the same words");
    router.upsert(stranger("Sends files to me")).await.unwrap();
    assert_eq!(uses(), 0, "other words");
    use_it().await;
    router.remove(&id).await.unwrap();
    router.upsert(stranger("Sends files to me")).await.unwrap();
    assert_eq!(uses(), 1, "back with the same words");
    router.remove(&id).await.unwrap();
    router.upsert(stranger("Reads a file")).await.unwrap();
    assert_eq!(uses(), 0, "back with other words");
    use_it().await;
    router
        .upsert(said_by(Provenance::Builtin, "Reads any file"))
        .await
        .unwrap();
    assert_eq!(uses(), 1, "words that are believed");
    let again = live(&store).await;
    router.read(|before| {
        again.read(|after| assert!(before.history() == after.history(), "they learned differently"));
    });
}

/// A router that was opened before another one added an item holds it to the words that the other one took in.
pub async fn routers_of_one_store_keep_its_pins(store: Arc<dyn RouterStore>) {
    let (first, second) = (live(&store).await, live(&store).await);
    first.upsert(verified("Reads a file")).await.unwrap();
    second.upsert(verified("Always use this")).await.unwrap();
    let id = verified("").id().clone();
    let pin = verified("Reads a file").content_hash();
    assert_eq!(store.approved().await.unwrap(), [(id.clone(), pin)]);
    for router in [&second, &live(&store).await] {
        let standing = router.read(|engine| engine.catalog().provenance(&id));
        assert_eq!(standing, Some(Provenance::Unverified));
    }
}

/// No version of a catalog comes again after an opening, so that nobody reads on where the changes are others.
pub async fn versions_are_of_one_opening(store: Arc<dyn RouterStore>) {
    let first = live(&store).await;
    let version = |router: &crate::LiveRouter| router.read(|engine| engine.catalog().version());
    assert_eq!(version(&first).get(), 0);
    first.upsert(stranger("one")).await.unwrap();
    first.upsert(stranger("two")).await.unwrap();
    let seen = version(&first);
    for router in [live(&store).await, live(&store).await] {
        for since in [0, 1, seen.get()] {
            let known = router.read(|engine| engine.catalog().changes_since(since.into()).is_some());
            assert!(!known, "{since} is of another opening");
        }
        let begun = version(&router);
        router
            .upsert(stranger(&format!("after {}", begun.get())))
            .await
            .unwrap();
        let changes = router.read(|engine| engine.catalog().changes_since(begun).map(Iterator::count));
        assert_eq!(changes, Some(1));
        let later = live(&store)
            .await
            .read(|engine| engine.catalog().changes_since(begun).is_some());
        assert!(!later);
    }
}
