-- Which of the four tables below takes new event ids (its number modulo 4), and since when. One row; every batch with marks holds it
-- still by a shared advisory lock. The two generations before it are looked at, the table of the next one is empty.
CREATE TABLE {schema}.oncesink_processed_event_generation (
    id                  integer PRIMARY KEY CHECK (id = 1),
    generation          bigint NOT NULL,
    -- Milliseconds since the Unix epoch, by this server's clock.
    opened_at           bigint NOT NULL,
    -- The same of the generation before it: since then the one before that has taken no id.
    previous_opened_at  bigint NOT NULL,
    -- The newest generation whose table was emptied for it.
    emptied             bigint NOT NULL
);

INSERT INTO {schema}.oncesink_processed_event_generation (id, generation, opened_at, previous_opened_at, emptied)
    VALUES (1, 3, (extract(epoch FROM clock_timestamp()) * 1000)::bigint, (extract(epoch FROM clock_timestamp()) * 1000)::bigint, 4);

-- A known id is of a route of a pipeline: `route_id` is a hash of both names, because a row that carries them is twice as long.
CREATE TABLE {schema}.oncesink_processed_event_0 (
    route_id  bigint NOT NULL,
    event_id  text   COLLATE "C" NOT NULL,
    PRIMARY KEY (route_id, event_id)
);

CREATE TABLE {schema}.oncesink_processed_event_1 (LIKE {schema}.oncesink_processed_event_0 INCLUDING ALL);

CREATE TABLE {schema}.oncesink_processed_event_2 (LIKE {schema}.oncesink_processed_event_0 INCLUDING ALL);

CREATE TABLE {schema}.oncesink_processed_event_3 (LIKE {schema}.oncesink_processed_event_0 INCLUDING ALL);

-- How long each pipeline wants its ids kept: the longest holds for all.
CREATE TABLE {schema}.oncesink_processed_event_retention (
    pipeline      text   COLLATE "C" PRIMARY KEY,
    milliseconds  bigint NOT NULL
);

-- How far each partition had come when a generation was closed. It expires only when Kafka will not deliver what lies below again.
CREATE TABLE {schema}.oncesink_processed_event_end (
    generation   bigint  NOT NULL,
    pipeline     text    COLLATE "C" NOT NULL,
    topic        text    COLLATE "C" NOT NULL,
    partition    integer NOT NULL,
    next_offset  bigint  NOT NULL,
    PRIMARY KEY (generation, pipeline, topic, partition)
);

-- What the consumer group has acknowledged as committed, where that, and not the checkpoint, is where a restart begins.
CREATE TABLE {schema}.oncesink_committed (
    pipeline     text    COLLATE "C" NOT NULL,
    topic        text    COLLATE "C" NOT NULL,
    partition    integer NOT NULL,
    next_offset  bigint  NOT NULL,
    PRIMARY KEY (pipeline, topic, partition)
);
