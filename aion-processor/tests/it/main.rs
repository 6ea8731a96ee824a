//! The stores from outside: the conformance suite on each of them, memory as the model of SQLite,
//! and what only a file or a server can do.
#![allow(clippy::unwrap_used)]

mod abuse;
mod crash;
mod enqueue;
mod exhaustive;
mod fair;
mod file;
mod full;
mod measure;
mod model;
mod older;
mod postgres;
mod power;
mod worker;

mod memory {
    use aion_processor::{MemTaskStore, task_store_tests, webhook_store_tests};

    task_store_tests!(|clock, limits| async { (MemTaskStore::new(clock, limits), ()) });
    webhook_store_tests!(|clock, limits| async { (MemTaskStore::new(clock, limits), ()) });
}

mod sqlite {
    use aion_processor::{SqliteOptions, SqliteTaskStore, task_store_tests, webhook_store_tests};

    task_store_tests!(|clock, limits| async {
        let directory = tempfile::tempdir().unwrap();
        let options = SqliteOptions::default().with_clock(clock).with_limits(limits);
        let store = SqliteTaskStore::open(directory.path().join("processor.db"), options)
            .await
            .unwrap();
        (store, directory)
    });
    webhook_store_tests!(|clock, limits| async {
        let directory = tempfile::tempdir().unwrap();
        let options = SqliteOptions::default().with_clock(clock).with_limits(limits);
        let store = SqliteTaskStore::open(directory.path().join("processor.db"), options)
            .await
            .unwrap();
        (store, directory)
    });
}
