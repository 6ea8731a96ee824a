-- Balances, and one settlement for each market; both change under one revision.
CREATE TABLE ledger (
    id          BIGINT PRIMARY KEY CHECK (id = 1),
    revision    BIGINT NOT NULL CHECK (revision >= 0)
);
INSERT INTO ledger (id, revision) VALUES (1, 0);

CREATE TABLE account (
    id          TEXT COLLATE "C" PRIMARY KEY,
    balance     BIGINT NOT NULL CHECK (balance >= 0),
    granted     BIGINT NOT NULL CHECK (granted >= 0),
    settlements BIGINT NOT NULL CHECK (settlements >= 0)
);
CREATE INDEX account_by_balance ON account (balance DESC, id);

CREATE TABLE settlement (
    market_id   BYTEA PRIMARY KEY CHECK (length(market_id) = 16),
    revision    BIGINT NOT NULL UNIQUE,
    body        TEXT NOT NULL
);
