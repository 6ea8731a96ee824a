//! The statements of the writer.

use super::codec::{hot, said, texts};

pub(super) const BY_ID: &str = concat!("SELECT ", hot!(), " FROM task t WHERE t.uid = ?1");
pub(super) const BODY: &str = concat!(
    "SELECT ",
    texts!(),
    " FROM task t CROSS JOIN task_body b ON b.task = t.ord WHERE t.ord = ?1"
);
pub(super) const KEYED: &str = concat!(
    "SELECT ",
    hot!(),
    " FROM task t INDEXED BY task_key WHERE ifnull(t.parent, x'') = ?1 AND t.idem_key = ?2"
);
pub(super) const READY: &str = concat!(
    "SELECT ",
    hot!(),
    ", ",
    texts!(),
    " FROM task t INDEXED BY task_ready CROSS JOIN task_body b ON b.task = t.ord \
     WHERE t.status = 1 AND t.gated = 0 ORDER BY t.priority DESC, t.ready_seq LIMIT ?1"
);
pub(super) const READY_QUEUE: &str = concat!(
    "SELECT ",
    hot!(),
    ", ",
    texts!(),
    " FROM task t INDEXED BY task_ready_queue CROSS JOIN task_body b ON b.task = t.ord \
     WHERE t.status = 1 AND t.gated = 0 AND t.queue = ?1 \
     AND (?2 = '[]' OR t.kind IN (SELECT value FROM json_each(?2))) \
     ORDER BY t.priority DESC, t.ready_seq LIMIT ?3"
);
pub(super) const READY_KIND: &str = concat!(
    "SELECT ",
    hot!(),
    ", ",
    texts!(),
    " FROM task t INDEXED BY task_ready_kind CROSS JOIN task_body b ON b.task = t.ord \
     WHERE t.status = 1 AND t.gated = 0 AND t.kind = ?1 ORDER BY t.priority DESC, t.ready_seq LIMIT ?2"
);
/// Steps from one queue to the next, so that the number of tasks does not matter.
pub(super) const READY_QUEUES: &str = "WITH RECURSIVE step (queue) AS (\
     SELECT (SELECT queue FROM task INDEXED BY task_ready_queue WHERE status = 1 AND gated = 0 \
     AND queue >= ?1 ORDER BY queue LIMIT 1) UNION ALL \
     SELECT (SELECT t.queue FROM task t INDEXED BY task_ready_queue WHERE t.status = 1 AND t.gated = 0 \
     AND t.queue > step.queue ORDER BY t.queue LIMIT 1) FROM step WHERE step.queue IS NOT NULL) \
     SELECT queue FROM step WHERE queue IS NOT NULL LIMIT ?2";
pub(super) const FIRST_GATED: &str = concat!(
    "SELECT ",
    hot!(),
    " FROM task t INDEXED BY task_ckey WHERE t.status = 1 AND t.ckey = ?1 AND t.gated = 1 \
     ORDER BY t.priority DESC, t.ready_seq LIMIT 1"
);
pub(super) const LAST_PLACED: &str = concat!(
    "SELECT ",
    hot!(),
    " FROM task t INDEXED BY task_ckey WHERE t.status = 1 AND t.ckey = ?1 AND t.gated = 0 \
     ORDER BY t.priority, t.ready_seq DESC LIMIT 1"
);
pub(super) const EXPIRED: &str = concat!(
    "SELECT ",
    hot!(),
    " FROM task t INDEXED BY task_lease WHERE t.status = 2 AND t.lease_until <= ?1 \
     ORDER BY t.lease_until, t.ord LIMIT ?2"
);
pub(super) const DELAYED: &str = concat!(
    "SELECT ",
    hot!(),
    " FROM task t INDEXED BY task_delayed WHERE t.status = 0 AND t.run_after IS NOT NULL \
     AND t.run_after <= ?1 ORDER BY t.run_after, t.ord LIMIT ?2"
);
pub(super) const CHILDREN: &str = concat!(
    "SELECT ",
    hot!(),
    " FROM task t INDEXED BY task_child WHERE t.parent = ?1 AND t.ord > ?2 ORDER BY t.ord LIMIT ?3"
);
pub(super) const ANY_WAITS: &str = "SELECT EXISTS (SELECT 1 FROM dep)";
pub(super) const WAITERS: &str =
    "SELECT t.uid FROM dep d JOIN task t ON t.ord = d.waiter WHERE d.child = ?1 ORDER BY d.waiter";
