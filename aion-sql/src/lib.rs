//! How every store of Aion opens its database.
//!
//! A store has one [`Schema`]: its name, the mark in a file's header, and its migrations. Opening brings the
//! database to the newest schema in one transaction; a database of a newer program, or of another one, is
//! refused before anything is written.
//!
//! ```
//! use aion_sql::{Schema, SqliteOptions};
//!
//! const NOTES: Schema = Schema {
//!     name: "notes",
//!     application_id: 0x4e6f_7465,
//!     sqlite: &["CREATE TABLE note (body TEXT NOT NULL)"],
//!     postgres: &["CREATE TABLE note (body TEXT NOT NULL)"],
//! };
//!
//! # tokio::runtime::Builder::new_current_thread().enable_all().build()?.block_on(async {
//! let pool = NOTES.open_sqlite(&SqliteOptions::in_memory()).await?;
//! sqlx::query("INSERT INTO note VALUES ('hello')").execute(&pool).await?;
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! # })?;
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```

mod error;
#[cfg(feature = "postgres")]
mod postgres;
mod schema;
#[cfg(feature = "sqlite")]
mod sqlite;
#[cfg(feature = "testkit")]
pub mod testkit;

pub use error::OpenError;
#[cfg(feature = "postgres")]
pub use postgres::PostgresOptions;
pub use schema::Schema;
#[cfg(feature = "sqlite")]
pub use sqlite::SqliteOptions;
