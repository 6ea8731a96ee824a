-- How a task ended, if it is short, lies with the part that is written then anyway. Before, it was always in `task_body`,
-- whose row with the payload was written once more for it.
ALTER TABLE task ADD COLUMN result TEXT;
ALTER TABLE task ADD COLUMN error  TEXT COLLATE "C";
