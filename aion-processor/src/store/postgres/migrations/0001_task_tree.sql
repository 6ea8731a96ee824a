-- The whole schema, first version. Ids of tasks are the 16 bytes of a UUID version 7; `ord` is the
-- order of creation in this database and never leaves it except inside an opaque cursor. Texts compare
-- byte by byte. Nothing refers to anything by foreign keys: whoever writes has read the row in the same
-- transaction, and one transaction writes at a time.
-- Statuses: 0 preparing, 1 ready, 2 running, 3 blocked, 4 completed, 5 failed, 6 cancelled.

-- One row. Every transaction that writes locks it first, so that transactions follow one another, and the
-- order of events is the order of commits. It also says how many tasks are in each status.
CREATE TABLE state (
    id        BIGINT PRIMARY KEY CHECK (id = 1),
    last_seq  BIGINT NOT NULL,
    last_ord  BIGINT NOT NULL,
    preparing BIGINT NOT NULL,
    ready     BIGINT NOT NULL,
    running   BIGINT NOT NULL,
    blocked   BIGINT NOT NULL,
    completed BIGINT NOT NULL,
    failed    BIGINT NOT NULL,
    cancelled BIGINT NOT NULL
) WITH (fillfactor = 10);
INSERT INTO state VALUES (1, 0, 0, 0, 0, 0, 0, 0, 0, 0);

-- The part that changes often, apart from the texts.
CREATE TABLE task (
    ord              BIGINT  PRIMARY KEY,
    uid              BYTEA   NOT NULL UNIQUE,
    root             BYTEA   NOT NULL,
    parent           BYTEA,
    depth            BIGINT  NOT NULL,
    kind             TEXT    COLLATE "C" NOT NULL,
    queue            TEXT    COLLATE "C" NOT NULL,
    status           BIGINT  NOT NULL CHECK (status BETWEEN 0 AND 6),
    priority         BIGINT  NOT NULL,
    ready_seq        BIGINT  NOT NULL,
    handler          TEXT    COLLATE "C",
    lease_epoch      BIGINT  NOT NULL,
    lease_until      BIGINT,
    attempt          BIGINT  NOT NULL,
    max_attempts     BIGINT  NOT NULL,
    crash_count      BIGINT  NOT NULL,
    run_after        BIGINT,
    deadline         BIGINT,
    cancel_requested BOOLEAN NOT NULL,
    open_children    BIGINT  NOT NULL,
    waiting_on       BIGINT  NOT NULL,
    gather           BIGINT,
    gather_failed    BOOLEAN NOT NULL,
    messages         BIGINT  NOT NULL,
    version          BIGINT  NOT NULL,
    created_at       BIGINT  NOT NULL,
    updated_at       BIGINT  NOT NULL,
    finished_at      BIGINT,
    ckey             TEXT    COLLATE "C",
    ckey_max         BIGINT,
    -- READY, but without a place among those with its key: no claim sees it.
    gated            BOOLEAN NOT NULL,
    holds            BIGINT  NOT NULL,
    purging          BOOLEAN NOT NULL,
    idem_key         TEXT    COLLATE "C"
) WITH (fillfactor = 70, autovacuum_vacuum_scale_factor = 0.05, autovacuum_vacuum_cost_delay = 0);

-- Claims: whatever is ready lies here in the order in which it is claimed, and nothing else does.
CREATE INDEX task_ready       ON task (priority DESC, ready_seq) WHERE status = 1 AND NOT gated;
CREATE INDEX task_ready_queue ON task (queue, priority DESC, ready_seq) WHERE status = 1 AND NOT gated;
CREATE INDEX task_ready_kind  ON task (kind, priority DESC, ready_seq) WHERE status = 1 AND NOT gated;
CREATE INDEX task_ckey        ON task (ckey, gated, priority DESC, ready_seq) WHERE status = 1 AND ckey IS NOT NULL;
-- Time: leases that end, starts that come.
CREATE INDEX task_lease   ON task (lease_until, ord) WHERE status = 2;
CREATE INDEX task_delayed ON task (run_after, ord) WHERE status = 0 AND run_after IS NOT NULL;
-- Lists.
CREATE INDEX task_child  ON task (parent, ord) WHERE parent IS NOT NULL;
CREATE INDEX task_root   ON task (root, ord);
CREATE INDEX task_status ON task (status, ord);
CREATE INDEX task_kind   ON task (kind, ord);
CREATE INDEX task_queue  ON task (queue, ord);
CREATE INDEX task_ended  ON task (finished_at, ord) WHERE finished_at IS NOT NULL;
CREATE INDEX task_root_ended ON task (finished_at, uid)
    WHERE parent IS NULL AND finished_at IS NOT NULL AND NOT purging;
