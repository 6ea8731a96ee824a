//! The schema of the databases: its version and its migrations.

use aion_sql::{OpenError, Schema};
use sqlx::SqliteConnection;

use super::sqlite::storage;
use crate::{Error, Result};

/// `AioP` in the header of every file of ours.
pub(crate) const SCHEMA: Schema = Schema {
    name: "processor",
    application_id: 0x4169_6f50,
    sqlite: &[
        include_str!("sqlite/migrations/0001_task_tree.sql"),
        include_str!("sqlite/migrations/0002_lines_and_objects.sql"),
    ],
    postgres: &[],
};

/// The newest schema.
pub(crate) const VERSION: u32 = SCHEMA.sqlite.len() as u32;

/// Brings a file to the newest schema.
///
/// # Errors
/// [`Error::NewerDatabase`] if a newer program wrote it, [`Error::Corrupt`] if it is no file of ours.
pub(crate) async fn migrate(conn: &mut SqliteConnection) -> Result<()> {
    SCHEMA.migrate_sqlite(conn).await.map_err(|error| match error {
        OpenError::Newer { found, newest } => Error::NewerDatabase { found, newest },
        OpenError::Database(error) => storage(error),
        other => Error::Corrupt(other.to_string()),
    })
}
