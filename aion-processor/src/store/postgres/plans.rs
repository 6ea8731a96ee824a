//! The plans of the statements that must stay flat as the database grows.

use aion_sql::testkit::TestDatabase;
use aion_types::{Status, TaskId, Timestamp};
use sqlx::{AssertSqlSafe, PgPool};

use super::{connect_pool, hooks, read, sql};
use crate::TaskQuery;

/// The plan of a statement whose values nobody knows yet.
async fn plan(pool: &PgPool, sql: &str) -> String {
    let mut conn = pool.acquire().await.unwrap();
    let values = (1..=9)
        .rev()
        .find(|n| sql.contains(&format!("${n}")))
        .unwrap_or(0);
    let values = vec!["NULL"; values].join(", ");
    let values = if values.is_empty() {
        values
    } else {
        format!("({values})")
    };
    let prepare = format!("PREPARE asked AS {sql}");
    sqlx::raw_sql(AssertSqlSafe(prepare))
        .execute(&mut *conn)
        .await
        .unwrap();
    let explain = format!("EXPLAIN (COSTS OFF) EXECUTE asked{values}");
    let lines: Vec<String> = sqlx::query_scalar(AssertSqlSafe(explain))
        .persistent(false)
        .fetch_all(&mut *conn)
        .await
        .unwrap();
    sqlx::raw_sql("DEALLOCATE asked")
        .execute(&mut *conn)
        .await
        .unwrap();
    lines.join("; ")
}

/// No hot statement scans a table or sorts: each walks the index that is there for it, in an empty database
/// whose statistics are as old as they can be.
#[tokio::test]
async fn hot_statements_walk_their_index() {
    let Some(database) = TestDatabase::create().await else {
        return;
    };
    let pool = connect_pool(database.connect(), 3).await.unwrap();
    let expected = [
        (sql::BY_IDS, "entry_uid"),
        (sql::READY, "task_ready"),
        (sql::READY_QUEUE, "task_ready_queue"),
        (sql::READY_KIND, "task_ready_kind"),
        (sql::READY_QUEUES, "task_ready_queue"),
        (sql::EXPIRED, "task_lease"),
        (sql::DELAYED, "task_delayed"),
        (sql::WAITERS, "dep_pkey"),
        (sql::KEYED, "entry_key"),
        (sql::FIRST_GATED, "task_ckey"),
        (sql::LAST_PLACED, "task_ckey"),
        (sql::CHILDREN, "entry_child"),
        (sql::KEYED_MESSAGE, "message_key"),
        (sql::NAMED, "named_pkey"),
        (sql::NAMES, "named_pkey"),
        (sql::DUE_NAMED, "named_due"),
        (sql::HOLD, "hold_pkey"),
        (sql::HOLDS_OF, "hold_pkey"),
        (sql::WAITER, "waiter_pkey"),
        (sql::FIRST_WAITER, "waiter_line"),
        (sql::IMPATIENT, "waiter_until"),
        (sql::FIRST_ITEM, "item_pkey"),
        (hooks::DELIVERY, "delivery_pkey"),
        (hooks::FIRST_PARKED, "delivery_task"),
        (hooks::HEADS, "delivery_due"),
        (hooks::BLOCKED, "delivery_task"),
        (hooks::IN_STATE, "delivery_dead"),
        (sql::NEWEST_IN_TREE, "entry_root"),
        (sql::PURGE[1], "event_task"),
        (read::NAMES, "named_pkey"),
        (read::HOLDERS, "hold_primitive"),
        (read::HOLDERS_OF, "hold_primitive"),
        (read::WAITERS, "waiter_line"),
        (read::GATHERS, "dep_pkey"),
        (read::WAITERS_OF, "waiter_line"),
        (read::OLDEST, "task_status"),
        (read::ENDED_ROOTS, "task_root_ended"),
        (read::ENDED, "task_ended"),
        (read::MESSAGES, "message_pkey"),
        (read::MESSAGES_BACK, "message_pkey"),
        (sql::STEP, "step_name"),
        (sql::LAST_STEP, "step_pkey"),
        (read::STEPS, "step_pkey"),
        (read::EVENTS, "event_pkey"),
        (read::EVENTS_OF, "event_task"),
    ];
    for (sql, index) in expected {
        let plan = plan(&pool, sql).await;
        let walks = format!("using {index} on");
        assert!(plan.contains(&walks), "{sql}\n{plan}");
        assert!(!plan.contains("Seq Scan"), "{sql}\n{plan}");
        assert!(!plan.contains("Sort"), "{sql}\n{plan}");
    }
    pool.close().await;
    database.remove().await;
}

/// A search by one of the indexed members walks that index in the order of the page.
#[tokio::test]
async fn searches_walk_an_index() {
    let Some(database) = TestDatabase::create().await else {
        return;
    };
    let pool = connect_pool(database.connect(), 3).await.unwrap();
    let id = TaskId::generate(Timestamp::from_ms(0));
    let cases = [
        (TaskQuery::new().with_parent(id), None, "entry_child"),
        (TaskQuery::new().with_root(id), None, "entry_root"),
        (TaskQuery::new().with_kind("k"), None, "entry_kind"),
        (TaskQuery::new().with_queue("q"), None, "entry_queue"),
        (TaskQuery::new(), Some(Status::Running), "task_status"),
        (TaskQuery::new(), None, "task_pkey"),
    ];
    for (query, status, index) in cases {
        let sql = read::search(&query, status, None, 10).sql().as_str().to_owned();
        let plan = plan(&pool, &sql).await;
        let walks = format!("using {index} on");
        assert!(plan.contains(&walks), "{sql}\n{plan}");
        assert!(!plan.contains("Seq Scan"), "{sql}\n{plan}");
        assert!(!plan.contains("Sort"), "{sql}\n{plan}");
    }
    pool.close().await;
    database.remove().await;
}
