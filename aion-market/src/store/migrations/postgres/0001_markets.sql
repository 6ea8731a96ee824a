-- Markets as event logs, with projections that are written in the same transaction.
CREATE TABLE market (
    id          BYTEA PRIMARY KEY CHECK (length(id) = 16),
    version     BIGINT NOT NULL CHECK (version >= 1),
    status      TEXT NOT NULL CHECK (status IN ('open', 'resolved', 'void')),
    kind        TEXT NOT NULL,
    view        TEXT NOT NULL
);
CREATE INDEX market_by_kind ON market (kind, status, id);
CREATE INDEX market_by_status ON market (status, id);

CREATE TABLE event (
    market_id   BYTEA NOT NULL REFERENCES market (id),
    seq         BIGINT NOT NULL CHECK (seq >= 1),
    request_key TEXT,
    body        TEXT NOT NULL,
    PRIMARY KEY (market_id, seq)
);
CREATE UNIQUE INDEX event_by_key ON event (market_id, request_key) WHERE request_key IS NOT NULL;

-- Every event in the order in which it was committed. Writers take turns on this table, so a place is never
-- filled late.
CREATE TABLE log (
    place       BIGINT GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    market_id   BYTEA NOT NULL,
    seq         BIGINT NOT NULL
);

-- Double entry by construction: a row is one transfer between two accounts, so no event can be out of balance.
CREATE TABLE posting (
    market_id   BYTEA NOT NULL REFERENCES market (id),
    seq         BIGINT NOT NULL CHECK (seq >= 1),
    line        BIGINT NOT NULL CHECK (line >= 0),
    gets        TEXT NOT NULL,
    gives       TEXT NOT NULL,
    outcome     BIGINT CHECK (outcome >= 0),
    amount      BIGINT NOT NULL CHECK (amount <> 0),
    CHECK (gets <> gives),
    PRIMARY KEY (market_id, seq, line)
);
-- The same rows by account, for whoever adds them up: they sum to zero for each event and asset.
CREATE VIEW entry (market_id, seq, line, account, outcome, amount) AS
    SELECT market_id, seq, 2 * line, gets, outcome, amount FROM posting
    UNION ALL
    SELECT market_id, seq, 2 * line + 1, gives, outcome, -amount FROM posting;

CREATE FUNCTION refuse_change() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    RAISE EXCEPTION '%s are never changed', TG_TABLE_NAME;
END
$$;
CREATE TRIGGER event_is_final BEFORE UPDATE ON event FOR EACH ROW EXECUTE FUNCTION refuse_change();
CREATE TRIGGER posting_is_final BEFORE UPDATE ON posting FOR EACH ROW EXECUTE FUNCTION refuse_change();

CREATE TABLE score (
    forecaster  TEXT COLLATE "C" NOT NULL,
    resolved_at BIGINT NOT NULL,
    market_id   BYTEA NOT NULL REFERENCES market (id),
    gain        BIGINT NOT NULL,
    baseline    BIGINT NOT NULL,
    forecasts   BIGINT NOT NULL,
    body        TEXT NOT NULL,
    PRIMARY KEY (forecaster, resolved_at, market_id)
);

CREATE TABLE cursor (
    name        TEXT PRIMARY KEY,
    seq         BIGINT NOT NULL CHECK (seq >= 0)
);

-- Markets written down now and then, so that long histories need not be read from their start.
CREATE TABLE snapshot (
    market_id   BYTEA PRIMARY KEY REFERENCES market (id),
    version     BIGINT NOT NULL CHECK (version >= 1),
    digest      TEXT NOT NULL,
    body        TEXT NOT NULL
);
