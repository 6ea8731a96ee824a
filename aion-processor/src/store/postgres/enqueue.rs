//! New tasks inside a transaction of the caller's own.

use aion_types::{Clock, TaskRecord};
use sqlx::{PgConnection, Postgres, Transaction};

use super::PostgresTaskStore;
use super::codec::storage;
use super::herald::CHANNEL;
use super::tx::{Begin, Tx};
use super::writer::execute;
use crate::engine::apply::apply;
use crate::{Done, Error, NewTask, Op, Result};

/// What the store's statements need for a while: its schema, and an end of waiting for other writers.
const ENTER: &str = "SELECT set_config('search_path', 'aion_processor', true), \
     set_config('lock_timeout', '10000', true)";
const SETTINGS: &str = "SELECT current_setting('search_path'), current_setting('lock_timeout')";
const LEAVE: &str = "SELECT set_config('search_path', $1, true), set_config('lock_timeout', $2, true)";

impl PostgresTaskStore {
    /// Creates a task inside a transaction of yours on the same database, whatever else the transaction is
    /// about: it is there, and is claimed, exactly if you commit; then whoever waits for work hears of it.
    ///
    /// Writers of tasks take turns by a lock on the one row of `aion_processor.state`, so that the order of
    /// events is the order of commits. From here until its end your transaction has the turn and all other
    /// writers wait, those of other processes too: do this last, and commit. Two transactions that have each a
    /// lock that the other needs are told apart by Postgres, which ends one of them ([`Error::Busy`]).
    /// The transaction must be READ COMMITTED, as it is unless you say otherwise: one that looks at an older
    /// state is refused its turn.
    ///
    /// # Errors
    /// As [`Processor::create`](crate::Processor::create); then nothing was written, and your transaction goes
    /// on. [`Error::Busy`] if the turn did not come within ten seconds.
    ///
    /// [`Error::Busy`]: crate::Error::Busy
    pub async fn enqueue_in(&self, tx: &mut Transaction<'_, Postgres>, task: NewTask) -> Result<TaskRecord> {
        execute(tx, "SAVEPOINT aion_enqueue").await?;
        match self.create_in(tx, task).await {
            Ok(record) => {
                execute(tx, "RELEASE SAVEPOINT aion_enqueue").await?;
                Ok(record)
            }
            Err(error) => {
                // This also puts the settings back.
                execute(tx, "ROLLBACK TO SAVEPOINT aion_enqueue").await?;
                execute(tx, "RELEASE SAVEPOINT aion_enqueue").await?;
                Err(error)
            }
        }
    }

    async fn create_in(&self, conn: &mut PgConnection, task: NewTask) -> Result<TaskRecord> {
        let (path, patience): (String, String) = sqlx::query_as(SETTINGS)
            .fetch_one(&mut *conn)
            .await
            .map_err(storage)?;
        execute(conn, ENTER).await?;
        let mut rows = Tx::begin(&mut *conn, Begin::Within, None).await?;
        let now = self.clock.as_ref().map_or(rows.began, Clock::now);
        let op = Op::Create(Box::new(task));
        let done = apply(&mut rows, &self.limits, now, &op).await?;
        if rows.writes > 0 {
            rows.finish().await?.ok_or_else(Error::gone)?;
            let hint = format!("enqueue {} {}", rows.last_seq, rows.ready);
            let tell = sqlx::query("SELECT pg_notify($1, $2)").bind(CHANNEL).bind(hint);
            tell.execute(rows.server().await?).await.map_err(storage)?;
        }
        let leave = sqlx::query(LEAVE).bind(path).bind(patience);
        leave.execute(conn).await.map_err(storage)?;
        match done {
            Done::Record(record) => Ok(*record),
            other => Err(crate::processor::unexpected(&other)),
        }
    }
}
