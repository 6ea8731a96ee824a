//! Opening databases: new, old, newer, foreign, and many at once.
#![allow(clippy::unwrap_used, reason = "a test may stop at the first surprise")]

mod postgres;
mod sqlite;

use aion_sql::Schema;

const FIRST: &str = "CREATE TABLE note (body TEXT NOT NULL)";
const SECOND: &str = "ALTER TABLE note ADD COLUMN author TEXT";

/// A store at its first release.
const OLD: Schema = Schema {
    name: "notes",
    application_id: 0x4e6f_7465,
    sqlite: &[FIRST],
    postgres: &[FIRST],
};

/// The same store, one release later.
const NEW: Schema = Schema {
    sqlite: &[FIRST, SECOND],
    postgres: &[FIRST, SECOND],
    ..OLD
};

/// Another program's store under the same name.
const OTHER: Schema = Schema {
    application_id: 0x1234,
    ..OLD
};
