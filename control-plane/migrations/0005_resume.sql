-- Runs go on after their grant: when they may be granted again, and what was in vain. Pipelines are held.

-- Milliseconds since 1970; none: at once.
ALTER TABLE run ADD COLUMN not_before INTEGER;
ALTER TABLE run ADD COLUMN scheduled INTEGER NOT NULL DEFAULT 0;
ALTER TABLE run ADD COLUMN lost INTEGER NOT NULL DEFAULT 0;
ALTER TABLE run ADD COLUMN handed_back INTEGER NOT NULL DEFAULT 0;
ALTER TABLE run ADD COLUMN restarts INTEGER NOT NULL DEFAULT 0;
-- Whether the agent of the last grant listed `resume`.
ALTER TABLE run ADD COLUMN resume INTEGER NOT NULL DEFAULT 0;

-- `attempt` counted grants: what is queued has nothing staged and begins anew, what is active is in its first attempt.
UPDATE run SET attempt = 0 WHERE state = 'queued';
UPDATE run SET attempt = 1 WHERE state IN ('granted', 'running');

-- Two runs of a pipeline are never begun at once, whatever the code does: what one has staged depends on what is committed.
DROP INDEX run_active;
CREATE UNIQUE INDEX run_begun ON run (pipeline) WHERE attempt > 0 AND state IN ('queued', 'granted', 'running');

ALTER TABLE pipeline ADD COLUMN hold_reason TEXT;
ALTER TABLE pipeline ADD COLUMN hold_detail TEXT;
ALTER TABLE pipeline ADD COLUMN hold_until INTEGER;
