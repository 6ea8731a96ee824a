//! Schemas on a Postgres server.

use aion_sql::testkit::TestDatabase;
use aion_sql::{OpenError, PostgresOptions, Schema};

use super::{NEW, OLD};

#[tokio::test]
async fn an_older_schema_opens_and_a_newer_one_is_refused() {
    let Some(database) = TestDatabase::create().await else {
        return;
    };
    let old = OLD.open_postgres(&database.options()).await.unwrap();
    sqlx::query("INSERT INTO note VALUES ('kept')")
        .execute(&old)
        .await
        .unwrap();
    let new = NEW.open_postgres(&database.options()).await.unwrap();
    let kept: String = sqlx::query_scalar("SELECT body FROM note WHERE author IS NULL")
        .fetch_one(&new)
        .await
        .unwrap();
    assert_eq!(kept, "kept");
    let newer = OLD.open_postgres(&database.options()).await.unwrap_err();
    assert!(
        matches!(newer, OpenError::Newer { found: 2, newest: 1 }),
        "{newer}"
    );
    database.remove().await;
}

#[tokio::test]
async fn stores_share_a_database_and_a_strangers_schema_is_refused() {
    let Some(database) = TestDatabase::create().await else {
        return;
    };
    let other = Schema {
        name: "others",
        ..OLD
    };
    let pool = OLD.open_postgres(&database.options()).await.unwrap();
    other.open_postgres(&database.options()).await.unwrap();
    sqlx::raw_sql("CREATE SCHEMA strange; CREATE TABLE strange.thing (a int)")
        .execute(&pool)
        .await
        .unwrap();
    let strange = Schema {
        name: "strange",
        ..OLD
    };
    let error = strange.open_postgres(&database.options()).await.unwrap_err();
    assert!(matches!(error, OpenError::Foreign { found: 0 }), "{error}");
    database.remove().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn many_migrate_at_once() {
    let Some(database) = TestDatabase::create().await else {
        return;
    };
    let openers: Vec<_> = (0..8)
        .map(|_| {
            let options = database.options().with_connections(1);
            tokio::spawn(async move { NEW.open_postgres(&options).await.map(drop) })
        })
        .collect();
    for opener in openers {
        opener.await.unwrap().unwrap();
    }
    database.remove().await;
}

#[test]
fn a_malformed_url_is_an_error() {
    assert!(PostgresOptions::url("not a url").is_err());
}
