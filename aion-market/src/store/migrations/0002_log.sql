-- Every event in the order in which it was committed: one writer at a time, so a place is never filled late.
CREATE TABLE log (
    place       INTEGER PRIMARY KEY AUTOINCREMENT,
    market_id   BLOB NOT NULL,
    seq         INTEGER NOT NULL
);
INSERT INTO log (market_id, seq)
    SELECT market_id, seq FROM event ORDER BY json_extract(body, '$.at'), market_id, seq;
CREATE TRIGGER event_is_logged AFTER INSERT ON event
BEGIN
    INSERT INTO log (market_id, seq) VALUES (NEW.market_id, NEW.seq);
END;
