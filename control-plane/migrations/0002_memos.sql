-- What the source wants back with an entity in the next run. Empty: nothing.
--
-- `record` is made anew, so that its body stays the last column.

CREATE TABLE record_with_memo (
    id           INTEGER NOT NULL PRIMARY KEY,
    run_id       TEXT    NOT NULL,
    seq          INTEGER NOT NULL,
    kind         TEXT    NOT NULL,
    fqn          TEXT    NOT NULL,
    content_hash BLOB    NOT NULL,
    column_count INTEGER NOT NULL,
    foreign_keys TEXT    NOT NULL,
    memo         BLOB    NOT NULL,
    has_body     INTEGER NOT NULL,
    body         BLOB
);
INSERT INTO record_with_memo
    SELECT id, run_id, seq, kind, fqn, content_hash, column_count, foreign_keys, x'', has_body, body FROM record;
DROP TABLE record;
ALTER TABLE record_with_memo RENAME TO record;
CREATE UNIQUE INDEX record_seq ON record (run_id, seq);
CREATE UNIQUE INDEX record_fqn ON record (run_id, fqn);

ALTER TABLE entity ADD COLUMN memo BLOB NOT NULL DEFAULT x'';

-- Whether the agent of the last grant listed `memos`.
ALTER TABLE run ADD COLUMN memos INTEGER NOT NULL DEFAULT 0;
