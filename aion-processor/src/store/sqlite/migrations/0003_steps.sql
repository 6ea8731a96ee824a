-- Third version: what handlers have done already, a row a step, apart from the rows that change often.
-- `bytes` sums up the steps of the task so far.
CREATE TABLE step (
    task   INTEGER NOT NULL,
    seq    INTEGER NOT NULL,
    name   TEXT NOT NULL,
    result TEXT NOT NULL,
    bytes  INTEGER NOT NULL,
    at     INTEGER NOT NULL,
    PRIMARY KEY (task, seq)
) STRICT, WITHOUT ROWID;
CREATE UNIQUE INDEX step_name ON step (task, name);
