-- The history of these tables, and the random id of the database, which Kafka commits carry.
CREATE TABLE oncesink_schema (
    version      INTEGER PRIMARY KEY,
    description  TEXT    NOT NULL,
    -- The oldest version that a binary must know to run beside this one.
    needs        INTEGER NOT NULL,
    database_id  TEXT    NOT NULL,
    applied_at   TEXT    NOT NULL DEFAULT (strftime('%Y-%m-%dT%H:%M:%fZ', 'now'))
);

-- One row a partition. Read first in every batch: that is the fence.
CREATE TABLE oncesink_checkpoint (
    pipeline        TEXT    NOT NULL,
    topic           TEXT    NOT NULL,
    partition       INTEGER NOT NULL,
    epoch           INTEGER NOT NULL,
    claim_id        INTEGER NOT NULL,
    next_offset     INTEGER NOT NULL,
    durable         INTEGER NOT NULL,
    delivery        TEXT    NOT NULL,
    cluster_id      TEXT    NOT NULL,
    group_id        TEXT    NOT NULL,
    owner           TEXT    NOT NULL,
    last_offset     INTEGER,
    last_timestamp  INTEGER,
    last_hash       INTEGER,
    batch_id        INTEGER NOT NULL,
    halt_reason     TEXT,
    halt_detail     TEXT,
    halt_offset     INTEGER,
    -- Milliseconds since the Unix epoch.
    halt_at         INTEGER,
    updated_at      TEXT    NOT NULL DEFAULT (strftime('%Y-%m-%dT%H:%M:%fZ', 'now')),
    PRIMARY KEY (pipeline, topic, partition)
) WITHOUT ROWID;

-- What people did to checkpoints.
CREATE TABLE oncesink_audit (
    id         INTEGER PRIMARY KEY,
    at         TEXT    NOT NULL DEFAULT (strftime('%Y-%m-%dT%H:%M:%fZ', 'now')),
    pipeline   TEXT    NOT NULL,
    topic      TEXT    NOT NULL,
    partition  INTEGER NOT NULL,
    "offset"   INTEGER NOT NULL,
    action     TEXT    NOT NULL,
    who        TEXT    NOT NULL,
    detail     TEXT    NOT NULL
);
