-- The task tree, first version. Ids of tasks are the 16 bytes of a UUID version 7; `ord` is the
-- order of creation in this file and never leaves it except inside an opaque cursor.
-- Statuses: 0 preparing, 1 ready, 2 running, 3 blocked, 4 completed, 5 failed, 6 cancelled.

-- The part that changes often, apart from the texts.
CREATE TABLE task (
    ord              INTEGER PRIMARY KEY,
    uid              BLOB    NOT NULL UNIQUE,
    root             BLOB    NOT NULL,
    parent           BLOB,
    depth            INTEGER NOT NULL,
    kind             TEXT    NOT NULL,
    queue            TEXT    NOT NULL,
    status           INTEGER NOT NULL CHECK (status BETWEEN 0 AND 6),
    priority         INTEGER NOT NULL,
    ready_seq        INTEGER NOT NULL,
    handler          TEXT,
    lease_epoch      INTEGER NOT NULL,
    lease_until      INTEGER,
    attempt          INTEGER NOT NULL,
    max_attempts     INTEGER NOT NULL,
    crash_count      INTEGER NOT NULL,
    run_after        INTEGER,
    deadline         INTEGER,
    cancel_requested INTEGER NOT NULL,
    open_children    INTEGER NOT NULL,
    waiting_on       INTEGER NOT NULL,
    gather           INTEGER,
    gather_failed    INTEGER NOT NULL,
    messages         INTEGER NOT NULL,
    version          INTEGER NOT NULL,
    created_at       INTEGER NOT NULL,
    updated_at       INTEGER NOT NULL,
    finished_at      INTEGER,
    idem_key         TEXT
) STRICT;

-- Claims: whatever is ready lies here in the order in which it is claimed, and nothing else does.
CREATE INDEX task_ready       ON task (priority DESC, ready_seq) WHERE status = 1;
CREATE INDEX task_ready_queue ON task (queue, priority DESC, ready_seq) WHERE status = 1;
CREATE INDEX task_ready_kind  ON task (kind, priority DESC, ready_seq) WHERE status = 1;
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
CREATE UNIQUE INDEX task_key ON task (ifnull(parent, x''), idem_key) WHERE idem_key IS NOT NULL;

CREATE TABLE task_body (
    task    INTEGER PRIMARY KEY REFERENCES task (ord),
    title   TEXT NOT NULL,
    spec    TEXT NOT NULL,
    payload TEXT NOT NULL,
    result  TEXT,
    error   TEXT
) STRICT;

-- Who waits for whom: only what a gather listed and what has not ended.
CREATE TABLE dep (
    child  INTEGER NOT NULL REFERENCES task (ord),
    waiter INTEGER NOT NULL REFERENCES task (ord),
    PRIMARY KEY (child, waiter)
) STRICT, WITHOUT ROWID;
CREATE INDEX dep_waiter ON dep (waiter, child);

CREATE TABLE message (
    task         INTEGER NOT NULL REFERENCES task (ord),
    seq          INTEGER NOT NULL,
    role         TEXT    NOT NULL,
    content      TEXT    NOT NULL,
    tool_calls   TEXT,
    tool_call_id TEXT,
    persistence  TEXT,
    created_at   INTEGER NOT NULL,
    idem_key     TEXT,
    PRIMARY KEY (task, seq)
) STRICT, WITHOUT ROWID;
CREATE UNIQUE INDEX message_key ON message (task, idem_key) WHERE idem_key IS NOT NULL;

-- The log, written in the transaction of the change: `seq` is the order of commits.
CREATE TABLE event (
    seq  INTEGER PRIMARY KEY AUTOINCREMENT,
    task BLOB    NOT NULL,
    root BLOB    NOT NULL,
    kind TEXT    NOT NULL,
    body TEXT    NOT NULL,
    at   INTEGER NOT NULL
) STRICT;
CREATE INDEX event_task ON event (task, seq);

-- How many tasks are in each status, so that nobody counts rows.
CREATE TABLE tally (
    id        INTEGER PRIMARY KEY CHECK (id = 1),
    preparing INTEGER NOT NULL,
    ready     INTEGER NOT NULL,
    running   INTEGER NOT NULL,
    blocked   INTEGER NOT NULL,
    completed INTEGER NOT NULL,
    failed    INTEGER NOT NULL,
    cancelled INTEGER NOT NULL
) STRICT;
INSERT INTO tally VALUES (1, 0, 0, 0, 0, 0, 0, 0);
