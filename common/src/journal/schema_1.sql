-- The journal's tables, version 1. Times are microseconds since 1970, UTC.

CREATE TABLE runs (
    run        TEXT PRIMARY KEY,
    pid        INTEGER NOT NULL,
    version    TEXT NOT NULL,
    config     TEXT,
    started_at INTEGER NOT NULL
) STRICT;

CREATE INDEX runs_by_time ON runs (started_at);

CREATE TABLE processes (
    run         TEXT NOT NULL,
    worker      TEXT NOT NULL,
    pid         INTEGER NOT NULL,
    start_time  INTEGER NOT NULL,
    pgid        INTEGER NOT NULL,
    port        INTEGER NOT NULL,
    started_at  INTEGER NOT NULL,
    ended_at    INTEGER,
    exit_code   INTEGER,
    exit_signal INTEGER,
    PRIMARY KEY (run, pid, start_time)
) STRICT;

CREATE TABLE restarts (
    run    TEXT NOT NULL,
    worker TEXT NOT NULL,
    at     INTEGER NOT NULL,
    reason TEXT NOT NULL
) STRICT;

CREATE INDEX restarts_by_run ON restarts (run);

CREATE TABLE reports (
    run         TEXT PRIMARY KEY,
    finished_at INTEGER NOT NULL,
    duration_ms INTEGER NOT NULL,
    reason      TEXT NOT NULL,
    exit_code   INTEGER NOT NULL,
    report      TEXT NOT NULL
) STRICT;

CREATE INDEX reports_by_time ON reports (finished_at);
