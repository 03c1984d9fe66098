-- Which of the four tables below takes new event ids (its number modulo 4), and since when. One row; a batch holds it still
-- because it holds the file. The two generations before it are looked at, the table of the next one is empty.
CREATE TABLE oncesink_processed_event_generation (
    id                  INTEGER PRIMARY KEY CHECK (id = 1),
    generation          INTEGER NOT NULL,
    -- Milliseconds since the Unix epoch, by this machine's clock.
    opened_at           INTEGER NOT NULL,
    -- The same of the generation before it: since then the one before that has taken no id.
    previous_opened_at  INTEGER NOT NULL,
    -- The newest generation whose table was emptied for it.
    emptied             INTEGER NOT NULL
);

INSERT INTO oncesink_processed_event_generation (id, generation, opened_at, previous_opened_at, emptied)
    VALUES (1, 3, CAST((julianday('now') - 2440587.5) * 86400000 AS INTEGER), CAST((julianday('now') - 2440587.5) * 86400000 AS INTEGER), 4);

-- A known id is of a route of a pipeline: `route_id` is a hash of both names, because a row that carries them is twice as long.
CREATE TABLE oncesink_processed_event_0 (
    route_id  INTEGER NOT NULL,
    event_id  TEXT    NOT NULL,
    PRIMARY KEY (route_id, event_id)
) WITHOUT ROWID;

CREATE TABLE oncesink_processed_event_1 (
    route_id  INTEGER NOT NULL,
    event_id  TEXT    NOT NULL,
    PRIMARY KEY (route_id, event_id)
) WITHOUT ROWID;

CREATE TABLE oncesink_processed_event_2 (
    route_id  INTEGER NOT NULL,
    event_id  TEXT    NOT NULL,
    PRIMARY KEY (route_id, event_id)
) WITHOUT ROWID;

CREATE TABLE oncesink_processed_event_3 (
    route_id  INTEGER NOT NULL,
    event_id  TEXT    NOT NULL,
    PRIMARY KEY (route_id, event_id)
) WITHOUT ROWID;

-- How long each pipeline wants its ids kept: the longest holds for all.
CREATE TABLE oncesink_processed_event_retention (
    pipeline      TEXT    PRIMARY KEY,
    milliseconds  INTEGER NOT NULL
);

-- How far each partition had come when a generation was closed. It expires only when Kafka will not deliver what lies below again.
CREATE TABLE oncesink_processed_event_end (
    generation   INTEGER NOT NULL,
    pipeline     TEXT    NOT NULL,
    topic        TEXT    NOT NULL,
    partition    INTEGER NOT NULL,
    next_offset  INTEGER NOT NULL,
    PRIMARY KEY (generation, pipeline, topic, partition)
) WITHOUT ROWID;

-- What the consumer group has acknowledged as committed, where that, and not the checkpoint, is where a restart begins.
CREATE TABLE oncesink_committed (
    pipeline     TEXT    NOT NULL,
    topic        TEXT    NOT NULL,
    partition    INTEGER NOT NULL,
    next_offset  INTEGER NOT NULL,
    PRIMARY KEY (pipeline, topic, partition)
) WITHOUT ROWID;
