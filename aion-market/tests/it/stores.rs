//! Every store passes the suite; databases of others are refused, old ones open, a full disk loses nothing.

mod memory {
    use aion_market::MemoryMarketStore;

    aion_market::market_store_tests!(async { MemoryMarketStore::new() });
}

mod sqlite {
    use aion_market::SqliteMarketStore;

    aion_market::market_store_tests!(async { SqliteMarketStore::in_memory().await.unwrap() });
}

mod postgres {
    use std::future::Future;
    use std::sync::Arc;

    use aion_market::{MarketStore, PostgresMarketStore, StoreError};
    use aion_sql::testkit::TestDatabase;

    async fn run<C, F>(case: C)
    where
        C: FnOnce(Arc<dyn MarketStore>) -> F,
        F: Future<Output = ()>,
    {
        let Some(database) = TestDatabase::create().await else {
            return;
        };
        let store = PostgresMarketStore::open(&database.options()).await.unwrap();
        case(Arc::new(store.clone())).await;
        store.close().await;
        database.remove().await;
    }

    aion_market::market_store_tests!(with run);

    #[tokio::test]
    async fn writers_in_parallel_lose_nothing() {
        let Some(database) = TestDatabase::create().await else {
            return;
        };
        let first = Arc::new(PostgresMarketStore::open(&database.options()).await.unwrap());
        let second = Arc::new(PostgresMarketStore::open(&database.options()).await.unwrap());
        super::eight_writers([first.clone(), second.clone()]).await;
        first.close().await;
        second.close().await;
        database.remove().await;
    }

    #[tokio::test]
    async fn a_newer_or_foreign_schema_is_refused() {
        let Some(database) = TestDatabase::create().await else {
            return;
        };
        let options = database.options();
        let store = PostgresMarketStore::open(&options).await.unwrap();
        let sql = "UPDATE aion_market.schema_version SET version = 99";
        change(&database, sql).await.unwrap();
        let newer = PostgresMarketStore::open(&options).await.unwrap_err();
        assert!(
            matches!(newer, StoreError::NewerDatabase { found: 99, newest: 2 }),
            "{newer:?}"
        );
        store.close().await;
        change(&database, "DROP TABLE aion_market.schema_version")
            .await
            .unwrap();
        let foreign = PostgresMarketStore::open(&options).await.unwrap_err();
        assert!(
            matches!(foreign, StoreError::ForeignDatabase { found: 0 }),
            "{foreign:?}"
        );
        database.remove().await;
    }

    #[tokio::test]
    async fn the_database_itself_refuses_to_change_the_past_or_lose_balance() {
        let Some(database) = TestDatabase::create().await else {
            return;
        };
        let store = Arc::new(PostgresMarketStore::open(&database.options()).await.unwrap());
        super::filled(store.clone()).await;
        for (sql, says) in [
            (
                "UPDATE aion_market.event SET body = '{}'",
                "events are never changed",
            ),
            (
                "UPDATE aion_market.posting SET amount = 1",
                "postings are never changed",
            ),
            (
                "INSERT INTO aion_market.posting SELECT market_id, seq, 99, gets, gets, outcome, amount
                 FROM aion_market.posting",
                "check constraint",
            ),
        ] {
            let refused = change(&database, sql).await.unwrap_err();
            assert!(refused.to_string().contains(says), "{sql}: {refused}");
        }
        let sums = "SELECT count(*) FROM (SELECT 1 FROM aion_market.entry
                    GROUP BY market_id, seq, outcome HAVING sum(amount) <> 0) AS unbalanced";
        let mut connection = connect(&database).await;
        let unbalanced: i64 = sqlx::query_scalar(sums).fetch_one(&mut connection).await.unwrap();
        assert_eq!(unbalanced, 0);
        drop(connection);
        store.close().await;
        database.remove().await;
    }

    async fn connect(database: &TestDatabase) -> sqlx::PgConnection {
        use sqlx::ConnectOptions;
        database.connect().connect().await.unwrap()
    }

    async fn change(database: &TestDatabase, sql: &'static str) -> Result<(), sqlx::Error> {
        use sqlx::Connection;
        let mut connection = connect(database).await;
        let changed = sqlx::raw_sql(sql).execute(&mut connection).await.map(drop);
        connection.close().await?;
        changed
    }
}

