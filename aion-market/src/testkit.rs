//! The conformance suite of [`MarketStore`]: one named case a promise.
//!
//! `market_store_tests!(async { MyStore::new().await })` makes one test of each case; the crate that
//! uses it needs `tokio` with `macros` and `rt`.
#![allow(clippy::unwrap_used, reason = "a case fails by panicking")]

use std::sync::Arc;

use aion_types::{ForecasterId, ManualClock, MarketId, MicroBits, Ppm, PpmDist, Timestamp};

use crate::ledger::Asset;
use crate::store::{
    Batch, CursorMove, MarketFilter, MarketStatus, MarketStore, MarketView, MarketWrite, ScoreOrder,
    ScoreRow, Standing, StoreError,
};
use crate::{Forecast, MakerSpec, Market, MarketOptions, OpenMarket, Order, Resolution, Trade};

/// Makes one test of each case of the suite: over the store that the expression gives, or, after
/// `with`, by a function that is given the case and runs it on a store of its own.
#[macro_export]
macro_rules! market_store_tests {
    (with $run:path) => {
        $crate::market_store_tests!(@list (with $run));
    };
    ($make:expr) => {
        $crate::market_store_tests!(@list (store $make));
    };
    (@list $how:tt) => {
        $crate::market_store_tests!(@cases $how;
            an_empty_store_knows_nothing
            events_come_back_as_they_were_written
            a_stale_writer_changes_nothing
            a_batch_is_written_whole_or_not_at_all
            a_cursor_moves_once
            rows_that_do_not_sum_to_zero_are_refused
            lists_are_newest_first_and_paged
            ledger_rows_of_a_market_sum_to_zero
            scores_and_standings_follow_resolutions
            scores_are_read_both_ways_in_pages
            standings_are_paged_and_add_up
            void_markets_score_nobody
            the_log_has_every_event_once_in_order
            a_batch_of_requests_is_one_transaction
            many_events_at_once_are_all_there
            a_snapshot_takes_the_place_of_an_older_one
            a_market_goes_on_from_its_snapshot
            a_repeated_key_is_answered_from_the_record
        );
    };
    (@cases $how:tt; $($case:ident)*) => {
        $( $crate::market_store_tests!(@case $how $case); )*
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
        snapshot: None,
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
    assert!(
        store
            .scores(&who("a"), ScoreOrder::Latest, 10)
            .await
            .unwrap()
            .is_empty()
    );
    assert!(store.standings(None, 10).await.unwrap().is_empty());
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
    let scores = store.scores(&who("a"), ScoreOrder::Latest, 10).await.unwrap();
    assert_eq!(scores.len(), 3);
    assert_eq!(
        scores.iter().find(|row| row.market == id(1)).unwrap().gain,
        MicroBits::new(678_072)
    );
    assert_eq!(
        store
            .scores(&who("a"), ScoreOrder::Latest, 2)
            .await
            .unwrap()
            .len(),
        2
    );
    let standings = store.standings(None, 10).await.unwrap();
    assert_eq!(standings.len(), 2);
    assert_eq!(standings[0].forecaster, who("a"));
    let total: i64 = scores.iter().map(|row| row.gain.get()).sum();
    assert_eq!((standings[0].gain.get(), standings[0].markets), (total, 3));
    let house = store
        .scores(&ForecasterId::house(), ScoreOrder::Latest, 10)
        .await
        .unwrap();
    let price = market.get(id(1)).await.unwrap().price;
    assert_eq!(house.iter().find(|row| row.market == id(1)).unwrap().last, price);
    assert_eq!(price.get(0), Some(Ppm::new(500_000).unwrap()));
}

/// Ten markets that end in the same moment, each with forecasts of some of five.
async fn ten_ended(store: &Arc<dyn MarketStore>) -> Market {
    let market = handle(store);
    for n in 1..=10 {
        opened(&market, n, "k").await;
        for (i, name) in ["a", "b", "c", "d", "e"].into_iter().enumerate() {
            if name == "a" || (usize::from(n) + i).is_multiple_of(3) {
                let p = 300_000 + 50_000 * u32::from(n) + 30_000 * i as u32;
                let forecast = Forecast::new(who(name), dist(p.min(990_000)));
                market.forecast(id(n), &forecast).await.unwrap();
            }
        }
        let end = Resolution::outcome(usize::from(n % 2));
        market.resolve(id(n), &end).await.unwrap();
    }
    market
}

/// Pages of scores, forwards and backwards, are the whole, though all ends fall into one moment.
pub async fn scores_are_read_both_ways_in_pages(store: Arc<dyn MarketStore>) {
    ten_ended(&store).await;
    let all = store.scores(&who("a"), ScoreOrder::Latest, 100).await.unwrap();
    assert_eq!(all.len(), 10);
    let (mut order, mut seen) = (ScoreOrder::Latest, Vec::new());
    loop {
        let page = store.scores(&who("a"), order, 3).await.unwrap();
        let Some(last) = page.last() else { break };
        order = ScoreOrder::Before(last.place());
        seen.extend(page);
    }
    assert_eq!(seen, all);
    let (mut order, mut seen) = (ScoreOrder::Oldest, Vec::new());
    loop {
        let page = store.scores(&who("a"), order, 4).await.unwrap();
        let Some(last) = page.last() else { break };
        order = ScoreOrder::After(last.place());
        seen.extend(page);
    }
    seen.reverse();
    assert_eq!(seen, all);
}

/// A standing is the sum of its scores, and pages of standings are the whole leaderboard.
pub async fn standings_are_paged_and_add_up(store: Arc<dyn MarketStore>) {
    ten_ended(&store).await;
    let all = store.standings(None, 100).await.unwrap();
    assert_eq!(all.len(), 5);
    assert!(all.windows(2).all(|pair| pair[0].gain >= pair[1].gain));
    let house = store.standing(&ForecasterId::house()).await.unwrap();
    for standing in all.iter().chain(&house) {
        let of = &standing.forecaster;
        let scores = store.scores(of, ScoreOrder::Latest, 100).await.unwrap();
        assert_sums(standing, &scores);
        assert_eq!(store.standing(of).await.unwrap().as_ref(), Some(standing));
    }
    assert_eq!(house.unwrap().markets, 10);
    assert_eq!(store.standing(&who("nobody")).await.unwrap(), None);
    let mut seen: Vec<Standing> = Vec::new();
    loop {
        let page = store.standings(seen.last(), 2).await.unwrap();
        if page.is_empty() {
            break;
        }
        seen.extend(page);
    }
    assert_eq!(seen, all);
}

fn assert_sums(standing: &Standing, scores: &[ScoreRow]) {
    let sum = |of: fn(&ScoreRow) -> i64| scores.iter().map(of).sum::<i64>();
    assert_eq!(standing.gain.get(), sum(|row| row.gain.get()));
    assert_eq!(standing.baseline.get(), sum(|row| row.baseline.get()));
    assert_eq!(standing.markets, scores.len() as u64);
    let forecasts: u64 = scores.iter().map(|row| row.forecasts).sum();
    assert_eq!(standing.forecasts, forecasts);
    let squares: f64 = scores
        .iter()
        .map(|row| (row.gain.get() as f64 / 1e6).powi(2))
        .sum();
    assert!((standing.squared_bits - squares).abs() < 1e-9);
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
    assert!(
        store
            .scores(&who("a"), ScoreOrder::Latest, 10)
            .await
            .unwrap()
            .is_empty()
    );
    assert!(store.standings(None, 10).await.unwrap().is_empty());
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
        assert_eq!(events, std::slice::from_ref(&logged.stored));
    }
    assert_eq!(store.log(all[2].place, 2).await.unwrap(), all[3..5]);
    assert!(store.log(all[6].place, 2).await.unwrap().is_empty());
    assert!(store.log(u64::MAX, 2).await.unwrap().is_empty());
}

