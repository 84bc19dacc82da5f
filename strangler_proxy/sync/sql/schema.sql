-- name: schema
-- What the toolkit keeps beside the data, on both sides. Idempotent. Application roles read `ownership` only.
CREATE SCHEMA IF NOT EXISTS strangler;

CREATE TABLE IF NOT EXISTS strangler.ownership (
    flag               text PRIMARY KEY,
    origin             text NOT NULL CHECK (origin IN ('monolith', 'extracted')),
    owner              text NOT NULL CHECK (owner IN ('monolith', 'extracted')),
    epoch              bigint NOT NULL,
    open               boolean NOT NULL,
    replicated_through timestamptz,
    changed_at         timestamptz NOT NULL DEFAULT clock_timestamp()
);

CREATE TABLE IF NOT EXISTS strangler.dirty (
    id   bigint GENERATED ALWAYS AS IDENTITY,
    flag text NOT NULL,
    tbl  text NOT NULL,
    pk   text[] NOT NULL,
    at   timestamptz NOT NULL DEFAULT clock_timestamp(),
    PRIMARY KEY (flag, id)
);

-- Kept by the target of a stream: `source` is the other side's origin.
CREATE TABLE IF NOT EXISTS strangler.applied (
    flag        text PRIMARY KEY,
    source      text NOT NULL,
    mode        text NOT NULL DEFAULT 'snapshot',
    verified_at timestamptz,
    verified    boolean,
    mismatches  bigint NOT NULL DEFAULT 0,
    changed_at  timestamptz NOT NULL DEFAULT clock_timestamp()
);
ALTER TABLE strangler.applied ADD COLUMN IF NOT EXISTS verify_asked_at timestamptz;

CREATE TABLE IF NOT EXISTS strangler.progress (
    flag           text NOT NULL,
    tbl            text NOT NULL,
    source         text NOT NULL,
    after_key      text[],
    done           boolean NOT NULL DEFAULT false,
    rows_done      bigint NOT NULL DEFAULT 0,
    rows_estimated bigint NOT NULL DEFAULT 0,
    PRIMARY KEY (flag, tbl)
);

CREATE TABLE IF NOT EXISTS strangler.stuck (
    flag  text NOT NULL,
    tbl   text NOT NULL,
    pk    text[] NOT NULL,
    error text NOT NULL,
    tries bigint NOT NULL DEFAULT 1,
    since timestamptz NOT NULL DEFAULT clock_timestamp(),
    PRIMARY KEY (flag, tbl, pk)
);

-- Keys applied since the last complete verification began: what the cutover's check looks at in large tables.
CREATE TABLE IF NOT EXISTS strangler.touched (
    flag text NOT NULL,
    tbl  text NOT NULL,
    pk   text[] NOT NULL,
    at   timestamptz NOT NULL DEFAULT clock_timestamp(),
    PRIMARY KEY (flag, tbl, pk)
);

-- Values of other capabilities' keys whose rows were deleted, where a soft reference is declared `tombstone` or `event`.
-- Noted in the monolith's database, carried to the other side. Applications read it.
CREATE TABLE IF NOT EXISTS strangler.gone (
    flag    text NOT NULL,
    tbl     text NOT NULL,
    col     text NOT NULL,
    value   text NOT NULL,
    at      timestamptz NOT NULL DEFAULT clock_timestamp(),
    carried boolean NOT NULL DEFAULT false,
    PRIMARY KEY (flag, tbl, col, value)
);
CREATE INDEX IF NOT EXISTS gone_waiting ON strangler.gone (flag) WHERE NOT carried;

-- Kept by an owner that was lost and is back: what it had not handed on when its copy was promoted.
CREATE TABLE IF NOT EXISTS strangler.unreplicated (
    flag     text NOT NULL,
    tbl      text NOT NULL,
    pk       text[] NOT NULL,
    at       timestamptz NOT NULL,
    row_here jsonb,
    kept_at  timestamptz NOT NULL DEFAULT clock_timestamp()
);

-- Kept by the source of a cutover, that is by the owner it begins with.
CREATE TABLE IF NOT EXISTS strangler.cutover (
    id           text PRIMARY KEY,
    operation_id bigint NOT NULL,
    flag         text NOT NULL,
    source       text NOT NULL,
    target       text NOT NULL,
    epoch        bigint NOT NULL,
    status       text NOT NULL CHECK (status IN ('holding', 'committed', 'done', 'aborted')),
    deadline_at  timestamptz NOT NULL,
    stage        text NOT NULL DEFAULT '',
    weight       integer NOT NULL DEFAULT 0,
    actor        text NOT NULL,
    reason       text NOT NULL DEFAULT '',
    detail       text NOT NULL DEFAULT '',
    began_at     timestamptz NOT NULL DEFAULT clock_timestamp(),
    decided_at   timestamptz,
    ended_at     timestamptz
);
CREATE UNIQUE INDEX IF NOT EXISTS cutover_open ON strangler.cutover (flag) WHERE status IN ('holding', 'committed');
CREATE INDEX IF NOT EXISTS cutover_operation ON strangler.cutover (operation_id);

-- Autovacuum that a cutover turned off, and what the tables' setting was (null: none).
CREATE TABLE IF NOT EXISTS strangler.vacuum_off (
    flag     text NOT NULL,
    tbl      text NOT NULL,
    previous text,
    at       timestamptz NOT NULL DEFAULT clock_timestamp(),
    PRIMARY KEY (flag, tbl)
);

-- In the application's own transaction, whoever it runs as; `current_user` is the toolkit's role here.
CREATE OR REPLACE FUNCTION strangler.fence() RETURNS trigger
LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
BEGIN
    IF session_user = current_user AND current_setting('strangler.applier', true) = TG_ARGV[0] THEN
        RETURN NULL;
    END IF;
    -- A mirrored request's transaction: it holds a row that makes its COMMIT fail (contrib/shadow_schema.sql).
    IF strangler.is_captured() THEN
        RETURN NULL;
    END IF;
    RAISE EXCEPTION 'strangler fence: writes to "%" are refused here', TG_TABLE_NAME
        USING ERRCODE = 'MF001', DETAIL = json_build_object('flag', TG_ARGV[0], 'table', TG_TABLE_NAME)::text;
END
$$;

CREATE OR REPLACE FUNCTION strangler.refuse_truncate() RETURNS trigger
LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp AS $$
BEGIN
    RAISE EXCEPTION 'strangler: TRUNCATE of "%" is refused, its rows are kept in step', TG_TABLE_NAME
        USING ERRCODE = 'feature_not_supported', HINT = 'Use DELETE.';
END
$$;

GRANT USAGE ON SCHEMA strangler TO PUBLIC;
GRANT SELECT ON strangler.ownership, strangler.gone TO PUBLIC;

-- name: one_index
ALTER TABLE strangler.dirty DROP CONSTRAINT dirty_pkey, ADD PRIMARY KEY (flag, id);
DROP INDEX strangler.dirty_flag

-- name: lock
-- One installing worker at a time.
SELECT pg_advisory_xact_lock(7274823642)

-- name: own
-- The first grant: the monolith, epoch 1. A grant that exists is never changed here.
INSERT INTO strangler.ownership (flag, origin, owner, epoch, open)
VALUES (%(flag)s, %(origin)s, 'monolith', 1, %(origin)s = 'monolith')
ON CONFLICT (flag) DO NOTHING
