-- MySQL and MariaDB end a transaction at each CREATE, so every statement may be run again after a crash between two of them.
-- Which of the four tables below takes new event ids (its number modulo 4), and since when. One row; every batch with marks holds it
-- still by a shared lock. The two generations before it are looked at, the table of the next one is empty.
CREATE TABLE IF NOT EXISTS {schema}.oncesink_processed_event_generation (
    id                  int NOT NULL PRIMARY KEY,
    generation          bigint NOT NULL,
    -- Milliseconds since the Unix epoch, by this server's clock.
    opened_at           bigint NOT NULL,
    -- The same of the generation before it: since then the one before that has taken no id.
    previous_opened_at  bigint NOT NULL,
    -- The newest generation whose table was emptied for it.
    emptied             bigint NOT NULL
) ENGINE = InnoDB DEFAULT CHARACTER SET utf8mb4 COLLATE utf8mb4_bin;

INSERT INTO {schema}.oncesink_processed_event_generation (id, generation, opened_at, previous_opened_at, emptied)
    SELECT 1, 3, CAST(UNIX_TIMESTAMP(CURRENT_TIMESTAMP(3)) * 1000 AS SIGNED), CAST(UNIX_TIMESTAMP(CURRENT_TIMESTAMP(3)) * 1000 AS SIGNED), 4 FROM DUAL
    WHERE NOT EXISTS (SELECT 1 FROM {schema}.oncesink_processed_event_generation g WHERE g.id = 1);

-- A known id is of a route of a pipeline: `route_id` is a hash of both names, because a row that carries them is twice as long.
CREATE TABLE IF NOT EXISTS {schema}.oncesink_processed_event_0 (
    route_id  bigint         NOT NULL,
    event_id  varbinary(512) NOT NULL,
    -- The batch that brought the id: an insert here does not tell which of its rows are new.
    batch_id  bigint         NOT NULL,
    PRIMARY KEY (route_id, event_id)
) ENGINE = InnoDB DEFAULT CHARACTER SET utf8mb4 COLLATE utf8mb4_bin;

CREATE TABLE IF NOT EXISTS {schema}.oncesink_processed_event_1 LIKE {schema}.oncesink_processed_event_0;

CREATE TABLE IF NOT EXISTS {schema}.oncesink_processed_event_2 LIKE {schema}.oncesink_processed_event_0;

CREATE TABLE IF NOT EXISTS {schema}.oncesink_processed_event_3 LIKE {schema}.oncesink_processed_event_0;

-- How long each pipeline wants its ids kept: the longest holds for all.
CREATE TABLE IF NOT EXISTS {schema}.oncesink_processed_event_retention (
    pipeline      varchar(255) NOT NULL PRIMARY KEY,
    milliseconds  bigint       NOT NULL
) ENGINE = InnoDB DEFAULT CHARACTER SET utf8mb4 COLLATE utf8mb4_bin;

-- How far each partition had come when a generation was closed. It expires only when Kafka will not deliver what lies below again.
CREATE TABLE IF NOT EXISTS {schema}.oncesink_processed_event_end (
    generation   bigint       NOT NULL,
    pipeline     varchar(255) NOT NULL,
    topic        varchar(255) NOT NULL,
    `partition`  int          NOT NULL,
    next_offset  bigint       NOT NULL,
    PRIMARY KEY (generation, pipeline, topic, `partition`)
) ENGINE = InnoDB DEFAULT CHARACTER SET utf8mb4 COLLATE utf8mb4_bin;

-- What the consumer group has acknowledged as committed, where that, and not the checkpoint, is where a restart begins.
CREATE TABLE IF NOT EXISTS {schema}.oncesink_committed (
    pipeline     varchar(255) NOT NULL,
    topic        varchar(255) NOT NULL,
    `partition`  int          NOT NULL,
    next_offset  bigint       NOT NULL,
    PRIMARY KEY (pipeline, topic, `partition`)
) ENGINE = InnoDB DEFAULT CHARACTER SET utf8mb4 COLLATE utf8mb4_bin;
