-- Second version: concurrency keys, primitives, objects, schedules, large messages apart.

ALTER TABLE task ADD COLUMN ckey    TEXT;
ALTER TABLE task ADD COLUMN cmax    INTEGER;
-- READY, but without a place among those with its key: no claim sees it.
ALTER TABLE task ADD COLUMN gated   INTEGER NOT NULL DEFAULT 0;
ALTER TABLE task ADD COLUMN holds   INTEGER NOT NULL DEFAULT 0;
ALTER TABLE task ADD COLUMN purging INTEGER NOT NULL DEFAULT 0;

DROP INDEX task_ready;
DROP INDEX task_ready_queue;
DROP INDEX task_ready_kind;
CREATE INDEX task_ready       ON task (priority DESC, ready_seq) WHERE status = 1 AND gated = 0;
CREATE INDEX task_ready_queue ON task (queue, priority DESC, ready_seq) WHERE status = 1 AND gated = 0;
CREATE INDEX task_ready_kind  ON task (kind, priority DESC, ready_seq) WHERE status = 1 AND gated = 0;
CREATE INDEX task_ckey        ON task (ckey, gated, priority DESC, ready_seq) WHERE status = 1 AND ckey IS NOT NULL;
CREATE INDEX task_root_ended  ON task (finished_at, uid)
    WHERE parent IS NULL AND finished_at IS NOT NULL AND purging = 0;

-- Small things by name, as JSON: 0 primitives, 1 concurrency keys, 2 shares of queues, 3 schedules,
-- 4 heads of objects, 5 trees that are being cancelled, 6 trees that are being removed.
CREATE TABLE named (
    space INTEGER NOT NULL,
    name  TEXT    NOT NULL,
    due   INTEGER,
    body  TEXT    NOT NULL,
    PRIMARY KEY (space, name)
) STRICT, WITHOUT ROWID;
CREATE INDEX named_due ON named (space, due, name) WHERE due IS NOT NULL;

-- Who holds what of a primitive; `place` is where the item goes back to.
CREATE TABLE hold (
    task      BLOB    NOT NULL,
    primitive TEXT    NOT NULL,
    token     INTEGER NOT NULL,
    units     INTEGER NOT NULL,
    place     INTEGER NOT NULL,
    item      TEXT,
    since     INTEGER NOT NULL,
    PRIMARY KEY (task, primitive)
) STRICT, WITHOUT ROWID;
CREATE INDEX hold_primitive ON hold (primitive, token);

-- Who waits for a primitive: a task is in one line at most.
CREATE TABLE waiter (
    task      BLOB    NOT NULL PRIMARY KEY,
    primitive TEXT    NOT NULL,
    place     INTEGER NOT NULL,
    units     INTEGER NOT NULL,
    until     INTEGER,
    since     INTEGER NOT NULL
) STRICT, WITHOUT ROWID;
CREATE INDEX waiter_line  ON waiter (primitive, place);
CREATE INDEX waiter_until ON waiter (until, task) WHERE until IS NOT NULL;

CREATE TABLE item (
    queue TEXT    NOT NULL,
    place INTEGER NOT NULL,
    body  TEXT    NOT NULL,
    PRIMARY KEY (queue, place)
) STRICT, WITHOUT ROWID;

CREATE TABLE object_version (
    name    TEXT    NOT NULL,
    version INTEGER NOT NULL,
    body    TEXT    NOT NULL,
    PRIMARY KEY (name, version)
) STRICT;

-- The text of a large message, so that pages of small ones stay small.
ALTER TABLE message ADD COLUMN apart INTEGER NOT NULL DEFAULT 0;
CREATE TABLE message_text (
    task    INTEGER NOT NULL REFERENCES task (ord),
    seq     INTEGER NOT NULL,
    content TEXT    NOT NULL,
    PRIMARY KEY (task, seq)
) STRICT;
