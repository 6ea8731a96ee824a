//! The statements of the writer.

use super::codec::{hot, said, texts};

pub(super) const BODY: &str = concat!(
    "SELECT ",
    texts!(),
    " FROM task t JOIN task_body b ON b.task = t.ord WHERE t.ord = $1"
);
pub(super) const KEYED: &str =
    "SELECT e.uid FROM entry e WHERE coalesce(e.parent, ''::bytea) = $1 AND e.idem_key = $2";
pub(super) const READY: &str = concat!(
    "SELECT ",
    hot!(),
    ", ",
    texts!(),
    ", EXISTS (SELECT 1 FROM dep d WHERE d.child = t.ord) FROM task t JOIN task_body b ON b.task = t.ord \
     WHERE t.status = 1 AND NOT t.gated ORDER BY t.priority DESC, t.ready_seq LIMIT $1"
);
pub(super) const READY_QUEUE: &str = concat!(
    "SELECT ",
    hot!(),
    ", ",
    texts!(),
    ", EXISTS (SELECT 1 FROM dep d WHERE d.child = t.ord) FROM task t JOIN task_body b ON b.task = t.ord \
     WHERE t.status = 1 AND NOT t.gated AND t.queue = $1 \
     AND (cardinality($2::text[]) = 0 OR t.kind = ANY($2)) \
     ORDER BY t.priority DESC, t.ready_seq LIMIT $3"
);
pub(super) const READY_KIND: &str = concat!(
    "SELECT ",
    hot!(),
    ", ",
    texts!(),
    ", EXISTS (SELECT 1 FROM dep d WHERE d.child = t.ord) FROM task t JOIN task_body b ON b.task = t.ord \
     WHERE t.status = 1 AND NOT t.gated AND t.kind = $1 ORDER BY t.priority DESC, t.ready_seq LIMIT $2"
);
/// Steps from one queue to the next, so that the number of tasks does not matter.
pub(super) const READY_QUEUES: &str = "WITH RECURSIVE step (queue) AS (\
     SELECT (SELECT queue FROM task WHERE status = 1 AND NOT gated \
     AND queue >= $1 ORDER BY queue LIMIT 1) UNION ALL \
     SELECT (SELECT t.queue FROM task t WHERE t.status = 1 AND NOT t.gated \
     AND t.queue > step.queue ORDER BY t.queue LIMIT 1) FROM step WHERE step.queue IS NOT NULL) \
     SELECT queue FROM step WHERE queue IS NOT NULL LIMIT $2";
/// `gated` is a value here, for else the planner likes the index of all that is ready.
pub(super) const FIRST_GATED: &str = concat!(
    "SELECT ",
    hot!(),
    " FROM task t WHERE t.status = 1 AND t.ckey = $1 AND t.gated = $2 \
     ORDER BY t.priority DESC, t.ready_seq LIMIT 1"
);
pub(super) const LAST_PLACED: &str = concat!(
    "SELECT ",
    hot!(),
    " FROM task t WHERE t.status = 1 AND t.ckey = $1 AND t.gated = $2 \
     ORDER BY t.priority, t.ready_seq DESC LIMIT 1"
);
pub(super) const EXPIRED: &str = concat!(
    "SELECT ",
    hot!(),
    " FROM task t WHERE t.status = 2 AND t.lease_until <= $1 \
     ORDER BY t.lease_until, t.ord LIMIT $2"
);
pub(super) const DELAYED: &str = concat!(
    "SELECT ",
    hot!(),
    " FROM task t WHERE t.status = 0 AND t.run_after IS NOT NULL \
     AND t.run_after <= $1 ORDER BY t.run_after, t.ord LIMIT $2"
);
pub(super) const CHILDREN: &str = concat!(
    "SELECT ",
    hot!(),
    " FROM entry e JOIN task t ON t.ord = e.ord WHERE e.parent = $1 AND e.ord > $2 ORDER BY e.ord LIMIT $3"
);
pub(super) const WAITERS: &str =
    "SELECT t.uid FROM dep d JOIN task t ON t.ord = d.waiter WHERE d.child = $1 ORDER BY d.waiter";
pub(super) const KEYED_MESSAGE: &str = concat!(said!(), "WHERE m.task = $1 AND m.idem_key = $2");

