-- Fourth version: events that webhooks could not deliver. Webhooks themselves are in `named`: 7 webhooks, 8 their
-- keys.

-- Of the parked events of a task exactly the first has a time to be tried again.
CREATE TABLE delivery (
    webhook TEXT    COLLATE "C" NOT NULL,
    seq     BIGINT  NOT NULL,
    task    BYTEA   NOT NULL,
    dead    BOOLEAN NOT NULL,
    next_at BIGINT,
    body    TEXT    NOT NULL,
    PRIMARY KEY (webhook, seq)
);
CREATE INDEX delivery_task ON delivery (webhook, task, seq) WHERE NOT dead;
CREATE INDEX delivery_due  ON delivery (webhook, next_at, seq) WHERE next_at IS NOT NULL;
CREATE INDEX delivery_dead ON delivery (webhook, dead, seq);
