-- What a run stages has a name of its own. A run that drops it gets another name in the same transaction, and what has
-- the old one is deleted in steps afterwards.

ALTER TABLE record RENAME COLUMN run_id TO staging;

ALTER TABLE run ADD COLUMN staging TEXT NOT NULL DEFAULT '';
UPDATE run SET staging = run_id;

-- Names of no run: their records are to be deleted.
CREATE TABLE dropped (
    staging TEXT NOT NULL PRIMARY KEY
);