/// The time by the server's clock, in milliseconds.
pub(super) const NOW: &str = "SELECT (extract(epoch FROM clock_timestamp()) * 1000)::bigint";
/// What the transaction begins with: nobody else writes until it ends, and time goes on until it begins. It also
/// tells which transaction wrote last.
macro_rules! lock {
    () => {
        "SELECT s.last_seq, s.last_ord, (extract(epoch FROM clock_timestamp()) * 1000)::bigint, s.turn \
         FROM (SELECT last_seq, last_ord, xmin::text::bigint AS turn FROM state WHERE id = 1 FOR UPDATE) s"
    };
}
pub(super) const LOCK: &str = lock!();
pub(super) const BEGIN_HASTY: &str = concat!("BEGIN; SET LOCAL synchronous_commit = off; ", lock!());
pub(super) const BEGIN_CAREFUL: &str = concat!("BEGIN; SET LOCAL synchronous_commit = on; ", lock!());
/// What it ends with: the numbers that were given, how many tasks are in each status, changed by so many, in the order
/// of their life, changed tasks and events. A function does it, so that it is one journey, and a transaction by itself.
pub(super) const SETTLE: &str = "SELECT turn, ms FROM settle($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12, $13, \
     $14, $15, $16, $17, $18, $19, $20, $21, $22, $23, $24, $25, $26, $27, $28, $29, $30, $31, $32, $33, $34, \
     $35, $36, $37, $38, $39, $40, $41, $42, $43, $44, $45, $46, $47)";
/// Tasks by their ids, and whether anybody waits for them.
pub(super) const BY_IDS: &str = concat!(
    "SELECT ",
    hot!(),
    ", EXISTS (SELECT 1 FROM dep d WHERE d.child = t.ord) \
     FROM entry e JOIN task t ON t.ord = e.ord WHERE e.uid = ANY($1::bytea[])"
);
/// New tasks, a column an array.
pub(super) const INSERT: &str = "INSERT INTO task (ord, uid, root, parent, depth, kind, queue, status, priority, \
     ready_seq, handler, lease_epoch, lease_until, attempt, max_attempts, crash_count, run_after, deadline, \
     cancel_requested, open_children, waiting_on, gather, gather_failed, messages, version, created_at, \
     updated_at, finished_at, ckey, ckey_max, gated, holds, purging) SELECT * FROM unnest($1::int8[], \
     $2::bytea[], $3::bytea[], $4::bytea[], $5::int8[], $6::text[], $7::text[], $8::int8[], $9::int8[], \
     $10::int8[], $11::text[], $12::int8[], $13::int8[], $14::int8[], $15::int8[], $16::int8[], $17::int8[], \
     $18::int8[], $19::bool[], $20::int8[], $21::int8[], $22::int8[], $23::bool[], $24::int8[], $25::int8[], \
     $26::int8[], $27::int8[], $28::int8[], $29::text[], $30::int8[], $31::bool[], $32::int8[], $33::bool[])";
/// What never changes of new tasks, a column an array.
pub(super) const INSERT_ENTRIES: &str = "INSERT INTO entry (ord, uid, root, parent, kind, queue, idem_key) SELECT * \
     FROM unnest($1::int8[], $2::bytea[], $3::bytea[], $4::bytea[], $5::text[], $6::text[], $7::text[])";
pub(super) const INSERT_BODIES: &str = "INSERT INTO task_body (task, title, spec, payload, result, error) \
     SELECT * FROM unnest($1::int8[], $2::text[], $3::text[], $4::text[], $5::text[], $6::text[])";
/// Changed tasks, a column an array.
pub(super) const UPDATE: &str = "UPDATE task t SET status = u.status, ready_seq = u.ready_seq, handler = u.handler, \
     lease_epoch = u.lease_epoch, lease_until = u.lease_until, attempt = u.attempt, crash_count = u.crash_count, \
     run_after = u.run_after, cancel_requested = u.cancel_requested, open_children = u.open_children, \
     waiting_on = u.waiting_on, gather = u.gather, gather_failed = u.gather_failed, messages = u.messages, \
     version = u.version, updated_at = u.updated_at, finished_at = u.finished_at, gated = u.gated, \
     holds = u.holds, purging = u.purging, result = coalesce(u.result, t.result), \
     error = coalesce(u.error, t.error) \
     FROM unnest($1::int8[], $2::int8[], $3::int8[], $4::text[], $5::int8[], $6::int8[], $7::int8[], $8::int8[], \
     $9::int8[], $10::bool[], $11::int8[], $12::int8[], $13::int8[], $14::bool[], $15::int8[], $16::int8[], \
     $17::int8[], $18::int8[], $19::bool[], $20::int8[], $21::bool[], $22::text[], $23::text[]) AS u (ord, status, ready_seq, handler, \
     lease_epoch, lease_until, attempt, crash_count, run_after, cancel_requested, open_children, waiting_on, \
     gather, gather_failed, messages, version, updated_at, finished_at, gated, holds, purging, result, error) \
     WHERE t.ord = u.ord";
