-- MySQL and MariaDB end a transaction at each CREATE, so every statement may be run again after a crash between two of them.
-- The history of these tables, and the random id of the database, which Kafka commits carry.
CREATE TABLE IF NOT EXISTS {schema}.oncesink_schema (
    version      bigint       NOT NULL PRIMARY KEY,
    description  varchar(200) NOT NULL,
    -- The oldest version that a binary must know to run beside this one.
    needs        bigint       NOT NULL,
    database_id  varchar(64)  NOT NULL,
    applied_at   timestamp(6) NOT NULL DEFAULT CURRENT_TIMESTAMP(6)
) ENGINE = InnoDB DEFAULT CHARACTER SET utf8mb4 COLLATE utf8mb4_bin;

-- One row a partition. Locked first in every batch: that is the fence.
CREATE TABLE IF NOT EXISTS {schema}.oncesink_checkpoint (
    pipeline        varchar(255)  NOT NULL,
    topic           varchar(255)  NOT NULL,
    `partition`     int           NOT NULL,
    epoch           bigint        NOT NULL,
    claim_id        bigint        NOT NULL,
    next_offset     bigint        NOT NULL,
    durable         bigint        NOT NULL,
    delivery        varchar(32)   NOT NULL,
    cluster_id      varchar(255)  NOT NULL,
    group_id        varchar(255)  NOT NULL,
    owner           varchar(1024) NOT NULL,
    last_offset     bigint,
    last_timestamp  bigint,
    last_hash       bigint,
    batch_id        bigint        NOT NULL,
    halt_reason     varchar(255),
    halt_detail     text,
    halt_offset     bigint,
    -- Milliseconds since the Unix epoch.
    halt_at         bigint,
    updated_at      timestamp(6)  NOT NULL DEFAULT CURRENT_TIMESTAMP(6) ON UPDATE CURRENT_TIMESTAMP(6),
    PRIMARY KEY (pipeline, topic, `partition`)
) ENGINE = InnoDB DEFAULT CHARACTER SET utf8mb4 COLLATE utf8mb4_bin;

-- What people did to checkpoints.
CREATE TABLE IF NOT EXISTS {schema}.oncesink_audit (
    id           bigint        NOT NULL AUTO_INCREMENT PRIMARY KEY,
    at           timestamp(6)  NOT NULL DEFAULT CURRENT_TIMESTAMP(6),
    pipeline     varchar(255)  NOT NULL,
    topic        varchar(255)  NOT NULL,
    `partition`  int           NOT NULL,
    `offset`     bigint        NOT NULL,
    action       varchar(64)   NOT NULL,
    who          varchar(1024) NOT NULL,
    detail       text          NOT NULL
) ENGINE = InnoDB DEFAULT CHARACTER SET utf8mb4 COLLATE utf8mb4_bin;
