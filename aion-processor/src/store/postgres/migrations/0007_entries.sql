-- What never changes of a task, and the indexes over it. They were on `task`, where each of them had to be written again
-- whenever the status of a task changed; `task` keeps the columns, for rows are read from there.
CREATE TABLE entry (
    ord      BIGINT PRIMARY KEY,
    uid      BYTEA  NOT NULL,
    root     BYTEA  NOT NULL,
    parent   BYTEA,
    kind     TEXT   COLLATE "C" NOT NULL,
    queue    TEXT   COLLATE "C" NOT NULL,
    idem_key TEXT   COLLATE "C"
);
INSERT INTO entry SELECT ord, uid, root, parent, kind, queue, idem_key FROM task ORDER BY ord;
CREATE UNIQUE INDEX entry_uid ON entry (uid);
CREATE INDEX entry_child ON entry (parent, ord) WHERE parent IS NOT NULL;
CREATE INDEX entry_root  ON entry (root, ord);
CREATE INDEX entry_kind  ON entry (kind, ord);
CREATE INDEX entry_queue ON entry (queue, ord);
CREATE UNIQUE INDEX entry_key ON entry ((coalesce(parent, ''::bytea)), idem_key) WHERE idem_key IS NOT NULL;

ALTER TABLE task DROP CONSTRAINT task_uid_key;
DROP INDEX task_child, task_root, task_kind, task_queue, task_key;
ALTER TABLE task DROP COLUMN idem_key;
