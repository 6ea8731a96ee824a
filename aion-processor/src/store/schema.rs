//! The schema of the databases: its version and its migrations.

use aion_sql::{OpenError, Schema};

use crate::Error;

/// `AioP` in the header of every file of ours.
pub(crate) const SCHEMA: Schema = Schema {
    name: "aion_processor",
    application_id: 0x4169_6f50,
    sqlite: &[
        include_str!("sqlite/migrations/0001_task_tree.sql"),
        include_str!("sqlite/migrations/0002_lines_and_objects.sql"),
        include_str!("sqlite/migrations/0003_steps.sql"),
        include_str!("sqlite/migrations/0004_webhooks.sql"),
        include_str!("sqlite/migrations/0005_outcomes.sql"),
    ],
    postgres: &[
        include_str!("postgres/migrations/0001_task_tree.sql"),
        include_str!("postgres/migrations/0003_steps.sql"),
        include_str!("postgres/migrations/0004_webhooks.sql"),
        include_str!("postgres/migrations/0005_outcomes.sql"),
        include_str!("postgres/migrations/0006_settle.sql"),
        include_str!("postgres/migrations/0007_entries.sql"),
    ],
};

/// The newest schema of files.
#[cfg(feature = "sqlite")]
pub(crate) const VERSION: u32 = SCHEMA.sqlite.len() as u32;

/// Brings a file to the newest schema.
///
/// # Errors
/// [`Error::NewerDatabase`] if a newer program wrote it, [`Error::Corrupt`] if it is no file of ours.
#[cfg(feature = "sqlite")]
pub(crate) async fn migrate(conn: &mut sqlx::SqliteConnection) -> crate::Result<()> {
    let migrated = SCHEMA.migrate_sqlite(conn).await;
    migrated.map_err(|error| refused(error, super::sqlite::storage))
}

/// Why a database was not opened; `storage` tells what a failure of its engine means.
pub(crate) fn refused(error: OpenError, storage: impl FnOnce(sqlx::Error) -> Error) -> Error {
    match error {
        OpenError::Newer { found, newest } => Error::NewerDatabase { found, newest },
        OpenError::Database(error) => storage(error),
        other => Error::Corrupt(other.to_string()),
    }
}
