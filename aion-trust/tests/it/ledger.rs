//! Every store passes the suite; settlements happen once, conserve trust, and survive a restart.

mod memory {
    use aion_trust::MemoryLedgerStore;

    aion_trust::ledger_store_tests!(async { MemoryLedgerStore::new() });
}

mod sqlite {
    use aion_trust::SqliteLedgerStore;

    aion_trust::ledger_store_tests!(async { SqliteLedgerStore::in_memory().await.unwrap() });
}

mod postgres {
    use std::future::Future;
    use std::sync::Arc;

    use aion_sql::testkit::TestDatabase;
    use aion_trust::{LedgerStore, PostgresLedgerStore};

    async fn run<C, F>(case: C)
    where
        C: FnOnce(Arc<dyn LedgerStore>) -> F,
        F: Future<Output = ()>,
    {
        let Some(database) = TestDatabase::create().await else {
            return;
        };
        let store = PostgresLedgerStore::open(&database.options()).await.unwrap();
        case(Arc::new(store.clone())).await;
        store.close().await;
        database.remove().await;
    }

    aion_trust::ledger_store_tests!(with run);
}

use std::sync::Arc;

use aion_market::{Forecast, Market, OpenMarket, Report, Resolution};
use aion_trust::rule::published;
use aion_trust::{
    Error, LedgerStore, MemoryLedgerStore, Rule, SqliteLedgerStore, StoreError, TrustLedger, TrustOptions,
    Vote,
};
use aion_types::{ForecasterId, MarketId, MilliTrust, PpmDist, SystemClock, Timestamp};

fn who(name: &str) -> ForecasterId {
    ForecasterId::new(name).unwrap()
}

fn dist(p: u32) -> PpmDist {
    PpmDist::new(vec![p, 1_000_000 - p]).unwrap()
}

async fn report(n: u8, forecasts: &[(&str, u32)], resolution: &Resolution) -> Report {
    let market = Market::in_memory();
    let id = MarketId::from_parts(Timestamp::from_ms(1), [n; 10]);
    market
        .open(&OpenMarket::question(id, "Will it hold?", "k"))
        .await
        .unwrap();
    for (name, p) in forecasts {
        market
            .forecast(id, &Forecast::new(who(name), dist(*p)))
            .await
            .unwrap();
    }
    market.resolve(id, resolution).await.unwrap()
}

fn ledger(store: Arc<dyn LedgerStore>, options: TrustOptions) -> TrustLedger {
    TrustLedger::new(store, Arc::new(SystemClock), options)
}

async fn total(trust: &TrustLedger) -> u64 {
    trust
        .list(100)
        .await
        .unwrap()
        .iter()
        .map(|account| account.balance.get())
        .sum()
}

#[tokio::test]
async fn a_settlement_conserves_trust_and_happens_once() {
    let trust = TrustLedger::in_memory();
    let report = report(1, &[("a", 900_000), ("b", 200_000)], &Resolution::outcome(0)).await;
    let votes = Vote::of_report(&report);
    let first = trust.settle(&report, &votes).await.unwrap();
    assert_eq!(first.deltas.len(), 3);
    assert_eq!(
        first.deltas.iter().map(|delta| delta.change_milli).sum::<i64>(),
        0
    );
    assert_eq!(total(&trust).await, 120_000);
    assert!(first.delta(&who("a")).unwrap().change_milli > 0);
    assert!(first.delta(&who("b")).unwrap().change_milli < 0);
    assert_eq!(trust.settle(&report, &votes).await.unwrap(), first);
    assert_eq!(
        trust.balance(&who("a")).await.unwrap(),
        first.delta(&who("a")).unwrap().after
    );
    let other = [Vote::from_ratio(who("a"), 3.0).unwrap()];
    assert!(matches!(
        trust.settle(&report, &other).await,
        Err(Error::SettledOtherwise(_))
    ));
    assert_eq!(trust.settlement(report.market).await.unwrap(), Some(first));
}

#[tokio::test]
async fn many_settlements_keep_the_total() {
    let trust = TrustLedger::in_memory();
    for n in 1..=40 {
        let ended = Resolution::outcome(usize::from(n % 3 == 0));
        let forecasts = [
            ("good", if n % 3 == 0 { 200_000 } else { 800_000 }),
            ("bad", 300_000),
        ];
        let report = report(n, &forecasts, &ended).await;
        trust.settle(&report, &Vote::of_report(&report)).await.unwrap();
    }
    assert_eq!(total(&trust).await, 120_000);
    let (good, bad) = (
        trust.balance(&who("good")).await.unwrap(),
        trust.balance(&who("bad")).await.unwrap(),
    );
    assert!(
        good > MilliTrust::new(10_000) && bad < MilliTrust::new(10_000),
        "{good:?} {bad:?}"
    );
    let list = trust.list(2).await.unwrap();
    assert_eq!((list.len(), list[0].settlements), (2, 40));
}

#[tokio::test]
async fn void_markets_move_nothing() {
    let trust = TrustLedger::in_memory();
    let report = report(1, &[("a", 900_000)], &Resolution::void("nobody looked")).await;
    let settled = trust.settle(&report, &Vote::of_report(&report)).await.unwrap();
    assert!(settled.deltas.is_empty());
    assert!(trust.list(10).await.unwrap().is_empty());
}

