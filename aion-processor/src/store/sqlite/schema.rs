//! The schema of the file: its version, its migrations, and what files it refuses.

use sqlx::{Connection, SqliteConnection};

use super::codec::storage;
use crate::{Error, Result};

/// `AioP`, in the header of every file of ours.
const APPLICATION_ID: i64 = 0x4169_6f50;
/// Migrations in order; the file's `user_version` is how many of them it has seen.
const MIGRATIONS: [&str; 1] = [include_str!("migrations/0001_task_tree.sql")];

/// The newest schema.
pub(super) const VERSION: u32 = MIGRATIONS.len() as u32;

/// Brings the file to the newest schema.
///
/// # Errors
/// [`Error::NewerDatabase`] if a newer program wrote it, [`Error::Corrupt`] if it is no file of ours.
pub(super) async fn migrate(conn: &mut SqliteConnection) -> Result<()> {
    let found = version(conn).await?;
    if found > VERSION {
        return Err(Error::NewerDatabase {
            found,
            newest: VERSION,
        });
    }
    for number in found..VERSION {
        let mut tx = conn.begin_with("BEGIN IMMEDIATE").await.map_err(storage)?;
        sqlx::raw_sql(MIGRATIONS[number as usize])
            .execute(&mut *tx)
            .await
            .map_err(storage)?;
        let stamp = format!(
            "PRAGMA user_version = {}; PRAGMA application_id = {APPLICATION_ID}",
            number + 1
        );
        sqlx::raw_sql(sqlx::AssertSqlSafe(stamp))
            .execute(&mut *tx)
            .await
            .map_err(storage)?;
        tx.commit().await.map_err(storage)?;
    }
    Ok(())
}

async fn version(conn: &mut SqliteConnection) -> Result<u32> {
    let application: i64 = number(conn, "PRAGMA application_id").await?;
    let version = number(conn, "PRAGMA user_version").await?;
    let tables = number(conn, "SELECT count(*) FROM sqlite_master").await?;
    let is_ours = application == APPLICATION_ID;
    if !is_ours && (tables > 0 || version > 0 || application != 0) {
        return Err(Error::Corrupt("the file belongs to another program".to_owned()));
    }
    u32::try_from(version).map_err(|_| Error::Corrupt(format!("schema version {version}")))
}

/// The one number that a statement gives.
pub(super) async fn number(conn: &mut SqliteConnection, sql: &'static str) -> Result<i64> {
    sqlx::query_scalar(sql).fetch_one(conn).await.map_err(storage)
}
