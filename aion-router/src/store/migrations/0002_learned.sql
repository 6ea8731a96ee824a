-- What was learned from the log up to entry `at`, so that what comes before its latest decisions can go.
CREATE TABLE learned (
    id INTEGER PRIMARY KEY CHECK (id = 1),
    at INTEGER NOT NULL,
    body BLOB NOT NULL
) STRICT;
