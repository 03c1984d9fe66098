-- The history of this schema, and the random id of the database, which Kafka commits carry.
CREATE TABLE {schema}.oncesink_schema (
    version      bigint      PRIMARY KEY,
    description  text        NOT NULL,
    -- The oldest version that a binary must know to run beside this one.
    needs        bigint      NOT NULL,
    database_id  text        NOT NULL,
    applied_at   timestamptz NOT NULL DEFAULT now(),
    applied_by   text        NOT NULL DEFAULT current_user
);

-- One row a partition. Locked first in every batch: that is the fence.
CREATE TABLE {schema}.oncesink_checkpoint (
    pipeline        text        COLLATE "C" NOT NULL,
    topic           text        COLLATE "C" NOT NULL,
    partition       integer     NOT NULL,
    epoch           bigint      NOT NULL,
    claim_id        bigint      NOT NULL,
    next_offset     bigint      NOT NULL,
    durable         bigint      NOT NULL,
    delivery        text        NOT NULL,
    cluster_id      text        NOT NULL,
    group_id        text        NOT NULL,
    owner           text        NOT NULL,
    last_offset     bigint,
    last_timestamp  bigint,
    last_hash       bigint,
    batch_id        bigint      NOT NULL,
    halt_reason     text,
    halt_detail     text,
    halt_offset     bigint,
    -- Milliseconds since the Unix epoch.
    halt_at         bigint,
    updated_at      timestamptz NOT NULL DEFAULT now(),
    PRIMARY KEY (pipeline, topic, partition)
) WITH (fillfactor = 50);

-- What people did to checkpoints.
CREATE TABLE {schema}.oncesink_audit (
    id         bigint      GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    at         timestamptz NOT NULL DEFAULT now(),
    pipeline   text        NOT NULL,
    topic      text        NOT NULL,
    partition  integer     NOT NULL,
    "offset"   bigint      NOT NULL,
    action     text        NOT NULL,
    who        text        NOT NULL,
    detail     text        NOT NULL
);