use std::sync::Arc;

use aion_market::{
    Error, Forecast, MakerSpec, Market, MarketOptions, MarketStore, OpenMarket, Order, Report, Request,
    Resolution, SqliteMarketStore, StoreError, Trade,
};
use aion_sql::{Schema, SqliteOptions};
use aion_types::{ForecasterId, MarketId, PpmDist, SystemClock, Timestamp};

async fn open(path: &std::path::Path) -> Result<Market, StoreError> {
    let store = Arc::new(SqliteMarketStore::open(path).await?);
    Ok(Market::new(
        store,
        Arc::new(SystemClock),
        MarketOptions::default(),
    ))
}

async fn run_sql(path: &std::path::Path, sql: &'static str) {
    use sqlx::Connection;
    let options = sqlx::sqlite::SqliteConnectOptions::new()
        .filename(path)
        .create_if_missing(true);
    let mut connection = sqlx::SqliteConnection::connect_with(&options).await.unwrap();
    sqlx::raw_sql(sql).execute(&mut connection).await.unwrap();
    connection.close().await.unwrap();
}

#[tokio::test]
async fn a_file_keeps_markets_and_can_be_opened_twice() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("market.db");
    let id = MarketId::generate(Timestamp::from_ms(5));
    let (first, second) = (open(&path).await.unwrap(), open(&path).await.unwrap());
    first
        .open(&OpenMarket::question(id, "Will it hold?", "k"))
        .await
        .unwrap();
    let report = second.resolve(id, &Resolution::outcome(1)).await.unwrap();
    drop((first, second));
    let third = open(&path).await.unwrap();
    assert_eq!(third.report(id).await.unwrap(), report);
    assert!(report.verify().unwrap());
}

#[tokio::test]
async fn a_newer_database_is_refused() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("market.db");
    open(&path).await.unwrap();
    run_sql(&path, "PRAGMA user_version = 99").await;
    let refused = open(&path).await.unwrap_err();
    assert!(
        matches!(refused, StoreError::NewerDatabase { found: 99, newest: 4 }),
        "{refused:?}"
    );
}

#[tokio::test]
async fn a_database_of_another_program_is_refused() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("other.db");
    run_sql(&path, "CREATE TABLE t (x)").await;
    assert!(matches!(
        open(&path).await,
        Err(StoreError::ForeignDatabase { found: 0 })
    ));
    let marked = dir.path().join("marked.db");
    run_sql(&marked, "PRAGMA application_id = 7").await;
    assert!(matches!(
        open(&marked).await,
        Err(StoreError::ForeignDatabase { found: 7 })
    ));
}

#[tokio::test]
async fn a_file_that_is_no_database_is_refused() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("market.db");
    std::fs::write(&path, vec![b'x'; 4_096]).unwrap();
    assert!(matches!(open(&path).await, Err(StoreError::Backend(_))));
}

#[tokio::test]
async fn an_event_cannot_be_rewritten() {
    use sqlx::Connection;
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("market.db");
    let market = open(&path).await.unwrap();
    let id = MarketId::generate(Timestamp::from_ms(5));
    market
        .open(&OpenMarket::question(id, "Will it hold?", "k"))
        .await
        .unwrap();
    let options = sqlx::sqlite::SqliteConnectOptions::new().filename(&path);
    let mut connection = sqlx::SqliteConnection::connect_with(&options).await.unwrap();
    let update = sqlx::query("UPDATE event SET body = '{}'")
        .execute(&mut connection)
        .await;
    assert!(update.unwrap_err().to_string().contains("never changed"));
}