#[tokio::test]
async fn bad_votes_are_refused() {
    let trust = TrustLedger::in_memory();
    let report = report(1, &[("a", 900_000)], &Resolution::outcome(0)).await;
    let vote = Vote::new(who("a"), dist(500_000));
    let twice = [vote.clone(), vote.clone()];
    assert!(matches!(
        trust.settle(&report, &twice).await,
        Err(Error::VotesTwice(_))
    ));
    let house = [Vote::new(ForecasterId::house(), dist(500_000))];
    assert!(matches!(
        trust.settle(&report, &house).await,
        Err(Error::ReservedAccount(_))
    ));
    let three = [Vote::new(who("a"), PpmDist::new(vec![1, 2, 999_997]).unwrap())];
    assert!(matches!(
        trust.settle(&report, &three).await,
        Err(Error::Shape { found: 3, .. })
    ));
    assert!(Vote::from_ratio(who("a"), f64::NAN).is_err());
    assert!(Vote::from_ratio(who("a"), -1.0).is_err());
    assert!(trust.list(10).await.unwrap().is_empty());
}

#[tokio::test]
async fn the_published_rule_never_takes_more_than_there_is() {
    let options = TrustOptions::default()
        .with_rule(Rule::Published {
            alpha_milli: published::ALPHA_MILLI,
        })
        .with_newcomer(MilliTrust::new(100));
    let trust = ledger(Arc::new(MemoryLedgerStore::new()), options);
    let report = report(1, &[("a", 1_000)], &Resolution::outcome(0)).await;
    let settled = trust.settle(&report, &Vote::of_report(&report)).await.unwrap();
    assert_eq!(settled.delta(&who("a")).unwrap().after, MilliTrust::new(0));
}

#[tokio::test]
async fn two_handles_settle_in_parallel_and_lose_nothing() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("trust.db");
    let mut running = Vec::new();
    for n in 1..=8 {
        let store = Arc::new(SqliteLedgerStore::open(&path).await.unwrap());
        let trust = ledger(store, TrustOptions::default());
        let report = report(n, &[("a", 900_000), ("b", 200_000)], &Resolution::outcome(0)).await;
        running.push(tokio::spawn(async move {
            trust.settle(&report, &Vote::of_report(&report)).await
        }));
    }
    for run in running {
        run.await.unwrap().unwrap();
    }
    let trust = ledger(
        Arc::new(SqliteLedgerStore::open(&path).await.unwrap()),
        TrustOptions::default(),
    );
    assert_eq!(total(&trust).await, 120_000);
    assert!(
        trust
            .list(10)
            .await
            .unwrap()
            .iter()
            .all(|account| account.settlements == 8)
    );
}

#[tokio::test]
async fn files_of_others_are_refused() {
    use sqlx::Connection;
    let dir = tempfile::tempdir().unwrap();
    let run_sql = async |path: &std::path::Path, sql: &'static str| {
        let options = sqlx::sqlite::SqliteConnectOptions::new()
            .filename(path)
            .create_if_missing(true);
        let mut connection = sqlx::SqliteConnection::connect_with(&options).await.unwrap();
        sqlx::raw_sql(sql).execute(&mut connection).await.unwrap();
        connection.close().await.unwrap();
    };
    let newer = dir.path().join("newer.db");
    SqliteLedgerStore::open(&newer).await.unwrap().close().await;
    run_sql(&newer, "PRAGMA user_version = 9").await;
    let refused = SqliteLedgerStore::open(&newer).await.unwrap_err();
    assert!(
        matches!(refused, StoreError::NewerDatabase { found: 9, newest: 1 }),
        "{refused:?}"
    );
    let other = dir.path().join("other.db");
    run_sql(&other, "CREATE TABLE t (x)").await;
    assert!(matches!(
        SqliteLedgerStore::open(&other).await,
        Err(StoreError::ForeignDatabase { .. })
    ));
}

#[tokio::test]
async fn a_full_disk_is_told_by_name_and_no_settlement_is_half_written() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("trust.db");
    let small = aion_sql::SqliteOptions::file(&path).with_max_pages(16);
    let store = Arc::new(SqliteLedgerStore::open_with(small).await.unwrap());
    let trust = ledger(store.clone(), TrustOptions::default());
    let mut last = None;
    let full = loop {
        let n = last.map_or(1, |n: u8| n + 1);
        let report = report(n, &[("a", 900_000), ("b", 200_000)], &Resolution::outcome(0)).await;
        match trust.settle(&report, &Vote::of_report(&report)).await {
            Ok(_) => last = Some(n),
            Err(error) => break (error, report),
        }
        assert!(n < 200, "the file never became full");
    };
    let (error, report) = full;
    assert!(
        matches!(error, Error::Store(StoreError::StorageFull(_))),
        "{error:?}"
    );
    assert!(last > Some(2), "{last:?}");
    // All of what was settled, nothing of what was not.
    assert_eq!(total(&trust).await, 120_000);
    assert!(store.settlement(report.market).await.unwrap().is_none());
    drop(trust);
    store.close().await;
    let roomy = ledger(
        Arc::new(SqliteLedgerStore::open(&path).await.unwrap()),
        TrustOptions::default(),
    );
    roomy.settle(&report, &Vote::of_report(&report)).await.unwrap();
    assert_eq!(total(&roomy).await, 120_000);
}
