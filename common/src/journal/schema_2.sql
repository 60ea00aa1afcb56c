-- Version 2: MCP sessions that outlive a daemon. `session` is JSON that only the daemon reads.

CREATE TABLE sessions (
    worker  TEXT NOT NULL,
    id      TEXT NOT NULL,
    used_at INTEGER NOT NULL,
    session TEXT NOT NULL,
    PRIMARY KEY (worker, id)
) STRICT;