pub(super) const KEYED_MESSAGE: &str = concat!(said!(), "WHERE m.task = ?1 AND m.idem_key = ?2");

pub(super) const INSERT: &str = "INSERT INTO task (uid, root, parent, depth, kind, queue, status, priority, ready_seq, \
     lease_epoch, attempt, max_attempts, crash_count, run_after, deadline, cancel_requested, open_children, \
     waiting_on, gather_failed, messages, version, created_at, updated_at, finished_at, ckey, cmax, idem_key) \
     VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, 0, ?9, ?10, ?11, ?12, ?13, ?14, ?15, 0, 0, 0, 0, ?16, ?17, ?18, ?19, \
     ?20, ?21, ?22)";
pub(super) const INSERT_BODY: &str =
    "INSERT INTO task_body (task, title, spec, payload, result, error) VALUES (?1, ?2, ?3, ?4, ?5, ?6)";
/// What changes with a status.
macro_rules! put {
    () => {
        "UPDATE task SET status = ?2, ready_seq = ?3, handler = ?4, lease_epoch = ?5, lease_until = ?6, attempt = ?7, \
         crash_count = ?8, run_after = ?9, cancel_requested = ?10, open_children = ?11, waiting_on = ?12, gather = ?13, \
         gather_failed = ?14, messages = ?15, version = ?16, updated_at = ?17, finished_at = ?18, gated = ?19, holds = ?20"
    };
}
/// A change of status touches every index that knows statuses.
pub(super) const PUT: &str = concat!(put!(), " WHERE ord = ?1");
pub(super) const PUT_WITH_RESULT: &str = concat!(put!(), ", result = ?21 WHERE ord = ?1");
pub(super) const PUT_WITH_ERROR: &str = concat!(put!(), ", error = ?21 WHERE ord = ?1");
/// A heartbeat, a message or a counter touches one index at most.
pub(super) const PUT_QUIET: &str = "UPDATE task SET lease_until = ?2, cancel_requested = ?3, open_children = ?4, \
     waiting_on = ?5, gather_failed = ?6, messages = ?7, version = ?8, updated_at = ?9, holds = ?10, purging = ?11 \
     WHERE ord = ?1";
/// How a task ended: near, apart, and not near any more.
pub(super) const PUT_RESULT: [&str; 3] = [
    "UPDATE task SET result = ?2 WHERE ord = ?1",
    "UPDATE task_body SET result = ?2 WHERE task = ?1",
    "UPDATE task SET result = NULL WHERE ord = ?1",
];
pub(super) const PUT_ERROR: [&str; 3] = [
    "UPDATE task SET error = ?2 WHERE ord = ?1",
    "UPDATE task_body SET error = ?2 WHERE task = ?1",
    "UPDATE task SET error = NULL WHERE ord = ?1",
];
pub(super) const PUT_GATED: &str = "UPDATE task SET gated = ?2 WHERE ord = ?1";
pub(super) const INSERT_EVENT: &str =
    "INSERT INTO event (seq, task, root, kind, body, at) VALUES (?, ?, ?, ?, ?, ?)";
/// Events that one statement inserts.
pub(super) const EVENTS: usize = 16;
pub(super) const INSERT_EVENTS: &str = "INSERT INTO event (seq, task, root, kind, body, at) VALUES \
     (?, ?, ?, ?, ?, ?), (?, ?, ?, ?, ?, ?), (?, ?, ?, ?, ?, ?), (?, ?, ?, ?, ?, ?), \
     (?, ?, ?, ?, ?, ?), (?, ?, ?, ?, ?, ?), (?, ?, ?, ?, ?, ?), (?, ?, ?, ?, ?, ?), \
     (?, ?, ?, ?, ?, ?), (?, ?, ?, ?, ?, ?), (?, ?, ?, ?, ?, ?), (?, ?, ?, ?, ?, ?), \
     (?, ?, ?, ?, ?, ?), (?, ?, ?, ?, ?, ?), (?, ?, ?, ?, ?, ?), (?, ?, ?, ?, ?, ?)";
