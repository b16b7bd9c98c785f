-- What people watch of a run: the lines of its log, and how far it is.

CREATE TABLE log_line (
    run_id TEXT    NOT NULL,
    -- Of the grant: the agent numbers the lines of each from 0.
    fence  INTEGER NOT NULL,
    number INTEGER NOT NULL,
    text   TEXT    NOT NULL,
    PRIMARY KEY (run_id, fence, number)
);

CREATE TABLE run_watch (
    run_id    TEXT    NOT NULL PRIMARY KEY,
    -- What its log has by now; counting it anew would read all of it.
    log_lines INTEGER NOT NULL DEFAULT 0,
    log_bytes INTEGER NOT NULL DEFAULT 0,
    -- JSON; none before the first heartbeat that said something.
    progress  TEXT
);
