//! The plans of the statements that must stay flat as the file grows.

use aion_types::{Status, TaskId, Timestamp};
use sqlx::{AssertSqlSafe, Connection, Row as _, SqliteConnection};

use super::{hooks, read, sql};
use crate::TaskQuery;
use crate::store::schema;

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
        (sql::BY_ID, "SEARCH t USING INDEX sqlite_autoindex_task_1 (uid=?)"),
        (sql::READY, "SCAN t USING INDEX task_ready"),
        (
            sql::READY_QUEUE,
            "SEARCH t USING INDEX task_ready_queue (queue=?)",
        ),
        (sql::READY_KIND, "SEARCH t USING INDEX task_ready_kind (kind=?)"),
        (sql::EXPIRED, "SEARCH t USING INDEX task_lease (lease_until<?)"),
        (
            sql::DELAYED,
            "SEARCH t USING INDEX task_delayed (run_after>? AND run_after<?)",
        ),
        (sql::WAITERS, "SEARCH d USING PRIMARY KEY (child=?)"),
        (
            sql::KEYED,
            "SEARCH t USING INDEX task_key (<expr>=? AND idem_key=?)",
        ),
        (
            sql::READY_QUEUES,
            "SEARCH t USING COVERING INDEX task_ready_queue (queue>?)",
        ),
        (
            sql::FIRST_GATED,
            "SEARCH t USING INDEX task_ckey (ckey=? AND gated=?)",
        ),
        (
            sql::LAST_PLACED,
            "SEARCH t USING INDEX task_ckey (ckey=? AND gated=?)",
        ),
        (
            sql::CHILDREN,
            "SEARCH t USING INDEX task_child (parent=? AND ord>?)",
        ),
        (
            sql::KEYED_MESSAGE,
            "SEARCH m USING INDEX message_key (task=? AND idem_key=?)",
        ),
        (sql::NAMED, "SEARCH named USING PRIMARY KEY (space=? AND name=?)"),
        (sql::NAMES, "SEARCH named USING PRIMARY KEY (space=? AND name>?)"),
        (
            sql::DUE_NAMED,
            "SEARCH named USING INDEX named_due (space=? AND due>? AND due<?)",
        ),
        (
            sql::HOLD,
            "SEARCH hold USING PRIMARY KEY (task=? AND primitive=?)",
        ),
        (sql::HOLDS_OF, "SEARCH hold USING PRIMARY KEY (task=?)"),
        (sql::WAITER, "SEARCH waiter USING PRIMARY KEY (task=?)"),
        (
            sql::FIRST_WAITER,
            "SEARCH waiter USING INDEX waiter_line (primitive=?)",
        ),
        (
            sql::IMPATIENT,
            "SEARCH waiter USING INDEX waiter_until (until>? AND until<?)",
        ),
        (sql::FIRST_ITEM, "SEARCH item USING PRIMARY KEY (queue=?)"),
        (
            hooks::DELIVERY,
            "SEARCH delivery USING PRIMARY KEY (webhook=? AND seq=?)",
        ),
        (
            hooks::FIRST_PARKED,
            "SEARCH delivery USING INDEX delivery_task (webhook=? AND task=?)",
        ),
        (
            hooks::HEADS,
            "SEARCH delivery USING INDEX delivery_due (webhook=? AND next_at>? AND next_at<?)",
        ),
        (
            hooks::BLOCKED,
            "SEARCH delivery USING COVERING INDEX delivery_task (webhook=?)",
        ),
        (
            hooks::IN_STATE,
            "SEARCH delivery USING INDEX delivery_dead (webhook=? AND dead=? AND seq>?)",
        ),
        (sql::OPEN_IN_TREE, "SEARCH task USING INDEX task_root (root=?)"),
        (sql::NEWEST_IN_TREE, "SEARCH task USING INDEX task_root (root=?)"),
        (
            sql::PURGE[2],
            "SEARCH event USING COVERING INDEX event_task (task=?)",
        ),
        (read::NAMES, "SEARCH named USING PRIMARY KEY (space=? AND name>?)"),
        (read::HOLDERS, "SCAN hold USING INDEX hold_primitive"),
        (
            read::HOLDERS_OF,
            "SEARCH hold USING INDEX hold_primitive (primitive=?)",
        ),
        (read::WAITERS, "SCAN waiter USING INDEX waiter_line"),
        (
            read::WAITERS_OF,
            "SEARCH waiter USING INDEX waiter_line (primitive=?)",
        ),
        (read::GATHERS, "SCAN d"),
        (read::OLDEST, "SEARCH task USING INDEX task_status (status=?)"),
        (
            read::ENDED_ROOTS,
            "SEARCH t USING INDEX task_root_ended ((finished_at,uid)>(?,?) AND finished_at<?)",
        ),
        (read::ENDED, "SEARCH t USING INDEX task_ended (finished_at>?)"),
        (read::MESSAGES, "SEARCH m USING PRIMARY KEY (task=? AND seq>?)"),
        (
            read::MESSAGES_BACK,
            "SEARCH m USING PRIMARY KEY (task=? AND seq<?)",
        ),
        (sql::STEP, "SEARCH step USING INDEX step_name (task=? AND name=?)"),
        (sql::LAST_STEP, "SEARCH step USING PRIMARY KEY (task=?)"),
        (read::STEPS, "SEARCH step USING PRIMARY KEY (task=? AND seq>?)"),
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
