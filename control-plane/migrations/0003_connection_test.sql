-- Connection tests that somebody asked for; they go some minutes after their time is over.

CREATE TABLE connection_test (
    test_id       TEXT    NOT NULL PRIMARY KEY,
    pipeline      TEXT    NOT NULL,
    -- As they were when the test was asked for.
    source        TEXT    NOT NULL,
    workflow_json TEXT    NOT NULL,
    expires_at    INTEGER NOT NULL,
    -- Who was asked.
    agent         TEXT,
    -- JSON; none while nobody answered.
    answer        TEXT
);
