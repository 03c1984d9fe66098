-- What was deleted from tables with a version: a write that comes later with a lower one is compared with it. Kept for
-- retention.tombstones, and gone before that where a newer write brings the row back.
CREATE TABLE {schema}.oncesink_tombstone (
    pipeline    text   COLLATE "C" NOT NULL,
    -- As the catalogue names it: public.orders.
    table_name  text   COLLATE "C" NOT NULL,
    -- {"id":"42"}; a longer one is known by its hash.
    row_key     text   COLLATE "C" NOT NULL,
    -- NULL: the delete had no version, and neither had what it deleted. Dates and times count days and microseconds since 1970.
    version     text,
    -- The column that the version is of: one of another column cannot be compared with it.
    version_column text NOT NULL,
    -- The record that deleted: orders:3@88211.
    deleted_by  text   NOT NULL,
    -- Milliseconds since the Unix epoch, by this server's clock.
    at          bigint NOT NULL,
    PRIMARY KEY (pipeline, table_name, row_key)
);

CREATE INDEX oncesink_tombstone_by_age ON {schema}.oncesink_tombstone (pipeline, at);
