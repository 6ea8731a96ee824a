-- Double entry by construction: a row is one transfer between two accounts, so no event can be out of balance.
CREATE TABLE posting (
    market_id   BLOB NOT NULL REFERENCES market (id),
    seq         INTEGER NOT NULL CHECK (seq >= 1),
    line        INTEGER NOT NULL CHECK (line >= 0),
    gets        TEXT NOT NULL,
    gives       TEXT NOT NULL,
    outcome     INTEGER CHECK (outcome >= 0),
    amount      INTEGER NOT NULL CHECK (amount <> 0),
    CHECK (gets <> gives),
    PRIMARY KEY (market_id, seq, line)
) WITHOUT ROWID;
INSERT INTO posting (market_id, seq, line, gets, gives, outcome, amount)
    SELECT a.market_id, a.seq, a.line / 2, a.account, b.account, a.outcome, a.amount
    FROM entry a JOIN entry b ON b.market_id = a.market_id AND b.seq = a.seq AND b.line = a.line + 1
    WHERE a.line % 2 = 0;
DROP TABLE entry;
-- The same rows by account, for whoever adds them up: they sum to zero for each event and asset.
CREATE VIEW entry (market_id, seq, line, account, outcome, amount) AS
    SELECT market_id, seq, 2 * line, gets, outcome, amount FROM posting
    UNION ALL
    SELECT market_id, seq, 2 * line + 1, gives, outcome, -amount FROM posting;
CREATE TRIGGER posting_is_final BEFORE UPDATE ON posting
BEGIN
    SELECT RAISE(ABORT, 'postings are never changed');
END;

-- Markets written down now and then, so that long histories need not be read from their start.
CREATE TABLE snapshot (
    market_id   BLOB PRIMARY KEY REFERENCES market (id),
    version     INTEGER NOT NULL CHECK (version >= 1),
    digest      TEXT NOT NULL,
    body        TEXT NOT NULL
) WITHOUT ROWID;
