-- What the scores of each forecaster add up to, kept up to date with them: a leaderboard reads no scores.
CREATE TABLE standing (
    forecaster   TEXT PRIMARY KEY,
    gain         INTEGER NOT NULL,
    squared_bits REAL NOT NULL,
    baseline     INTEGER NOT NULL,
    markets      INTEGER NOT NULL CHECK (markets >= 1),
    forecasts    INTEGER NOT NULL
) WITHOUT ROWID;
INSERT INTO standing (forecaster, gain, squared_bits, baseline, markets, forecasts)
    SELECT forecaster, sum(gain), sum((gain / 1e6) * (gain / 1e6)), sum(baseline), count(*), sum(forecasts)
    FROM score GROUP BY forecaster;
CREATE INDEX standing_by_gain ON standing (gain DESC, forecaster);