fn trade_to(name: &str, p: u32) -> Trade {
    Trade::new(who(name), Order::MoveTo { price: dist(p) })
}

async fn trading(market: &Market, n: u8) {
    let open = OpenMarket::question(id(n), "Will it hold?", "k")
        .with_uniform_prior()
        .with_maker(MakerSpec::lmsr(100.0).unwrap());
    market.open(&open).await.unwrap();
}

/// Requests of a batch are answered one by one and written together, over several markets.
pub async fn a_batch_of_requests_is_one_transaction(store: Arc<dyn MarketStore>) {
    let market = handle(&store);
    trading(&market, 1).await;
    opened(&market, 2, "k").await;
    let forecast = |name: &str, p| Forecast::new(who(name), dist(p)).with_key(name).unwrap();
    let requests = [
        (id(1), trade_to("a", 800_000).into()),
        (id(2), forecast("b", 700_000).into()),
        (id(9), forecast("b", 700_000).into()),
        (id(1), trade_to("c", 1_000_000).into()),
        (id(2), forecast("b", 700_000).into()),
        (id(1), trade_to("c", 300_000).into()),
    ];
    let answers = market.apply_batch(&requests).await.unwrap();
    let versions: Vec<_> = answers
        .iter()
        .map(|answer| answer.as_ref().map(|fill| fill.version).ok())
        .collect();
    assert_eq!(versions, [Some(2), Some(2), None, None, Some(2), Some(3)]);
    assert!(
        matches!(answers[2], Err(crate::Error::NotFound(_))),
        "{:?}",
        answers[2]
    );
    assert_eq!(store.view(id(1)).await.unwrap().unwrap().trades, 2);
    assert_eq!(store.events(id(2), 0, 10).await.unwrap().len(), 2);
    // Sent again, what had a key is answered from the record.
    let again = market.apply_batch(&requests[1..2]).await.unwrap();
    assert_eq!(again[0].as_ref().unwrap(), answers[1].as_ref().unwrap());
    assert_eq!(store.events(id(2), 0, 10).await.unwrap().len(), 2);
}

