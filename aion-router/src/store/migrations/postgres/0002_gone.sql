-- What items said when they were taken out: what used them is not that of another text under the same id.
CREATE TABLE gone (
    id      TEXT COLLATE "C" PRIMARY KEY,
    hash    BYTEA NOT NULL CHECK (length(hash) = 32)
);

-- How often a router opened this database after the first time.
CREATE TABLE opening (
    id      BIGINT PRIMARY KEY CHECK (id = 1),
    n       BIGINT NOT NULL
);
