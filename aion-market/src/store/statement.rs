//! Statements in the SQL that SQLite and Postgres have in common, with their values.

use aion_types::{ForecasterId, MarketId};
use serde::Serialize;
use sqlx::query::Query;
use sqlx::{AssertSqlSafe, Database, Encode, Type};

use super::StoreError;

/// How many rows one statement inserts: far below what either engine binds at once.
const CHUNK: usize = 500;

/// One value of a statement.
#[derive(Debug, Clone)]
pub(super) enum Value {
    Int(Option<i64>),
    Real(f64),
    Text(Option<String>),
    Bytes(Vec<u8>),
}

impl Value {
    pub(super) fn json(value: &impl Serialize) -> Result<Self, StoreError> {
        let text = serde_json::to_string(value).map_err(StoreError::backend)?;
        Ok(Self::Text(Some(text)))
    }
}

impl From<i64> for Value {
    fn from(number: i64) -> Self {
        Self::Int(Some(number))
    }
}

impl From<u64> for Value {
    /// Numbers of events and rows never come near the limit of a database's integers.
    fn from(number: u64) -> Self {
        i64::try_from(number).unwrap_or(i64::MAX).into()
    }
}

impl From<&str> for Value {
    fn from(text: &str) -> Self {
        Self::Text(Some(text.to_owned()))
    }
}

impl From<&ForecasterId> for Value {
    fn from(id: &ForecasterId) -> Self {
        id.as_str().into()
    }
}

impl From<MarketId> for Value {
    fn from(id: MarketId) -> Self {
        Self::Bytes(id.as_bytes().to_vec())
    }
}

/// SQL with `$1`, `$2`, ... for its values.
#[derive(Debug, Clone)]
pub(super) struct Statement {
    sql: String,
    values: Vec<Value>,
    /// Whether every `$n` stands once, in order: then its place says as much as its number.
    is_in_order: bool,
    /// Whether the transaction ends here, undone, if no row is changed.
    pub(super) has_to_change: bool,
}

impl Statement {
    pub(super) fn new(sql: impl Into<String>) -> Self {
        Self {
            sql: sql.into(),
            values: Vec::new(),
            is_in_order: false,
            has_to_change: false,
        }
    }

    /// The value of the next `$n`.
    pub(super) fn with(mut self, value: impl Into<Value>) -> Self {
        self.values.push(value.into());
        self
    }

    /// More text, with a value for its `$`, which gets its number here.
    pub(super) fn and(mut self, text: &str, value: impl Into<Value>) -> Self {
        let number = format!("${}", self.values.len() + 1);
        self.sql.push_str(&text.replace('$', &number));
        self.with(value)
    }

    pub(super) fn or_undo(mut self) -> Self {
        self.has_to_change = true;
        self
    }

    /// Rows for a table, some hundred a statement: `head` is all before `VALUES`, `tail` all after.
    pub(super) fn inserts<const N: usize>(head: &str, rows: Vec<[Value; N]>, tail: &str) -> Vec<Self> {
        let mut statements = Vec::new();
        let mut rows = rows.into_iter().peekable();
        while rows.peek().is_some() {
            let values: Vec<Value> = rows.by_ref().take(CHUNK).flatten().collect();
            let groups: Vec<String> = (0..values.len() / N).map(|row| group(row * N, N)).collect();
            let sql = format!("{head} VALUES {} {tail}", groups.join(", "));
            statements.push(Self {
                sql,
                values,
                is_in_order: true,
                has_to_change: false,
            });
        }
        statements
    }

    /// The statement as an engine takes it. Its text is made of constants and numbers alone.
    pub(super) fn query<DB: Database>(self) -> Query<'static, DB, DB::Arguments>
    where
        Option<i64>: Encode<'static, DB> + Type<DB>,
        f64: Encode<'static, DB> + Type<DB>,
        Option<String>: Encode<'static, DB> + Type<DB>,
        Vec<u8>: Encode<'static, DB> + Type<DB>,
    {
        let sql = if self.is_in_order && DB::NAME == "SQLite" {
            without_names(&self.sql)
        } else {
            self.sql
        };
        let query = sqlx::query(AssertSqlSafe(sql));
        self.values.into_iter().fold(query, |query, value| match value {
            Value::Int(number) => query.bind(number),
            Value::Real(number) => query.bind(number),
            Value::Text(text) => query.bind(text),
            Value::Bytes(bytes) => query.bind(bytes),
        })
    }
}

/// The same with `?`: `$12` is a name to SQLite, which is looked for among all names of a statement, and an insert
/// has thousands.
fn without_names(sql: &str) -> String {
    let mut parts = sql.split('$');
    let first = parts.next().unwrap_or_default().to_owned();
    parts.fold(first, |sql, part| {
        sql + "?" + part.trim_start_matches(|c: char| c.is_ascii_digit())
    })
}

/// `($4, $5, $6)`
fn group(from: usize, n: usize) -> String {
    let numbers: Vec<String> = (from + 1..=from + n).map(|i| format!("${i}")).collect();
    format!("({})", numbers.join(", "))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn places_stand_for_numbers() {
        let rows: Vec<[Value; 2]> = (0..11_i64).map(|i| [i.into(), "a".into()]).collect();
        let insert = &Statement::inserts("INSERT INTO t (a, b)", rows, "ON CONFLICT DO NOTHING")[0];
        assert!(insert.sql.ends_with("($21, $22) ON CONFLICT DO NOTHING"));
        let places = ["(?, ?)"; 11].join(", ");
        let expected = format!("INSERT INTO t (a, b) VALUES {places} ON CONFLICT DO NOTHING");
        assert_eq!(without_names(&insert.sql), expected);
    }
}
