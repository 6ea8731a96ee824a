-- Fourth version: events that webhooks could not deliver. Webhooks themselves are in `named`: 7 webhooks, 8 their
-- keys.

-- Of the parked events of a task exactly the first has a time to be tried again.
CREATE TABLE delivery (
    webhook TEXT    NOT NULL,
    seq     INTEGER NOT NULL,
    task    BLOB    NOT NULL,
    dead    INTEGER NOT NULL,
    next_at INTEGER,
    body    TEXT    NOT NULL,
    PRIMARY KEY (webhook, seq)
) STRICT, WITHOUT ROWID;
CREATE INDEX delivery_task ON delivery (webhook, task, seq) WHERE dead = 0;
CREATE INDEX delivery_due  ON delivery (webhook, next_at, seq) WHERE next_at IS NOT NULL;
CREATE INDEX delivery_dead ON delivery (webhook, dead, seq);
