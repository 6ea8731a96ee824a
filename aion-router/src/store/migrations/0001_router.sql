CREATE TABLE item (
    id TEXT PRIMARY KEY,
    body TEXT NOT NULL
) STRICT, WITHOUT ROWID;

CREATE TABLE approved (
    id TEXT PRIMARY KEY,
    hash BLOB NOT NULL
) STRICT, WITHOUT ROWID;

CREATE TABLE embedding (
    key BLOB PRIMARY KEY,
    vector BLOB NOT NULL
) STRICT, WITHOUT ROWID;

-- Decisions, outcomes and what was forgotten, in the order in which they came.
CREATE TABLE entry (
    n INTEGER PRIMARY KEY AUTOINCREMENT,
    kind INTEGER NOT NULL,
    decision BLOB,
    body TEXT NOT NULL
) STRICT;

CREATE UNIQUE INDEX entry_once ON entry (decision, kind) WHERE decision IS NOT NULL;