pub(super) const INSERT_MESSAGE: &str = "INSERT INTO message (task, seq, role, content, tool_calls, tool_call_id, \
     persistence, created_at, idem_key, apart) VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10)";
pub(super) const INSERT_TEXT: &str = "INSERT INTO message_text (task, seq, content) VALUES (?1, ?2, ?3)";
/// How many tasks are in each status, changed by so many, in the order of their life.
pub(super) const ADD_TO_TALLY: &str = "UPDATE tally SET preparing = preparing + ?1, ready = ready + ?2, \
     running = running + ?3, blocked = blocked + ?4, completed = completed + ?5, failed = failed + ?6, \
     cancelled = cancelled + ?7 WHERE id = 1";

pub(super) const STEP: &str = "SELECT seq, name, result, at FROM step WHERE task = ?1 AND name = ?2";
pub(super) const LAST_STEP: &str = "SELECT seq, bytes FROM step WHERE task = ?1 ORDER BY seq DESC LIMIT 1";
pub(super) const INSERT_STEP: &str =
    "INSERT INTO step (task, seq, name, result, bytes, at) VALUES (?1, ?2, ?3, ?4, ?5, ?6)";

pub(super) const NAMED: &str = "SELECT body FROM named WHERE space = ?1 AND name = ?2";
pub(super) const PUT_NAMED: &str = "INSERT INTO named (space, name, due, body) VALUES (?1, ?2, ?3, ?4) \
     ON CONFLICT (space, name) DO UPDATE SET due = excluded.due, body = excluded.body";
pub(super) const NAMES: &str =
    "SELECT name, body FROM named WHERE space = ?1 AND name > ?2 ORDER BY name LIMIT ?3";
pub(super) const DUE_NAMED: &str = "SELECT body FROM named INDEXED BY named_due WHERE space = ?1 AND due <= ?2 \
     AND due IS NOT NULL ORDER BY due, name LIMIT ?3";
pub(super) const HOLD: &str = "SELECT task, primitive, token, units, place, item, since FROM hold \
     WHERE task = ?1 AND primitive = ?2";
pub(super) const HOLDS_OF: &str = "SELECT task, primitive, token, units, place, item, since FROM hold \
     WHERE task = ?1 ORDER BY primitive";
pub(super) const WAITER: &str =
    "SELECT task, primitive, place, units, until, since FROM waiter WHERE task = ?1";
pub(super) const FIRST_WAITER: &str = "SELECT task, primitive, place, units, until, since FROM waiter \
     WHERE primitive = ?1 ORDER BY place LIMIT 1";
pub(super) const IMPATIENT: &str = "SELECT task, primitive, place, units, until, since FROM waiter \
     INDEXED BY waiter_until WHERE until IS NOT NULL AND until <= ?1 ORDER BY until, task LIMIT ?2";
pub(super) const FIRST_ITEM: &str = "SELECT place, body FROM item WHERE queue = ?1 ORDER BY place LIMIT 1";

pub(super) const OPEN_IN_TREE: &str =
    "SELECT uid FROM task INDEXED BY task_root WHERE root = ?1 AND status < 4 ORDER BY ord LIMIT 1";
pub(super) const NEWEST_IN_TREE: &str = "SELECT ord, status FROM task INDEXED BY task_root WHERE root = ?1 \
     ORDER BY ord DESC LIMIT ?2";
/// What goes with the tasks of a tree from a place of creation on, and at last the tasks.
pub(super) const PURGE: [&str; 6] = [
    "DELETE FROM message_text WHERE task IN (SELECT ord FROM task INDEXED BY task_root WHERE root = ?1 AND ord >= ?2)",
    "DELETE FROM message WHERE task IN (SELECT ord FROM task INDEXED BY task_root WHERE root = ?1 AND ord >= ?2)",
    "DELETE FROM event WHERE task IN (SELECT uid FROM task INDEXED BY task_root WHERE root = ?1 AND ord >= ?2)",
    "DELETE FROM step WHERE task IN (SELECT ord FROM task INDEXED BY task_root WHERE root = ?1 AND ord >= ?2)",
    "DELETE FROM task_body WHERE task IN (SELECT ord FROM task INDEXED BY task_root WHERE root = ?1 AND ord >= ?2)",
    "DELETE FROM task WHERE root = ?1 AND ord >= ?2",
];
