-- Tables of outbox and inbox, in the application's own database and schema. Safe to repeat.

CREATE TABLE IF NOT EXISTS outbox_message (
    position        bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    id              uuid NOT NULL UNIQUE,
    event           text NOT NULL,
    occurred_at     timestamptz NOT NULL DEFAULT clock_timestamp(),
    data            jsonb NOT NULL,
    context         jsonb NOT NULL DEFAULT '{}',      -- request id and trace of whoever caused it
    attempts        integer NOT NULL DEFAULT 0,
    next_attempt_at timestamptz NOT NULL DEFAULT clock_timestamp(),
    published_at    timestamptz
);
CREATE INDEX IF NOT EXISTS outbox_message_waiting ON outbox_message (position) WHERE published_at IS NULL;
CREATE INDEX IF NOT EXISTS outbox_message_published ON outbox_message (published_at) WHERE published_at IS NOT NULL;

CREATE TABLE IF NOT EXISTS inbox_message (
    queue       text NOT NULL,
    id          uuid NOT NULL,
    received_at timestamptz NOT NULL DEFAULT clock_timestamp(),
    PRIMARY KEY (queue, id)
);
CREATE INDEX IF NOT EXISTS inbox_message_received ON inbox_message (received_at);

-- Messages whose effect failed every time: kept with the reason until somebody decides.
CREATE TABLE IF NOT EXISTS inbox_parked (
    position  bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    queue     text NOT NULL,
    id        uuid,                                   -- null: the body could not be read
    event     text NOT NULL,
    body      text NOT NULL,
    context   jsonb NOT NULL DEFAULT '{}',
    error     text NOT NULL,
    attempts  integer NOT NULL,
    parked_at timestamptz NOT NULL DEFAULT clock_timestamp()
);
