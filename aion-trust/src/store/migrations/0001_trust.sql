-- Balances, and one settlement for each market; both change under one revision.
CREATE TABLE ledger (
    id          INTEGER PRIMARY KEY CHECK (id = 1),
    revision    INTEGER NOT NULL CHECK (revision >= 0)
);
INSERT INTO ledger (id, revision) VALUES (1, 0);

CREATE TABLE account (
    id          TEXT PRIMARY KEY,
    balance     INTEGER NOT NULL CHECK (balance >= 0),
    granted     INTEGER NOT NULL CHECK (granted >= 0),
    settlements INTEGER NOT NULL CHECK (settlements >= 0)
) WITHOUT ROWID;
CREATE INDEX account_by_balance ON account (balance DESC, id);

CREATE TABLE settlement (
    market_id   BLOB PRIMARY KEY CHECK (length(market_id) = 16),
    revision    INTEGER NOT NULL UNIQUE,
    body        TEXT NOT NULL
) WITHOUT ROWID;
