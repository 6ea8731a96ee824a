-- What handlers have done already, a row a step, apart from the rows that change often.
-- `bytes` sums up the steps of the task so far.
CREATE TABLE step (
    task   BIGINT NOT NULL,
    seq    BIGINT NOT NULL,
    name   TEXT COLLATE "C" NOT NULL,
    result TEXT NOT NULL,
    bytes  BIGINT NOT NULL,
    at     BIGINT NOT NULL,
    PRIMARY KEY (task, seq)
);
CREATE UNIQUE INDEX step_name ON step (task, name);
