//! The plans of the statements that must stay flat as the file grows.

use aion_types::{Status, TaskId, Timestamp};
use sqlx::{AssertSqlSafe, Connection, Row as _, SqliteConnection};

use super::rows::hot_sql;
use super::{read, schema};
use crate::TaskQuery;

async fn database() -> SqliteConnection {
    let mut conn = SqliteConnection::connect("sqlite::memory:").await.unwrap();
    schema::migrate(&mut conn).await.unwrap();
    conn
}

async fn plan(conn: &mut SqliteConnection, sql: &str) -> String {
    let rows = sqlx::query(AssertSqlSafe(format!("EXPLAIN QUERY PLAN {sql}")))
        .fetch_all(conn)
        .await
        .unwrap();
    let lines: Vec<String> = rows.iter().map(|row| row.get("detail")).collect();
    lines.join("; ")
}

/// No hot statement scans a table or sorts: each walks the index that is there for it.
#[tokio::test]
async fn hot_statements_walk_their_index() {
    let mut conn = database().await;
    let expected = [
        (
            hot_sql::BY_ID,
            "SEARCH t USING INDEX sqlite_autoindex_task_1 (uid=?)",
        ),
        (hot_sql::READY, "SCAN t USING INDEX task_ready"),
        (
            hot_sql::READY_QUEUE,
            "SEARCH t USING INDEX task_ready_queue (queue=?)",
        ),
        (
            hot_sql::READY_KIND,
            "SEARCH t USING INDEX task_ready_kind (kind=?)",
        ),
        (
            hot_sql::EXPIRED,
            "SEARCH t USING INDEX task_lease (lease_until<?)",
        ),
        (
            hot_sql::DELAYED,
            "SEARCH t USING INDEX task_delayed (run_after>? AND run_after<?)",
        ),
        (hot_sql::WAITERS, "SEARCH d USING PRIMARY KEY (child=?)"),
        (
            hot_sql::KEYED,
            "SEARCH t USING INDEX task_key (<expr>=? AND idem_key=?)",
        ),
        (read::ENDED, "SEARCH t USING INDEX task_ended (finished_at>?)"),
        (
            read::MESSAGES,
            "SEARCH message USING PRIMARY KEY (task=? AND seq>?)",
        ),
        (
            read::MESSAGES_BACK,
            "SEARCH message USING PRIMARY KEY (task=? AND seq<?)",
        ),
        (read::EVENTS, "SEARCH event USING INTEGER PRIMARY KEY (rowid>?)"),
        (
            read::EVENTS_OF,
            "SEARCH event USING INDEX event_task (task=? AND seq>?)",
        ),
    ];
    for (sql, wanted) in expected {
        let plan = plan(&mut conn, sql).await;
        assert!(plan.contains(wanted), "{sql}\n{plan}");
        assert!(!plan.contains("TEMP B-TREE FOR ORDER BY"), "{sql}\n{plan}");
    }
}

/// A search by one of the indexed members walks that index in the order of the page.
#[tokio::test]
async fn searches_walk_an_index() {
    let mut conn = database().await;
    let id = TaskId::generate(Timestamp::from_ms(0));
    let cases = [
        (
            TaskQuery::new().with_parent(id),
            None,
            "task_child (parent=? AND ord>?)",
        ),
        (
            TaskQuery::new().with_root(id),
            None,
            "task_root (root=? AND ord>?)",
        ),
        (
            TaskQuery::new().with_kind("k"),
            None,
            "task_kind (kind=? AND ord>?)",
        ),
        (
            TaskQuery::new().with_queue("q"),
            None,
            "task_queue (queue=? AND ord>?)",
        ),
        (
            TaskQuery::new(),
            Some(Status::Running),
            "task_status (status=? AND ord>?)",
        ),
        (TaskQuery::new(), None, "INTEGER PRIMARY KEY (rowid>?)"),
    ];
    for (query, status, wanted) in cases {
        let sql = read::search(&query, status, None, 10).sql().as_str().to_owned();
        let plan = plan(&mut conn, &sql).await.replace(
            "rowid>?",
            if wanted.contains("rowid") {
                "rowid>?"
            } else {
                "ord>?"
            },
        );
        assert!(plan.contains(wanted), "{sql}\n{plan}");
        assert!(!plan.contains("TEMP B-TREE"), "{sql}\n{plan}");
    }
}
