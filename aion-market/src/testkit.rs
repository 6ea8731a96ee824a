//! The conformance suite of [`MarketStore`]: one named case a promise.
//!
//! `market_store_tests!(async { MyStore::new().await })` makes one test of each case; the crate that
//! uses it needs `tokio` with `macros` and `rt`.
#![allow(clippy::unwrap_used, reason = "a case fails by panicking")]

use std::sync::Arc;

use aion_types::{ForecasterId, ManualClock, MarketId, MicroBits, Ppm, PpmDist, Timestamp};

use crate::ledger::Asset;
use crate::store::{
    Batch, CursorMove, MarketFilter, MarketStatus, MarketStore, MarketView, MarketWrite, StoreError,
};
use crate::{Forecast, MakerSpec, Market, MarketOptions, OpenMarket, Order, Resolution, Trade};

/// Makes one test of each case of the suite, over the store that the expression gives.
#[macro_export]
macro_rules! market_store_tests {
    ($make:expr) => {
        $crate::market_store_tests!(@cases $make;
            an_empty_store_knows_nothing
            events_come_back_as_they_were_written
            a_stale_writer_changes_nothing
            a_batch_is_written_whole_or_not_at_all
            a_cursor_moves_once
            rows_that_do_not_sum_to_zero_are_refused
            lists_are_newest_first_and_paged
            ledger_rows_of_a_market_sum_to_zero
            scores_and_standings_follow_resolutions
            void_markets_score_nobody
            the_log_has_every_event_once_in_order
        );
    };
    (@cases $make:expr; $($case:ident)*) => {
        $(
            #[tokio::test]
            async fn $case() {
                $crate::testkit::$case(std::sync::Arc::new($make.await)).await;
            }
        )*
    };
}

fn handle(store: &Arc<dyn MarketStore>) -> Market {
    let clock = ManualClock::at(Timestamp::from_ms(1_000));
    Market::new(Arc::clone(store), Arc::new(clock), MarketOptions::default())
}

/// The id of the n-th market: they sort by n.
fn id(n: u8) -> MarketId {
    MarketId::from_parts(Timestamp::from_ms(i64::from(n)), [n; 10])
}

fn who(name: &str) -> ForecasterId {
    ForecasterId::new(name).unwrap()
}

fn dist(p: u32) -> PpmDist {
    PpmDist::new(vec![p, 1_000_000 - p]).unwrap()
}

async fn opened(market: &Market, n: u8, kind: &str) -> MarketView {
    market
        .open(&OpenMarket::question(id(n), "Will it hold?", kind).with_uniform_prior())
        .await
        .unwrap()
}

/// A batch that opens a market in another, empty store: valid, and unknown to the store under test.
async fn opening(n: u8) -> MarketWrite {
    let elsewhere = Market::in_memory();
    let view = opened(&elsewhere, n, "k").await;
    let events = elsewhere.events(id(n)).await.unwrap();
    MarketWrite {
        expected: 0,
        view,
        events,
        entries: Vec::new(),
        scores: Vec::new(),
    }
}

/// Nothing is there, and asking is no error.
pub async fn an_empty_store_knows_nothing(store: Arc<dyn MarketStore>) {
    assert!(store.view(id(1)).await.unwrap().is_none());
    assert!(store.events(id(1), 0, 10).await.unwrap().is_empty());
    assert!(
        store
            .views(&MarketFilter::default(), 10)
            .await
            .unwrap()
            .is_empty()
    );
    assert!(store.entries(id(1), 10).await.unwrap().is_empty());
    assert!(store.scores(&who("a"), 10).await.unwrap().is_empty());
    assert!(store.standings(10).await.unwrap().is_empty());
    assert_eq!(store.cursor("tasks").await.unwrap(), 0);
}

/// Events and the summary come back as written, and in pages.
pub async fn events_come_back_as_they_were_written(store: Arc<dyn MarketStore>) {
    let market = handle(&store);
    opened(&market, 1, "k").await;
    for p in [800_000, 600_000, 100_000] {
        market
            .forecast(id(1), &Forecast::new(who("a"), dist(p)).informed())
            .await
            .unwrap();
    }
    let all = store.events(id(1), 0, 10).await.unwrap();
    assert_eq!(
        all.iter().map(|event| event.seq).collect::<Vec<_>>(),
        [1, 2, 3, 4]
    );
    assert_eq!(store.events(id(1), 2, 1).await.unwrap(), all[2..3]);
    let state = crate::engine::MarketState::fold(id(1), &all).unwrap().unwrap();
    assert_eq!(
        store.view(id(1)).await.unwrap().unwrap(),
        MarketView::from(&state)
    );
}