#[tokio::test]
async fn writers_in_parallel_lose_nothing() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("market.db");
    let stores = [
        SqliteMarketStore::open(&path).await.unwrap(),
        SqliteMarketStore::open(&path).await.unwrap(),
    ];
    eight_writers(stores.map(|store| Arc::new(store) as Arc<dyn MarketStore>)).await;
}

/// Handles that do not know of each other lose nothing, and readers of the log miss nothing.
async fn eight_writers(stores: [Arc<dyn MarketStore>; 2]) {
    let id = MarketId::generate(Timestamp::from_ms(5));
    let open = OpenMarket::question(id, "Will it hold?", "k");
    handle(stores[0].clone()).open(&open).await.unwrap();
    let mut tasks = Vec::new();
    for (n, store) in stores.iter().cycle().take(8).cloned().enumerate() {
        tasks.push(tokio::spawn(async move {
            let who = ForecasterId::new(format!("f{n}")).unwrap();
            let forecast = Forecast::new(who, dist(900_000));
            handle(store).forecast(id, &forecast).await.map(drop)
        }));
    }
    let mut read = Vec::new();
    while read.len() < 9 {
        let after = read.last().copied().unwrap_or(0);
        let found = stores[1].log(after, 100).await.unwrap();
        read.extend(found.iter().map(|logged| logged.place));
    }
    for task in tasks {
        task.await.unwrap().unwrap();
    }
    assert!(read.windows(2).all(|pair| pair[0] < pair[1]), "{read:?}");
    let events = stores[1].events(id, 0, 100).await.unwrap();
    assert_eq!(events.len(), 9);
    // Two pseudo-counts at one half and eight reports of 0.9.
    let price = stores[0].view(id).await.unwrap().unwrap().price;
    assert_eq!(price.parts(), [820_000, 180_000]);
}

fn handle(store: Arc<dyn MarketStore>) -> Market {
    Market::new(store, Arc::new(SystemClock), MarketOptions::default())
}

fn dist(p: u32) -> PpmDist {
    PpmDist::new(vec![p, 1_000_000 - p]).unwrap()
}

/// A market with trades and an end.
async fn filled(store: Arc<dyn MarketStore>) -> (Market, MarketId) {
    let (market, id) = (handle(store), MarketId::generate(Timestamp::from_ms(5)));
    let open = OpenMarket::question(id, "Will it hold?", "k")
        .with_uniform_prior()
        .with_maker(MakerSpec::lmsr(100.0).unwrap());
    market.open(&open).await.unwrap();
    for (name, p) in [("a", 800_000), ("b", 300_000), ("a", 700_000)] {
        let order = Order::MoveTo { price: dist(p) };
        let trade = Trade::new(ForecasterId::new(name).unwrap(), order);
        market.trade(id, &trade).await.unwrap();
    }
    market.resolve(id, &Resolution::outcome(0)).await.unwrap();
    (market, id)
}

