-- Times are milliseconds since 1970 in UTC. Hashes and lease ids are bytes. Lists and figures are JSON.

CREATE TABLE pipeline (
    name          TEXT    NOT NULL PRIMARY KEY,
    file          TEXT    NOT NULL,
    workflow_json TEXT    NOT NULL,
    source        TEXT    NOT NULL,
    mark_deleted  INTEGER NOT NULL,
    cron          TEXT,
    timezone      TEXT,
    enabled       INTEGER NOT NULL,
    -- A removed pipeline keeps its row: neither its version nor its fence ever starts again.
    removed       INTEGER NOT NULL DEFAULT 0,
    version       INTEGER NOT NULL DEFAULT 1,
    fence         INTEGER NOT NULL DEFAULT 0,
    scheduled_at  INTEGER NOT NULL
);

CREATE TABLE fault (
    file  TEXT NOT NULL PRIMARY KEY,
    error TEXT NOT NULL
);

CREATE TABLE verdict (
    pipeline TEXT    NOT NULL,
    agent    TEXT    NOT NULL,
    version  INTEGER NOT NULL,
    accepted INTEGER NOT NULL,
    reason   TEXT,
    detail   TEXT,
    PRIMARY KEY (pipeline, agent)
);

CREATE TABLE run (
    run_id             TEXT    NOT NULL PRIMARY KEY,
    pipeline           TEXT    NOT NULL,
    state              TEXT    NOT NULL,
    attempt            INTEGER NOT NULL DEFAULT 0,
    full_read          INTEGER NOT NULL,
    definition_version INTEGER NOT NULL DEFAULT 0,
    queued_at          INTEGER NOT NULL,
    started_at         INTEGER,
    ended_at           INTEGER,
    agent              TEXT,
    reason             TEXT,
    detail             TEXT,
    complete           INTEGER NOT NULL DEFAULT 0,
    figures            TEXT,
    fence              INTEGER,
    lease_id           BLOB,
    renewals           INTEGER NOT NULL DEFAULT 0,
    -- The fence of the grant that staged what is staged.
    staged_fence       INTEGER,
    next_seq           INTEGER NOT NULL DEFAULT 0,
    digest             BLOB    NOT NULL,
    source_position    BLOB    NOT NULL
);
CREATE INDEX run_of_pipeline ON run (pipeline, run_id);
-- Two runs of a pipeline are never active at once, whatever the code does.
CREATE UNIQUE INDEX run_active ON run (pipeline) WHERE state IN ('granted', 'running');
CREATE INDEX run_open ON run (run_id) WHERE state IN ('queued', 'granted', 'running');

-- The body comes last, so that reading the other columns does not walk over it.
CREATE TABLE record (
    id           INTEGER NOT NULL PRIMARY KEY,
    run_id       TEXT    NOT NULL,
    seq          INTEGER NOT NULL,
    kind         TEXT    NOT NULL,
    fqn          TEXT    NOT NULL,
    content_hash BLOB    NOT NULL,
    column_count INTEGER NOT NULL,
    foreign_keys TEXT    NOT NULL,
    has_body     INTEGER NOT NULL,
    body         BLOB
);
CREATE UNIQUE INDEX record_seq ON record (run_id, seq);
CREATE UNIQUE INDEX record_fqn ON record (run_id, fqn);

CREATE TABLE entity (
    pipeline     TEXT    NOT NULL,
    fqn          TEXT    NOT NULL,
    kind         TEXT    NOT NULL,
    content_hash BLOB    NOT NULL,
    column_count INTEGER NOT NULL,
    foreign_keys TEXT    NOT NULL,
    run_id       TEXT    NOT NULL,
    record_id    INTEGER NOT NULL,
    PRIMARY KEY (pipeline, fqn)
);
CREATE INDEX entity_fqn ON entity (fqn, pipeline);
CREATE INDEX entity_record ON entity (record_id);

CREATE TABLE event (
    run_id   TEXT    NOT NULL,
    number   INTEGER NOT NULL,
    at       INTEGER NOT NULL,
    severity TEXT    NOT NULL,
    code     TEXT    NOT NULL,
    text     TEXT    NOT NULL,
    PRIMARY KEY (run_id, number)
);

CREATE TABLE failure (
    run_id TEXT    NOT NULL,
    number INTEGER NOT NULL,
    fqn    TEXT    NOT NULL,
    reason TEXT    NOT NULL,
    detail TEXT    NOT NULL,
    PRIMARY KEY (run_id, number)
);

CREATE TABLE pending_deletion (
    run_id   TEXT NOT NULL,
    pipeline TEXT NOT NULL,
    fqn      TEXT NOT NULL,
    PRIMARY KEY (run_id, fqn)
);
