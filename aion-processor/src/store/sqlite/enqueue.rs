//! New tasks inside a transaction of the caller's own.

use std::sync::atomic::Ordering;

use aion_types::TaskRecord;
use futures::FutureExt;
use sqlx::sqlite::SqliteConnectOptions;
use sqlx::{Sqlite, SqliteConnection, Transaction};
use tokio::sync::oneshot;

use super::codec::storage;
use super::leased::Leased;
use super::native::Native;
use super::tx::Tx;
use super::writer::last_seq;
use super::{Job, SqliteTaskStore};
use crate::engine::apply::apply;
use crate::{Done, Error, NewTask, Op, Result};

impl SqliteTaskStore {
    /// How to open further connections to the file, for tables of your own in it.
    ///
    /// This process owns the file, so they must be opened here. Names of tables, indexes and triggers that
    /// begin with `app_` are never used by the store.
    pub fn connect_options(&self) -> SqliteConnectOptions {
        self.further.clone()
    }

    /// Creates a task inside a transaction of yours on the same file: it is there, and is claimed, exactly
    /// if you commit.
    ///
    /// From here until its end your transaction keeps the store from writing, as any transaction of SQLite
    /// that writes does, so end it soon; after five seconds the store tells its callers
    /// [`Error::Busy`]. Begin it with `BEGIN IMMEDIATE`
    /// (`pool.begin_with("BEGIN IMMEDIATE")`) if it reads before it writes. Roll it back if the future of this
    /// call was dropped.
    ///
    /// ```
    /// # tokio::runtime::Builder::new_current_thread().enable_all().build()?.block_on(async {
    /// use std::sync::Arc;
    ///
    /// use aion_processor::{NewTask, Processor, SqliteOptions, SqliteTaskStore};
    /// use aion_types::{Clock, SystemClock, TaskId};
    ///
    /// # let directory = tempfile::tempdir()?;
    /// # let path = directory.path().join("shop.db");
    /// let store = Arc::new(SqliteTaskStore::open(path, SqliteOptions::default()).await?);
    /// let pool = sqlx::SqlitePool::connect_with(store.connect_options()).await?;
    /// sqlx::query("CREATE TABLE app_order (item TEXT)").execute(&pool).await?;
    ///
    /// let mut tx = pool.begin_with("BEGIN IMMEDIATE").await?;
    /// sqlx::query("INSERT INTO app_order VALUES ('tea')").execute(&mut *tx).await?;
    /// let task = NewTask::new(TaskId::generate(SystemClock.now()), "order.ship", "Ship the tea");
    /// let task = store.enqueue_in(&mut tx, task).await?;
    /// tx.commit().await?;
    ///
    /// assert_eq!(Processor::over(store).get(task.id).await?, task);
    /// # Ok::<(), Box<dyn std::error::Error>>(()) })?;
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    ///
    /// # Errors
    /// As [`Processor::create`](crate::Processor::create), and [`Error::Invalid`] if the transaction is on
    /// another file; then nothing was written, and your transaction goes on. [`Error::Busy`] if another
    /// writer did not come to an end.
    pub async fn enqueue_in(&self, tx: &mut Transaction<'_, Sqlite>, task: NewTask) -> Result<TaskRecord> {
        self.is_on_this_file(tx).await?;
        execute(tx, "SAVEPOINT aion_enqueue").await?;
        match self.create_in(tx, task).await {
            Ok(record) => {
                execute(tx, "RELEASE aion_enqueue").await?;
                self.look_later();
                Ok(record)
            }
            Err(error) => {
                execute(tx, "ROLLBACK TO aion_enqueue").await?;
                execute(tx, "RELEASE aion_enqueue").await?;
                Err(error)
            }
        }
    }

    async fn is_on_this_file(&self, conn: &mut SqliteConnection) -> Result<()> {
        let sql = "SELECT file FROM pragma_database_list WHERE name = 'main'";
        let named: String = sqlx::query_scalar(sql).fetch_one(conn).await.map_err(storage)?;
        let theirs = tokio::fs::canonicalize(named).await.ok();
        let ours = tokio::fs::canonicalize(self.further.get_filename()).await.ok();
        if ours.is_some() && theirs == ours {
            return Ok(());
        }
        Err(Error::invalid("transaction", "it is on another file"))
    }

    async fn create_in(&self, conn: &mut SqliteConnection, task: NewTask) -> Result<TaskRecord> {
        // From now on the writer waits for the end of this transaction, and then looks where the log ends.
        execute(conn, "UPDATE tally SET ready = ready WHERE id = 1").await?;
        self.outside.store(true, Ordering::Release);
        let mut locked = Native::over(conn.lock_handle().await.map_err(storage)?)?;
        let mut session = locked.session();
        let next_seq = last_seq(&mut session)? + 1;
        let mut leased = Leased::default();
        let mut rows = Tx::new(&mut session, &mut leased, next_seq);
        let op = Op::Create(Box::new(task));
        let done = apply(&mut rows, &self.limits, self.clock.now(), &op).now_or_never();
        let done = done.unwrap_or_else(|| Err(Error::gone()))?;
        rows.flush()?;
        match done {
            Done::Record(record) => Ok(*record),
            other => Err(crate::processor::unexpected(&other)),
        }
    }

    /// Has the writer look as soon as the transaction has ended, so that whoever waits for work hears of it.
    fn look_later(&self) {
        let (reply, _) = oneshot::channel();
        // If so much is waiting for the writer, it looks anyway.
        let _ = self.inbox.try_send(Job::Due(0, reply));
    }
}

async fn execute(conn: &mut SqliteConnection, sql: &'static str) -> Result<()> {
    sqlx::query(sql).execute(conn).await.map(drop).map_err(storage)
}
