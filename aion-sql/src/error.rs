//! What opening a database refuses or fails at.

/// Why a database was not opened. Nothing was written to it.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum OpenError {
    /// The database belongs to another program.
    #[error("the database belongs to another program, marked {found:#x}")]
    Foreign {
        /// The mark in its header; 0 if it has none.
        found: i64,
    },
    /// A newer program wrote the database.
    #[error("the database has schema {found}, newer than the newest one known here, {newest}")]
    Newer {
        /// The schema of the database.
        found: u32,
        /// The newest schema that this program knows.
        newest: u32,
    },
    /// The engine failed.
    #[error("the database could not be opened")]
    Database(#[from] sqlx::Error),
}