CREATE UNIQUE INDEX task_key ON task ((coalesce(parent, ''::bytea)), idem_key) WHERE idem_key IS NOT NULL;

CREATE TABLE task_body (
    task    BIGINT PRIMARY KEY,
    title   TEXT COLLATE "C" NOT NULL,
    spec    TEXT COLLATE "C" NOT NULL,
    payload TEXT NOT NULL,
    result  TEXT,
    error   TEXT
);

-- Who waits for whom: only what a gather listed and what has not ended.
CREATE TABLE dep (
    child  BIGINT NOT NULL,
    waiter BIGINT NOT NULL,
    PRIMARY KEY (child, waiter)
);
CREATE INDEX dep_waiter ON dep (waiter, child);

CREATE TABLE message (
    task         BIGINT NOT NULL,
    seq          BIGINT NOT NULL,
    role         TEXT   NOT NULL,
    content      TEXT   NOT NULL,
    tool_calls   TEXT,
    tool_call_id TEXT,
    persistence  TEXT,
    created_at   BIGINT NOT NULL,
    idem_key     TEXT   COLLATE "C",
    PRIMARY KEY (task, seq)
);
CREATE UNIQUE INDEX message_key ON message (task, idem_key) WHERE idem_key IS NOT NULL;

-- The log, written in the transaction of the change.
CREATE TABLE event (
    seq  BIGINT PRIMARY KEY,
    task BYTEA  NOT NULL,
    root BYTEA  NOT NULL,
    kind TEXT   NOT NULL,
    body TEXT   NOT NULL,
    at   BIGINT NOT NULL
);
CREATE INDEX event_task ON event (task, seq);

-- Small things by name, as JSON: 0 primitives, 1 concurrency keys, 2 shares of queues, 3 schedules,
-- 4 heads of objects, 5 trees that are being cancelled, 6 trees that are being removed.
CREATE TABLE named (
    space BIGINT NOT NULL,
    name  TEXT   COLLATE "C" NOT NULL,
    due   BIGINT,
    body  TEXT   NOT NULL,
    PRIMARY KEY (space, name)
);
CREATE INDEX named_due ON named (space, due, name) WHERE due IS NOT NULL;

-- Who holds what of a primitive; `place` is where the item goes back to.
CREATE TABLE hold (
    task      BYTEA  NOT NULL,
    primitive TEXT   COLLATE "C" NOT NULL,
    token     BIGINT NOT NULL,
    units     BIGINT NOT NULL,
    place     BIGINT NOT NULL,
    item      TEXT,
    since     BIGINT NOT NULL,
    PRIMARY KEY (task, primitive)
);
CREATE INDEX hold_primitive ON hold (primitive, token);

-- Who waits for a primitive: a task is in one line at most.
CREATE TABLE waiter (
    task      BYTEA  PRIMARY KEY,
    primitive TEXT   COLLATE "C" NOT NULL,
    place     BIGINT NOT NULL,
    units     BIGINT NOT NULL,
    until     BIGINT,
    since     BIGINT NOT NULL
);
CREATE INDEX waiter_line  ON waiter (primitive, place);
CREATE INDEX waiter_until ON waiter (until, task) WHERE until IS NOT NULL;

CREATE TABLE item (
    queue TEXT   COLLATE "C" NOT NULL,
    place BIGINT NOT NULL,
    body  TEXT   NOT NULL,
    PRIMARY KEY (queue, place)
);

CREATE TABLE object_version (
    name    TEXT   COLLATE "C" NOT NULL,
    version BIGINT NOT NULL,
    body    TEXT   NOT NULL,
    PRIMARY KEY (name, version)
);
