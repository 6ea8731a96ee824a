//! SQLite files.

use aion_sql::{OpenError, SqliteOptions};
use tempfile::TempDir;

use super::{NEW, OLD, OTHER};

fn file(dir: &TempDir) -> SqliteOptions {
    SqliteOptions::file(dir.path().join("notes.db"))
}

#[tokio::test]
async fn an_older_file_opens_and_keeps_its_rows() {
    let dir = TempDir::new().unwrap();
    let old = OLD.open_sqlite(&file(&dir)).await.unwrap();
    sqlx::query("INSERT INTO note VALUES ('kept')")
        .execute(&old)
        .await
        .unwrap();
    old.close().await;
    let new = NEW.open_sqlite(&file(&dir)).await.unwrap();
    let row: (String, Option<String>) = sqlx::query_as("SELECT body, author FROM note")
        .fetch_one(&new)
        .await
        .unwrap();
    assert_eq!(row, ("kept".to_owned(), None));
}

#[tokio::test]
async fn a_newer_file_and_a_foreign_one_are_refused_unchanged() {
    let dir = TempDir::new().unwrap();
    NEW.open_sqlite(&file(&dir)).await.unwrap().close().await;
    let before = std::fs::read(dir.path().join("notes.db")).unwrap();
    let newer = OLD.open_sqlite(&file(&dir)).await.unwrap_err();
    assert!(
        matches!(newer, OpenError::Newer { found: 2, newest: 1 }),
        "{newer}"
    );
    let foreign = OTHER.open_sqlite(&file(&dir)).await.unwrap_err();
    assert!(
        matches!(foreign, OpenError::Foreign { found: 0x4e6f_7465 }),
        "{foreign}"
    );
    assert_eq!(std::fs::read(dir.path().join("notes.db")).unwrap(), before);
}

#[tokio::test]
async fn a_file_that_is_no_database_is_an_error() {
    let dir = TempDir::new().unwrap();
    std::fs::write(dir.path().join("notes.db"), "no database at all".repeat(100)).unwrap();
    let error = NEW.open_sqlite(&file(&dir)).await.unwrap_err();
    assert!(matches!(error, OpenError::Database(_)), "{error}");
}

/// Two connections that turn the write-ahead log on at once fail each other without waiting.
#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn many_open_a_new_file_at_once() {
    for _ in 0..20 {
        let dir = TempDir::new().unwrap();
        let options = file(&dir);
        let openers: Vec<_> = (0..8)
            .map(|_| {
                let options = options.clone();
                tokio::spawn(async move { NEW.open_sqlite(&options).await.map(drop) })
            })
            .collect();
        for opener in openers {
            opener.await.unwrap().unwrap();
        }
    }
}

#[tokio::test]
async fn in_memory_every_query_sees_the_same_tables() {
    let pool = NEW
        .open_sqlite(&SqliteOptions::in_memory().with_connections(9))
        .await
        .unwrap();
    assert_eq!(pool.options().get_max_connections(), 1);
    sqlx::query("INSERT INTO note (body) VALUES ('a')")
        .execute(&pool)
        .await
        .unwrap();
}
