//! Hints between processes: NOTIFY carries them, and nothing depends on their arrival.
//!
//! A NOTIFY inside a transaction makes commits of the whole server wait for one another, so hints go out after
//! the commit, many as one.

use std::time::Duration;

use sqlx::PgPool;
use sqlx::postgres::PgListener;
use tokio::sync::broadcast;
use tokio::sync::broadcast::error::RecvError;

use crate::Wake;

/// One channel for all the stores of a database.
pub(super) const CHANNEL: &str = "aion_processor";
/// How long hints are gathered before they go out as one.
const GATHER: Duration = Duration::from_millis(20);
/// How long to rest after the server could not be reached.
const REST: Duration = Duration::from_secs(1);

/// Tells the others what this store has committed, as `name last_seq ready`.
pub(super) async fn tell(pool: PgPool, name: String, mut own: broadcast::Receiver<Wake>) {
    loop {
        let mut wake = match own.recv().await {
            Ok(wake) => wake,
            Err(RecvError::Lagged(_)) => continue,
            Err(RecvError::Closed) => return,
        };
        tokio::time::sleep(GATHER).await;
        while let Ok(next) = own.try_recv() {
            wake.last_seq = wake.last_seq.max(next.last_seq);
            wake.ready = wake.ready.saturating_add(next.ready);
        }
        let hint = format!("{name} {} {}", wake.last_seq, wake.ready);
        let statement = sqlx::query("SELECT pg_notify($1, $2)").bind(CHANNEL).bind(hint);
        if let Err(error) = statement.execute(&pool).await {
            tracing::debug!(%error, "a hint to other processes was lost");
            tokio::time::sleep(REST).await;
        }
    }
}

/// Passes on what the others have told.
pub(super) async fn hear(pool: PgPool, name: String, all: broadcast::Sender<Wake>) {
    while !pool.is_closed() {
        if let Err(error) = listen(&pool, &name, &all).await {
            tracing::debug!(%error, "hints of other processes are not heard");
        }
        tokio::time::sleep(REST).await;
    }
}

async fn listen(pool: &PgPool, name: &str, all: &broadcast::Sender<Wake>) -> Result<(), sqlx::Error> {
    let mut listener = PgListener::connect_with(pool).await?;
    listener.listen(CHANNEL).await?;
    loop {
        let told = listener.recv().await?;
        if let Some(wake) = read(told.payload(), name) {
            // Nobody listening is fine.
            let _ = all.send(wake);
        }
    }
}

/// The hint, unless this store has given it itself.
fn read(hint: &str, own: &str) -> Option<Wake> {
    let mut words = hint.split(' ');
    words.next().filter(|name| *name != own)?;
    Some(Wake {
        last_seq: words.next()?.parse().ok()?,
        ready: words.next()?.parse().ok()?,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn own_hints_and_foreign_words_are_passed_over() {
        let wake = Wake {
            last_seq: 7,
            ready: 2,
        };
        assert_eq!(read("other 7 2", "me"), Some(wake));
        for hint in ["me 7 2", "", "other", "other x 2", "other 7"] {
            assert_eq!(read(hint, "me"), None, "{hint}");
        }
    }
}