/// A file of the first two schemas, with the rows that the program of then wrote.
async fn old_file(path: &std::path::Path) -> (Report, MarketId, Vec<aion_market::ledger::Entry>) {
    let old = Schema {
        name: "aion_market",
        application_id: 0x4169_6d6b,
        sqlite: &[
            include_str!("../../src/store/migrations/0001_markets.sql"),
            include_str!("../../src/store/migrations/0002_log.sql"),
        ],
        postgres: &[],
    };
    let pool = old.open_sqlite(&SqliteOptions::file(path)).await.unwrap();
    let (market, id) = filled(Arc::new(aion_market::MemoryMarketStore::new())).await;
    let view = market.get(id).await.unwrap();
    sqlx::query("INSERT INTO market (id, version, status, kind, view) VALUES (?, ?, ?, ?, ?)")
        .bind(id.as_bytes().as_slice())
        .bind(i64::try_from(view.version).unwrap())
        .bind(view.status.as_str())
        .bind(&view.spec.kind)
        .bind(serde_json::to_string(&view).unwrap())
        .execute(&pool)
        .await
        .unwrap();
    for stored in market.events(id).await.unwrap() {
        sqlx::query("INSERT INTO event (market_id, seq, body) VALUES (?, ?, ?)")
            .bind(id.as_bytes().as_slice())
            .bind(i64::try_from(stored.seq).unwrap())
            .bind(serde_json::to_string(&stored).unwrap())
            .execute(&pool)
            .await
            .unwrap();
    }
    for score in market
        .store()
        .scores(
            &ForecasterId::new("a").unwrap(),
            aion_market::store::ScoreOrder::Latest,
            9,
        )
        .await
        .unwrap()
    {
        sqlx::query(
            "INSERT INTO score (forecaster, resolved_at, market_id, gain, baseline, forecasts, body)
             VALUES (?, ?, ?, ?, ?, ?, ?)",
        )
        .bind(score.forecaster.as_str())
        .bind(score.resolved_at.as_ms())
        .bind(id.as_bytes().as_slice())
        .bind(score.gain.get())
        .bind(score.baseline.get())
        .bind(i64::try_from(score.forecasts).unwrap())
        .bind(serde_json::to_string(&score).unwrap())
        .execute(&pool)
        .await
        .unwrap();
    }
    let entries = market.ledger(id).await.unwrap();
    let (mut line, mut seq) = (0, 0);
    for entry in &entries {
        // Rows were numbered within each write, and here every event was a write of its own.
        line = if entry.seq == seq { line + 1 } else { 0 };
        seq = entry.seq;
        let outcome = match entry.asset {
            aion_market::ledger::Asset::Shares(k) => Some(i64::try_from(k).unwrap()),
            aion_market::ledger::Asset::Money => None,
        };
        sqlx::query(
            "INSERT INTO entry (market_id, seq, line, account, outcome, amount) VALUES (?, ?, ?, ?, ?, ?)",
        )
        .bind(id.as_bytes().as_slice())
        .bind(i64::try_from(seq).unwrap())
        .bind(line)
        .bind(entry.account.as_str())
        .bind(outcome)
        .bind(entry.amount_micro)
        .execute(&pool)
        .await
        .unwrap();
    }
    pool.close().await;
    (market.report(id).await.unwrap(), id, entries)
}

#[tokio::test]
async fn a_file_of_an_older_schema_keeps_its_markets_and_its_ledger() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("market.db");
    let (report, id, entries) = old_file(&path).await;
    let market = open(&path).await.unwrap();
    assert_eq!(market.report(id).await.unwrap(), report);
    assert_eq!(market.ledger(id).await.unwrap(), entries);
    assert_eq!(market.store().log(0, 100).await.unwrap().len(), 5);
    // What scores add up to was not kept then.
    let anna = ForecasterId::new("a").unwrap();
    let standing = market.store().standing(&anna).await.unwrap().unwrap();
    let did = report.forecaster(&anna).unwrap();
    assert_eq!((standing.gain, standing.markets), (did.gain, 1));
    let bits = did.gain.get() as f64 / 1e6;
    assert!((standing.squared_bits - bits * bits).abs() < 1e-9);
    assert_eq!(market.leaderboard(9).await.unwrap(), [standing]);
}

