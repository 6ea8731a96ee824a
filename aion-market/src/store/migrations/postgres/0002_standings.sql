-- What the scores of each forecaster add up to, kept up to date with them: a leaderboard reads no scores.
CREATE TABLE standing (
    forecaster   TEXT COLLATE "C" PRIMARY KEY,
    gain         BIGINT NOT NULL,
    squared_bits DOUBLE PRECISION NOT NULL,
    baseline     BIGINT NOT NULL,
    markets      BIGINT NOT NULL CHECK (markets >= 1),
    forecasts    BIGINT NOT NULL
);
INSERT INTO standing (forecaster, gain, squared_bits, baseline, markets, forecasts)
    SELECT forecaster, sum(gain)::bigint, sum((gain / 1e6::double precision) * (gain / 1e6::double precision)),
    sum(baseline)::bigint, count(*), sum(forecasts)::bigint
    FROM score GROUP BY forecaster;
CREATE INDEX standing_by_gain ON standing (gain DESC, forecaster);

-- Every event gets its place in the log when it is written, in the order in which a statement names them.
CREATE FUNCTION log_event() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    INSERT INTO log (market_id, seq) VALUES (NEW.market_id, NEW.seq);
    RETURN NULL;
END
$$;
CREATE TRIGGER event_is_logged AFTER INSERT ON event FOR EACH ROW EXECUTE FUNCTION log_event();
