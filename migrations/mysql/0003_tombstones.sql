-- MySQL and MariaDB end a transaction at each CREATE, so every statement may be run again after a crash between two of them.
-- What was deleted from tables with a version: a write that comes later with a lower one is compared with it. Kept for
-- retention.tombstones, and gone before that where a newer write brings the row back.
CREATE TABLE IF NOT EXISTS {schema}.oncesink_tombstone (
    pipeline    varchar(255) NOT NULL,
    -- As the catalogue names it: orders, shop.orders.
    table_name  varchar(200) NOT NULL,
    -- {"id":"42"}; a longer one is known by its hash.
    row_key     varchar(255) NOT NULL,
    -- NULL: the delete had no version, and neither had what it deleted. Dates and times count days and microseconds since 1970.
    version     longtext,
    -- The column that the version is of: one of another column cannot be compared with it.
    version_column varchar(64) NOT NULL,
    -- The record that deleted: orders:3@88211.
    deleted_by  varchar(290) NOT NULL,
    -- Milliseconds since the Unix epoch, by this server's clock.
    at          bigint       NOT NULL,
    PRIMARY KEY (pipeline, table_name, row_key),
    INDEX oncesink_tombstone_by_age (pipeline, at)
) ENGINE = InnoDB DEFAULT CHARACTER SET utf8mb4 COLLATE utf8mb4_bin;

-- Locked by batches on tables with a version, each by a row of it: for share by those that only write, for update by those that delete.
CREATE TABLE IF NOT EXISTS {schema}.oncesink_tombstone_lock (
    bucket  int NOT NULL PRIMARY KEY
) ENGINE = InnoDB DEFAULT CHARACTER SET utf8mb4 COLLATE utf8mb4_bin;

INSERT INTO {schema}.oncesink_tombstone_lock (bucket) VALUES
    (0), (1), (2), (3), (4), (5), (6), (7), (8), (9), (10), (11), (12), (13), (14), (15),
    (16), (17), (18), (19), (20), (21), (22), (23), (24), (25), (26), (27), (28), (29), (30), (31),
    (32), (33), (34), (35), (36), (37), (38), (39), (40), (41), (42), (43), (44), (45), (46), (47),
    (48), (49), (50), (51), (52), (53), (54), (55), (56), (57), (58), (59), (60), (61), (62), (63)
    ON DUPLICATE KEY UPDATE bucket = bucket;

-- Of few rows two tables would often meet in one.
INSERT INTO {schema}.oncesink_tombstone_lock (bucket)
    SELECT low.bucket + 64 * high.bucket
    FROM {schema}.oncesink_tombstone_lock AS low JOIN {schema}.oncesink_tombstone_lock AS high ON low.bucket < 64 AND high.bucket BETWEEN 1 AND 63
    ON DUPLICATE KEY UPDATE bucket = VALUES(bucket);
