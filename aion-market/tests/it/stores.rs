//! Both stores pass the suite; SQLite files of others are refused and old ones open.

mod memory {
    use aion_market::MemoryMarketStore;

    aion_market::market_store_tests!(async { MemoryMarketStore::new() });
}

mod sqlite {
    use aion_market::SqliteMarketStore;

    aion_market::market_store_tests!(async { SqliteMarketStore::in_memory().await.unwrap() });
}

use std::sync::Arc;

use aion_market::{Market, MarketOptions, OpenMarket, Resolution, SqliteMarketStore, StoreError};
use aion_types::{MarketId, SystemClock, Timestamp};

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
        matches!(refused, StoreError::NewerDatabase { found: 99, newest: 2 }),
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
    let id = MarketId::generate(Timestamp::from_ms(5));
    let handles = [open(&path).await.unwrap(), open(&path).await.unwrap()];
    handles[0]
        .open(&OpenMarket::question(id, "Will it hold?", "k"))
        .await
        .unwrap();
    let mut tasks = Vec::new();
    for (n, market) in handles.iter().cycle().take(8).cloned().enumerate() {
        tasks.push(tokio::spawn(async move {
            let who = aion_types::ForecasterId::new(format!("f{n}")).unwrap();
            let dist = aion_types::PpmDist::new(vec![900_000, 100_000]).unwrap();
            market
                .forecast(id, &aion_market::Forecast::new(who, dist))
                .await
                .map(drop)
        }));
    }
    for task in tasks {
        task.await.unwrap().unwrap();
    }
    let events = handles[1].store().events(id, 0, 100).await.unwrap();
    assert_eq!(events.len(), 9);
    // Two pseudo-counts at one half and eight reports of 0.9.
    assert_eq!(handles[0].price(id).await.unwrap().parts(), [820_000, 180_000]);
}
