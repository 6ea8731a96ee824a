-- What items said when they were taken out: what used them is not that of another text under the same id.
CREATE TABLE gone (
    id TEXT PRIMARY KEY,
    hash BLOB NOT NULL
) STRICT, WITHOUT ROWID;

-- How often a router opened this database after the first time.
CREATE TABLE opening (
    id INTEGER PRIMARY KEY CHECK (id = 1),
    n INTEGER NOT NULL
) STRICT;
