CREATE TABLE item (
    id      TEXT COLLATE "C" PRIMARY KEY,
    body    TEXT NOT NULL
);

CREATE TABLE approved (
    id      TEXT COLLATE "C" PRIMARY KEY,
    hash    BYTEA NOT NULL CHECK (length(hash) = 32)
);

-- Where the server has pgvector, a column `vector` joins these two; then `bytes` has only what that type refuses.
CREATE TABLE embedding (
    key     BYTEA PRIMARY KEY CHECK (length(key) = 32),
    bytes   BYTEA
);

-- Decisions, outcomes and what was forgotten. Whoever appends locks the table, so that numbers are in the order
-- of commits, without gaps.
CREATE TABLE entry (
    n           BIGINT PRIMARY KEY,
    kind        BIGINT NOT NULL,
    decision    BYTEA CHECK (length(decision) = 16),
    body        TEXT NOT NULL
);

CREATE UNIQUE INDEX entry_once ON entry (decision, kind) WHERE decision IS NOT NULL;

-- What was learned from the log up to entry `at`, so that what comes before its latest decisions can go.
CREATE TABLE learned (
    id      BIGINT PRIMARY KEY CHECK (id = 1),
    at      BIGINT NOT NULL,
    body    BYTEA NOT NULL
);