/// How tasks ended, where that is long.
pub(super) const UPDATE_BODIES: &str = "UPDATE task_body b SET result = coalesce(u.result, b.result), \
     error = coalesce(u.error, b.error) FROM unnest($1::int8[], $2::text[], $3::text[]) AS u (task, result, error) \
     WHERE b.task = u.task";
/// Tasks whose last error lies apart.
pub(super) const FORGET_ERRORS: &str =
    "UPDATE task SET error = NULL WHERE ord = ANY($1::int8[]) AND error IS NOT NULL";
pub(super) const INSERT_EVENTS: &str = "INSERT INTO event (seq, task, root, kind, body, at) SELECT * FROM \
     unnest($1::int8[], $2::bytea[], $3::bytea[], $4::text[], $5::text[], $6::int8[])";
pub(super) const INSERT_MESSAGES: &str = "INSERT INTO message (task, seq, role, content, tool_calls, tool_call_id, \
     persistence, created_at, idem_key) SELECT * FROM unnest($1::int8[], $2::int8[], $3::text[], $4::text[], \
     $5::text[], $6::text[], $7::text[], $8::int8[], $9::text[])";
pub(super) const INSERT_DEPS: &str =
    "INSERT INTO dep (child, waiter) SELECT * FROM unnest($1::int8[], $2::int8[])";

pub(super) const STEP: &str = "SELECT seq, name, result, at FROM step WHERE task = $1 AND name = $2";
pub(super) const LAST_STEP: &str = "SELECT seq, bytes FROM step WHERE task = $1 ORDER BY seq DESC LIMIT 1";
pub(super) const INSERT_STEP: &str =
    "INSERT INTO step (task, seq, name, result, bytes, at) VALUES ($1, $2, $3, $4, $5, $6)";

pub(super) const NAMED: &str = "SELECT body FROM named WHERE space = $1 AND name = $2";
pub(super) const PUT_NAMED: &str = "INSERT INTO named (space, name, due, body) VALUES ($1, $2, $3, $4) \
     ON CONFLICT (space, name) DO UPDATE SET due = excluded.due, body = excluded.body";
pub(super) const NAMES: &str =
    "SELECT name, body FROM named WHERE space = $1 AND name > $2 ORDER BY name LIMIT $3";
pub(super) const DUE_NAMED: &str = "SELECT body FROM named WHERE space = $1 AND due <= $2 \
     AND due IS NOT NULL ORDER BY due, name LIMIT $3";
pub(super) const HOLD: &str = "SELECT task, primitive, token, units, place, item, since FROM hold \
     WHERE task = $1 AND primitive = $2";
pub(super) const HOLDS_OF: &str = "SELECT task, primitive, token, units, place, item, since FROM hold \
     WHERE task = $1 ORDER BY primitive";
pub(super) const WAITER: &str =
    "SELECT task, primitive, place, units, until, since FROM waiter WHERE task = $1";
pub(super) const FIRST_WAITER: &str = "SELECT task, primitive, place, units, until, since FROM waiter \
     WHERE primitive = $1 ORDER BY place LIMIT 1";
pub(super) const IMPATIENT: &str = "SELECT task, primitive, place, units, until, since FROM waiter \
     WHERE until IS NOT NULL AND until <= $1 ORDER BY until, task LIMIT $2";
pub(super) const FIRST_ITEM: &str = "SELECT place, body FROM item WHERE queue = $1 ORDER BY place LIMIT 1";

pub(super) const OPEN_IN_TREE: &str = "SELECT t.uid FROM entry e JOIN task t ON t.ord = e.ord \
     WHERE e.root = $1 AND t.status < 4 ORDER BY e.ord LIMIT 1";
pub(super) const NEWEST_IN_TREE: &str = "SELECT e.ord, t.status FROM entry e JOIN task t ON t.ord = e.ord \
     WHERE e.root = $1 ORDER BY e.ord DESC LIMIT $2";
/// What goes with the tasks of a tree from a place of creation on, and at last the tasks.
pub(super) const PURGE: [&str; 6] = [
    "DELETE FROM message WHERE task IN (SELECT ord FROM entry WHERE root = $1 AND ord >= $2)",
    "DELETE FROM event WHERE task IN (SELECT uid FROM entry WHERE root = $1 AND ord >= $2)",
    "DELETE FROM step WHERE task IN (SELECT ord FROM entry WHERE root = $1 AND ord >= $2)",
    "DELETE FROM task_body WHERE task IN (SELECT ord FROM entry WHERE root = $1 AND ord >= $2)",
    "DELETE FROM task WHERE ord IN (SELECT ord FROM entry WHERE root = $1 AND ord >= $2)",
    "DELETE FROM entry WHERE root = $1 AND ord >= $2",
];
