-- Runs as they were last stored, whole.
CREATE TABLE run (
    id         BLOB PRIMARY KEY,
    task_id    BLOB NOT NULL,
    agent      TEXT NOT NULL,
    status     TEXT NOT NULL,
    snapshot   TEXT NOT NULL,
    updated_at INTEGER NOT NULL
) WITHOUT ROWID;
CREATE INDEX run_by_task ON run (task_id, id);

-- What is written before a call leaves; the outcome follows when it came back.
CREATE TABLE intent (
    key       TEXT PRIMARY KEY,
    run_id    BLOB NOT NULL,
    ordinal   INTEGER NOT NULL,
    tool      TEXT NOT NULL,
    arguments TEXT NOT NULL,
    status    TEXT,
    answer    TEXT,
    at        INTEGER NOT NULL
) WITHOUT ROWID;
CREATE UNIQUE INDEX intent_by_run ON intent (run_id, ordinal);

-- The report of each step.
CREATE TABLE step (
    run_id BLOB NOT NULL,
    step   INTEGER NOT NULL,
    body   TEXT NOT NULL,
    PRIMARY KEY (run_id, step)
) WITHOUT ROWID;

-- Types of agent that a server offers.
CREATE TABLE agent_type (
    id   TEXT PRIMARY KEY,
    body TEXT NOT NULL
) WITHOUT ROWID;
