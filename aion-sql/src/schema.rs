//! [`Schema`]: what a store's database consists of.

use crate::OpenError;

/// The tables of one store, as migrations in the order of their release.
///
/// Migrations only go forward: number n brings a database of schema n to schema n + 1. Released ones never
/// change. A store that an engine does not carry leaves that engine's list empty.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Schema {
    /// The name in Postgres, where a store's tables lie in a schema of this name: a lower-case identifier.
    pub name: &'static str,
    /// The mark in the header of a SQLite file (`PRAGMA application_id`), and the key of the lock under which
    /// Postgres migrates.
    pub application_id: i32,
    /// Migrations for SQLite. They run inside a transaction, so none of them begins or commits one.
    pub sqlite: &'static [&'static str],
    /// Migrations for Postgres, under the same rule. Table names without a schema fall into the store's own.
    pub postgres: &'static [&'static str],
}

/// The version that was found, or why it cannot be brought to the newest of `migrations`.
pub(crate) fn known(found: i64, migrations: &[&str]) -> Result<usize, OpenError> {
    let newest = migrations.len();
    match usize::try_from(found) {
        Ok(version) if version <= newest => Ok(version),
        _ => Err(OpenError::Newer {
            found: u32::try_from(found).unwrap_or(u32::MAX),
            newest: u32::try_from(newest).unwrap_or(u32::MAX),
        }),
    }
}
