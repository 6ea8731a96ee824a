-- Markets as event logs, with projections that are written in the same transaction.
CREATE TABLE market (
    id          BLOB PRIMARY KEY CHECK (length(id) = 16),
    version     INTEGER NOT NULL CHECK (version >= 1),
    status      TEXT NOT NULL CHECK (status IN ('open', 'resolved', 'void')),
    kind        TEXT NOT NULL,
    view        TEXT NOT NULL
) WITHOUT ROWID;
CREATE INDEX market_by_kind ON market (kind, status, id);
CREATE INDEX market_by_status ON market (status, id);

CREATE TABLE event (
    market_id   BLOB NOT NULL REFERENCES market (id),
    seq         INTEGER NOT NULL CHECK (seq >= 1),
    request_key TEXT,
    body        TEXT NOT NULL,
    PRIMARY KEY (market_id, seq)
) WITHOUT ROWID;
CREATE UNIQUE INDEX event_by_key ON event (market_id, request_key) WHERE request_key IS NOT NULL;
CREATE TRIGGER event_is_final BEFORE UPDATE ON event
BEGIN
    SELECT RAISE(ABORT, 'events are never changed');
END;

-- Double entry: the rows of one event sum to zero for each asset ('money' or the index of an outcome).
CREATE TABLE entry (
    market_id   BLOB NOT NULL REFERENCES market (id),
    seq         INTEGER NOT NULL,
    line        INTEGER NOT NULL,
    account     TEXT NOT NULL,
    outcome     INTEGER,
    amount      INTEGER NOT NULL,
    PRIMARY KEY (market_id, seq, line)
) WITHOUT ROWID;

CREATE TABLE score (
    forecaster  TEXT NOT NULL,
    resolved_at INTEGER NOT NULL,
    market_id   BLOB NOT NULL REFERENCES market (id),
    gain        INTEGER NOT NULL,
    baseline    INTEGER NOT NULL,
    forecasts   INTEGER NOT NULL,
    body        TEXT NOT NULL,
    PRIMARY KEY (forecaster, resolved_at, market_id)
) WITHOUT ROWID;

CREATE TABLE cursor (
    name        TEXT PRIMARY KEY,
    seq         INTEGER NOT NULL CHECK (seq >= 0)
) WITHOUT ROWID;
