-- What was deleted from tables with a version: a write that comes later with a lower one is compared with it. Kept for
-- retention.tombstones, and gone before that where a newer write brings the row back.
CREATE TABLE oncesink_tombstone (
    pipeline    TEXT    NOT NULL,
    table_name  TEXT    NOT NULL,
    -- {"id":"42"}; a longer one is known by its hash.
    row_key     TEXT    NOT NULL,
    -- NULL: the delete had no version, and neither had what it deleted. Dates and times count days and microseconds since 1970.
    version     TEXT,
    -- The column that the version is of: one of another column cannot be compared with it.
    version_column TEXT NOT NULL,
    -- The record that deleted: orders:3@88211.
    deleted_by  TEXT    NOT NULL,
    -- Milliseconds since the Unix epoch, by this machine's clock.
    at          INTEGER NOT NULL,
    PRIMARY KEY (pipeline, table_name, row_key)
) WITHOUT ROWID;

CREATE INDEX oncesink_tombstone_by_age ON oncesink_tombstone (pipeline, at);