/// A writer that decided on an old version is refused, and nothing of its batch is kept.
pub async fn a_stale_writer_changes_nothing(store: Arc<dyn MarketStore>) {
    let write = opening(1).await;
    let batch = Batch {
        writes: vec![write],
        cursor: None,
    };
    store.commit(&batch).await.unwrap();
    let refused = store.commit(&batch).await.unwrap_err();
    assert!(
        matches!(
            refused,
            StoreError::Conflict {
                expected: 0,
                found: 1,
                ..
            }
        ),
        "{refused:?}"
    );
    assert_eq!(store.events(id(1), 0, 10).await.unwrap().len(), 1);
}

/// If one market of a batch is refused, so is the other, and the cursor stays.
pub async fn a_batch_is_written_whole_or_not_at_all(store: Arc<dyn MarketStore>) {
    store
        .commit(&Batch {
            writes: vec![opening(1).await],
            cursor: None,
        })
        .await
        .unwrap();
    let cursor = CursorMove {
        name: "tasks".to_owned(),
        from: 0,
        to: 7,
    };
    let batch = Batch {
        writes: vec![opening(2).await, opening(1).await],
        cursor: Some(cursor),
    };
    assert!(matches!(
        store.commit(&batch).await,
        Err(StoreError::Conflict { .. })
    ));
    assert!(store.view(id(2)).await.unwrap().is_none());
    assert_eq!(store.cursor("tasks").await.unwrap(), 0);
}

/// A cursor moves only from where it stands, together with what it stands for.
pub async fn a_cursor_moves_once(store: Arc<dyn MarketStore>) {
    let cursor = CursorMove {
        name: "tasks".to_owned(),
        from: 0,
        to: 5,
    };
    let batch = Batch {
        writes: vec![opening(1).await],
        cursor: Some(cursor.clone()),
    };
    store.commit(&batch).await.unwrap();
    assert_eq!(store.cursor("tasks").await.unwrap(), 5);
    let again = Batch {
        writes: vec![opening(2).await],
        cursor: Some(cursor),
    };
    let refused = store.commit(&again).await.unwrap_err();
    assert!(
        matches!(
            refused,
            StoreError::CursorConflict {
                expected: 0,
                found: 5,
                ..
            }
        ),
        "{refused:?}"
    );
    assert!(store.view(id(2)).await.unwrap().is_none());
    assert_eq!(store.cursor("other").await.unwrap(), 0);
}

/// Money cannot be made by a row.
pub async fn rows_that_do_not_sum_to_zero_are_refused(store: Arc<dyn MarketStore>) {
    let mut write = opening(1).await;
    write.entries.push(crate::ledger::Entry {
        seq: 1,
        account: who("a"),
        asset: Asset::Money,
        amount_micro: 1,
    });
    let refused = store
        .commit(&Batch {
            writes: vec![write],
            cursor: None,
        })
        .await;
    assert!(matches!(refused, Err(StoreError::Unbalanced { seq: 1 })));
    assert!(store.view(id(1)).await.unwrap().is_none());
}

/// Lists go from the newest id down, by kind and status, and go on after the last one seen.
pub async fn lists_are_newest_first_and_paged(store: Arc<dyn MarketStore>) {
    let market = handle(&store);
    for (n, kind) in [(1, "a"), (2, "b"), (3, "a"), (4, "a")] {
        opened(&market, n, kind).await;
    }
    market.resolve(id(3), &Resolution::outcome(0)).await.unwrap();
    let ids = async |filter: MarketFilter, limit| {
        let views = store.views(&filter, limit).await.unwrap();
        views.iter().map(|view| view.id).collect::<Vec<_>>()
    };
    assert_eq!(ids(MarketFilter::default(), 3).await, [id(4), id(3), id(2)]);
    assert_eq!(ids(MarketFilter::default().with_before(id(2)), 3).await, [id(1)]);
    assert_eq!(
        ids(MarketFilter::default().with_kind("a"), 9).await,
        [id(4), id(3), id(1)]
    );
    let open = MarketFilter::default().with_status(MarketStatus::Open);
    assert_eq!(ids(open.clone(), 9).await, [id(4), id(2), id(1)]);
    assert_eq!(ids(open.with_kind("a").with_before(id(4)), 9).await, [id(1)]);
}