/// More events and ledger rows than one statement inserts.
pub async fn many_events_at_once_are_all_there(store: Arc<dyn MarketStore>) {
    let market = handle(&store);
    trading(&market, 1).await;
    let requests: Vec<_> = (0..1_203)
        .map(|n| {
            (
                id(1),
                trade_to("a", if n % 2 == 0 { 600_000 } else { 400_000 }).into(),
            )
        })
        .collect();
    let answers = market.apply_batch(&requests).await.unwrap();
    let taken = answers.iter().filter(|answer| answer.is_ok()).count();
    assert!(taken > 20, "{:?}", answers.last());
    let events = store.events(id(1), 0, 5_000).await.unwrap();
    assert_eq!(events.len(), taken + 1);
    assert!(events.iter().zip(1..).all(|(event, seq)| event.seq == seq));
    let entries = store.entries(id(1), 50_000).await.unwrap();
    assert_eq!(entries.len(), 4 * taken);
    let folded = crate::engine::MarketState::fold(id(1), &events).unwrap().unwrap();
    let money: i64 = entries
        .iter()
        .filter(|entry| entry.account == who("a") && entry.asset == Asset::Money)
        .map(|entry| entry.amount_micro)
        .sum();
    assert_eq!(-money, folded.holdings()[&who("a")].spent_micro);
    assert_eq!(store.log(0, 5_000).await.unwrap().len(), taken + 1);
}

/// A store that keeps snapshots keeps the last one, and reads it back as it was written.
pub async fn a_snapshot_takes_the_place_of_an_older_one(store: Arc<dyn MarketStore>) {
    let options = MarketOptions::default().with_snapshot_every(2);
    let clock = ManualClock::at(Timestamp::from_ms(1_000));
    let market = Market::new(Arc::clone(&store), Arc::new(clock), options);
    assert!(store.snapshot(id(1)).await.unwrap().is_none());
    opened(&market, 1, "k").await;
    for p in [800_000, 600_000, 100_000, 500_000] {
        market
            .forecast(id(1), &Forecast::new(who("a"), dist(p)))
            .await
            .unwrap();
        let events = store.events(id(1), 0, 10).await.unwrap();
        let Some(snapshot) = store.snapshot(id(1)).await.unwrap() else {
            continue;
        };
        let until = usize::try_from(snapshot.version).unwrap();
        assert_eq!(until, events.len() / 2 * 2);
        let folded = crate::engine::MarketState::fold(id(1), &events[..until]).unwrap();
        assert_eq!(Some(snapshot.restore().unwrap()), folded);
    }
}

/// A second handle, which has folded nothing yet, answers as the first one does.
pub async fn a_market_goes_on_from_its_snapshot(store: Arc<dyn MarketStore>) {
    let clock = ManualClock::at(Timestamp::from_ms(1_000));
    let make = || {
        let options = MarketOptions::default().with_snapshot_every(3);
        Market::new(Arc::clone(&store), Arc::new(clock.clone()), options)
    };
    trading(&make(), 1).await;
    for p in [800_000, 600_000, 100_000, 500_000, 900_000] {
        make().trade(id(1), &trade_to("a", p)).await.unwrap();
    }
    let events = store.events(id(1), 0, 10).await.unwrap();
    let folded = crate::engine::MarketState::fold(id(1), &events).unwrap().unwrap();
    let order = Order::MoveTo { price: dist(300_000) };
    assert_eq!(
        make().quote(id(1), &order).await.unwrap(),
        folded.quote(&order).unwrap()
    );
    make().resolve(id(1), &Resolution::outcome(0)).await.unwrap();
}

/// A request that was sent to another handle is answered with what it did there.
pub async fn a_repeated_key_is_answered_from_the_record(store: Arc<dyn MarketStore>) {
    let market = handle(&store);
    opened(&market, 1, "k").await;
    let forecast = Forecast::new(who("a"), dist(800_000)).with_key("1").unwrap();
    let first = market.forecast(id(1), &forecast).await.unwrap();
    let second = handle(&store).forecast(id(1), &forecast).await.unwrap();
    assert_eq!(first, second);
    assert_eq!(store.events(id(1), 0, 10).await.unwrap().len(), 2);
}