#[tokio::test]
async fn the_file_itself_refuses_a_row_that_is_no_transfer() {
    use sqlx::Connection;
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("market.db");
    filled(Arc::new(SqliteMarketStore::open(&path).await.unwrap())).await;
    let options = sqlx::sqlite::SqliteConnectOptions::new().filename(&path);
    let mut connection = sqlx::SqliteConnection::connect_with(&options).await.unwrap();
    for (sql, says) in [
        ("UPDATE posting SET amount = 1", "never changed"),
        (
            "INSERT INTO posting SELECT market_id, seq, 99, gets, gets, outcome, amount FROM posting",
            "CHECK constraint",
        ),
        (
            "INSERT INTO posting SELECT market_id, seq, 99, gets, gives, outcome, 0 FROM posting",
            "CHECK constraint",
        ),
    ] {
        let refused = sqlx::raw_sql(sql).execute(&mut connection).await.unwrap_err();
        assert!(refused.to_string().contains(says), "{sql}: {refused}");
    }
    let sums =
        "SELECT count(*) FROM (SELECT 1 FROM entry GROUP BY market_id, seq, outcome HAVING sum(amount) <> 0)";
    let unbalanced: i64 = sqlx::query_scalar(sums).fetch_one(&mut connection).await.unwrap();
    assert_eq!(unbalanced, 0);
}

#[tokio::test]
async fn a_full_disk_is_told_by_name_and_nothing_is_half_written() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("market.db");
    let small = SqliteOptions::file(&path).with_max_pages(60);
    let store = Arc::new(SqliteMarketStore::open_with(small).await.unwrap());
    let market = handle(store.clone());
    let id = MarketId::generate(Timestamp::from_ms(5));
    market
        .open(&OpenMarket::question(id, "Will it hold?", "k"))
        .await
        .unwrap();
    let request = |n: u32| -> (MarketId, Request) {
        let who = ForecasterId::new(format!("f{n}")).unwrap();
        let forecast = Forecast::new(who, dist(600_000))
            .with_key(format!("{n:0200}"))
            .unwrap();
        (id, forecast.into())
    };
    let mut kept = 0_u32;
    let error = loop {
        let batch: Vec<_> = (0..10).map(|n| request(10 * kept + n)).collect();
        match market.apply_batch(&batch).await {
            Ok(answers) => assert!(answers.iter().all(Result::is_ok)),
            Err(error) => break error,
        }
        kept += 1;
        assert!(kept < 1_000, "the file never became full");
    };
    assert!(
        matches!(error, Error::Store(StoreError::StorageFull(_))),
        "{error:?}"
    );
    assert!(kept > 3, "{kept}");
    // Whole batches only, and the handle still reads what is there.
    let events = market.events(id).await.unwrap();
    assert_eq!(events.len(), 1 + 10 * kept as usize);
    assert_eq!(market.get(id).await.unwrap().version, events.len() as u64);
    drop(market);
    store.close().await;
    // With room again, the refused batch goes in.
    let roomy = open(&path).await.unwrap();
    let batch: Vec<_> = (0..10).map(|n| request(10 * kept + n)).collect();
    assert!(roomy.apply_batch(&batch).await.unwrap().iter().all(Result::is_ok));
    assert_eq!(roomy.events(id).await.unwrap().len(), 11 + 10 * kept as usize);
}

#[tokio::test]
async fn a_spoilt_snapshot_is_passed_over() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("market.db");
    let store = Arc::new(SqliteMarketStore::open(&path).await.unwrap());
    let options = MarketOptions::default().with_snapshot_every(1);
    let market = Market::new(store, Arc::new(SystemClock), options);
    let id = MarketId::generate(Timestamp::from_ms(5));
    market
        .open(&OpenMarket::question(id, "Will it hold?", "k"))
        .await
        .unwrap();
    let forecast = Forecast::new(ForecasterId::new("a").unwrap(), dist(800_000));
    market.forecast(id, &forecast).await.unwrap();
    run_sql(
        &path,
        "UPDATE snapshot SET body = replace(body, '800000', '900000')",
    )
    .await;
    let again = open(&path).await.unwrap();
    let snapshot = again.store().snapshot(id).await.unwrap().unwrap();
    assert!(matches!(snapshot.restore(), Err(Error::BadHistory { .. })));
    again.forecast(id, &forecast).await.unwrap();
    assert_eq!(again.price(id).await.unwrap(), dist(650_000));
}