/// The ledger rows of trades and of the settlement sum to zero for every event and asset.
pub async fn ledger_rows_of_a_market_sum_to_zero(store: Arc<dyn MarketStore>) {
    let market = handle(&store);
    let open = OpenMarket::question(id(1), "Will it hold?", "k")
        .with_uniform_prior()
        .with_maker(MakerSpec::lmsr(100.0).unwrap());
    market.open(&open).await.unwrap();
    for (name, p) in [("a", 800_000), ("b", 300_000)] {
        let trade = Trade::new(who(name), Order::MoveTo { price: dist(p) });
        market.trade(id(1), &trade).await.unwrap();
    }
    market.resolve(id(1), &Resolution::outcome(0)).await.unwrap();
    let entries = store.entries(id(1), 100).await.unwrap();
    assert_eq!(entries.iter().map(|entry| entry.seq).max(), Some(4));
    for asset in [Asset::Money, Asset::Shares(0), Asset::Shares(1)] {
        let rows: Vec<_> = entries.iter().filter(|entry| entry.asset == asset).collect();
        assert!(!rows.is_empty());
        assert_eq!(rows.iter().map(|entry| entry.amount_micro).sum::<i64>(), 0);
    }
}

/// A resolution writes the scores that lists and leaderboards are made of.
pub async fn scores_and_standings_follow_resolutions(store: Arc<dyn MarketStore>) {
    let market = handle(&store);
    for (n, outcome) in [(1, 0), (2, 0), (3, 1)] {
        opened(&market, n, "k").await;
        market
            .forecast(id(n), &Forecast::new(who("a"), dist(800_000)))
            .await
            .unwrap();
        market
            .forecast(id(n), &Forecast::new(who("b"), dist(200_000)))
            .await
            .unwrap();
        market
            .resolve(id(n), &Resolution::outcome(outcome))
            .await
            .unwrap();
    }
    let scores = store.scores(&who("a"), 10).await.unwrap();
    assert_eq!(scores.len(), 3);
    assert_eq!(
        scores.iter().find(|row| row.market == id(1)).unwrap().gain,
        MicroBits::new(678_072)
    );
    assert_eq!(store.scores(&who("a"), 2).await.unwrap().len(), 2);
    let standings = store.standings(10).await.unwrap();
    assert_eq!(standings.len(), 2);
    assert_eq!(standings[0].forecaster, who("a"));
    let total: i64 = scores.iter().map(|row| row.gain.get()).sum();
    assert_eq!((standings[0].gain.get(), standings[0].markets), (total, 3));
    let house = store.scores(&ForecasterId::house(), 10).await.unwrap();
    let price = market.get(id(1)).await.unwrap().price;
    assert_eq!(house.iter().find(|row| row.market == id(1)).unwrap().last, price);
    assert_eq!(price.get(0), Some(Ppm::new(500_000).unwrap()));
}

/// Nobody gains from a question without an answer.
pub async fn void_markets_score_nobody(store: Arc<dyn MarketStore>) {
    let market = handle(&store);
    opened(&market, 1, "k").await;
    market
        .forecast(id(1), &Forecast::new(who("a"), dist(800_000)))
        .await
        .unwrap();
    market
        .resolve(id(1), &Resolution::void("nobody looked"))
        .await
        .unwrap();
    assert!(store.scores(&who("a"), 10).await.unwrap().is_empty());
    assert!(store.standings(10).await.unwrap().is_empty());
    let view = store.view(id(1)).await.unwrap().unwrap();
    assert_eq!(view.status, MarketStatus::Void);
}

/// The log of all markets has each event once, in the order in which it took effect, and is read on
/// from any place.
pub async fn the_log_has_every_event_once_in_order(store: Arc<dyn MarketStore>) {
    assert!(store.log(0, 10).await.unwrap().is_empty());
    let market = handle(&store);
    opened(&market, 2, "k").await;
    opened(&market, 1, "k").await;
    for n in [1, 2, 2, 1] {
        let forecast = Forecast::new(who("anna"), dist(700_000));
        market.forecast(id(n), &forecast).await.unwrap();
    }
    market.resolve(id(1), &Resolution::outcome(0)).await.unwrap();
    let all = store.log(0, 100).await.unwrap();
    let order: Vec<_> = all.iter().map(|one| (one.market, one.stored.seq)).collect();
    let expected = [(2, 1), (1, 1), (1, 2), (2, 2), (2, 3), (1, 3), (1, 4)];
    assert_eq!(order, expected.map(|(n, seq)| (id(n), seq)));
    assert!(all.windows(2).all(|pair| pair[0].place < pair[1].place));
    for logged in &all {
        let events = store
            .events(logged.market, logged.stored.seq - 1, 1)
            .await
            .unwrap();
        assert_eq!(events, [logged.stored.clone()]);
    }
    assert_eq!(store.log(all[2].place, 2).await.unwrap(), all[3..5]);
    assert!(store.log(all[6].place, 2).await.unwrap().is_empty());
    assert!(store.log(u64::MAX, 2).await.unwrap().is_empty());
}
