-- name: schema
-- What the census keeps in the database of each side. Idempotent. Applications read the mode, and note through one
-- function.
CREATE SCHEMA IF NOT EXISTS strangler;

CREATE TABLE IF NOT EXISTS strangler.census_mode (
    flag       text PRIMARY KEY,
    mode       text NOT NULL CHECK (mode IN ('off', 'log', 'refuse')),
    triggers   boolean NOT NULL DEFAULT false,
    tables     text[] NOT NULL,
    allow      text[] NOT NULL DEFAULT '{}',
    since      timestamptz NOT NULL DEFAULT clock_timestamp(),
    changed_at timestamptz NOT NULL DEFAULT clock_timestamp()
);

CREATE TABLE IF NOT EXISTS strangler.census (
    id          text PRIMARY KEY,
    flag        text NOT NULL,
    tbl         text NOT NULL,
    access      text NOT NULL CHECK (access IN ('read', 'write')),
    kind        text NOT NULL,
    name        text NOT NULL,
    place       text NOT NULL,
    application text NOT NULL,
    count       bigint NOT NULL,
    refused     bigint NOT NULL DEFAULT 0,
    first_seen  timestamptz NOT NULL DEFAULT clock_timestamp(),
    last_seen   timestamptz NOT NULL DEFAULT clock_timestamp()
);
CREATE INDEX IF NOT EXISTS census_flag ON strangler.census (flag);

-- Processes of applications that count here, and how many of their reports never arrived.
CREATE TABLE IF NOT EXISTS strangler.census_process (
    service    text NOT NULL,
    host       text NOT NULL,
    pid        integer NOT NULL,
    program    text NOT NULL,
    started_at timestamptz NOT NULL DEFAULT clock_timestamp(),
    seen_at    timestamptz NOT NULL DEFAULT clock_timestamp(),
    lost       bigint NOT NULL DEFAULT 0,
    PRIMARY KEY (service, host, pid)
);

-- PostgreSQL's own counters of the tables, as they stood when somebody looked.
CREATE TABLE IF NOT EXISTS strangler.census_look (
    flag        text NOT NULL,
    tbl         text NOT NULL,
    at          timestamptz NOT NULL DEFAULT clock_timestamp(),
    scans       bigint NOT NULL,
    inserted    bigint NOT NULL,
    updated     bigint NOT NULL,
    deleted     bigint NOT NULL,
    stream_runs boolean NOT NULL,
    PRIMARY KEY (flag, tbl, at)
);

-- Adds to the count of a place. A flag has 2000 places at most; what is more is counted as one.
CREATE OR REPLACE FUNCTION strangler.census_add(
    p_flag text, p_tbl text, p_access text, p_kind text, p_name text, p_place text, p_application text,
    p_count bigint, p_refused bigint, p_first timestamptz, p_last timestamptz) RETURNS void
LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp AS $$
DECLARE
    k text := md5(concat_ws(chr(31), p_flag, p_tbl, p_access, p_kind, p_name, p_place, p_application));
BEGIN
    IF NOT EXISTS (SELECT FROM strangler.census WHERE id = k)
       AND (SELECT count(*) FROM strangler.census WHERE flag = p_flag) >= 2000 THEN
        p_name := '(more than are kept)';
        p_place := '';
        k := md5(concat_ws(chr(31), p_flag, p_tbl, p_access, p_kind, p_name, p_place, p_application));
    END IF;
    INSERT INTO strangler.census AS c
        (id, flag, tbl, access, kind, name, place, application, count, refused, first_seen, last_seen)
    VALUES (k, p_flag, p_tbl, p_access, p_kind, p_name, p_place, p_application, p_count, p_refused, p_first, p_last)
    ON CONFLICT (id) DO UPDATE SET count = c.count + excluded.count, refused = c.refused + excluded.refused,
        last_seen = greatest(c.last_seen, excluded.last_seen);
END
$$;
REVOKE EXECUTE ON FUNCTION strangler.census_add FROM PUBLIC;

-- What an application's process counted since its last report. Ages are seconds: clocks of hosts do not matter.
CREATE OR REPLACE FUNCTION strangler.census_note(report jsonb) RETURNS void
LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
DECLARE
    now_ timestamptz := clock_timestamp();
    p record;
BEGIN
    INSERT INTO strangler.census_process AS c (service, host, pid, program, started_at, seen_at, lost)
    VALUES (left(report->>'service', 100), left(report->>'host', 100), (report->>'pid')::integer,
        left(report->>'program', 100), now_ - make_interval(secs => (report->>'age_s')::double precision), now_,
        (report->>'lost')::bigint)
    ON CONFLICT (service, host, pid) DO UPDATE SET program = excluded.program, started_at = excluded.started_at,
        seen_at = now_, lost = excluded.lost;
    DELETE FROM strangler.census_process WHERE seen_at < now_ - interval '1 day';
    FOR p IN
        SELECT * FROM jsonb_to_recordset(report->'places') AS x (flag text, tbl text, access text, kind text, name text,
            place text, count bigint, refused bigint, first_s double precision, last_s double precision)
        ORDER BY flag, tbl, access, kind, name, place LIMIT 1000
    LOOP
        PERFORM strangler.census_add(p.flag, p.tbl, p.access, p.kind, left(p.name, 200), left(p.place, 200),
            left(report->>'service', 100), p.count, p.refused, now_ - make_interval(secs => p.first_s),
            now_ - make_interval(secs => p.last_s));
    END LOOP;
END
$$;

-- A session that writes, whoever it is: noted once a minute. Never waits and never fails: two that note the same at
-- once are one note, and what cannot be noted (a repeatable-read transaction, a full disk) is not.
CREATE OR REPLACE FUNCTION strangler.census_session(p_flag text, p_tbl text, p_application text) RETURNS void
LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
DECLARE
    p_kind text := CASE WHEN session_user = current_user AND current_setting('strangler.applier', true) <> ''
        THEN 'applier' ELSE 'session' END;
    now_ timestamptz := clock_timestamp();
BEGIN
    IF pg_try_advisory_xact_lock(hashtextextended(
        concat_ws(chr(31), 'census', p_flag, p_tbl, p_application, session_user), 0)) THEN
        PERFORM strangler.census_add(p_flag, p_tbl, 'write', p_kind, session_user::text, '', left(p_application, 100),
            1, 0, now_, now_);
    END IF;
EXCEPTION WHEN OTHERS THEN
    NULL;
END
$$;

-- Run for every statement that writes; for most it compares one setting of the session: what was noted in this minute,
-- under which name. (A WHEN of the trigger would be parsed again for each statement, at ten times the cost.)
CREATE OR REPLACE FUNCTION strangler.census_write() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    IF pg_catalog.current_setting(TG_ARGV[2], true) IS DISTINCT FROM pg_catalog.current_setting('application_name')
        || (pg_catalog.date_part('epoch', pg_catalog.statement_timestamp())::bigint / 60) THEN
        PERFORM strangler.census_session(TG_ARGV[0], TG_ARGV[1], pg_catalog.current_setting('application_name'));
        PERFORM pg_catalog.set_config(TG_ARGV[2], pg_catalog.current_setting('application_name')
            || (pg_catalog.date_part('epoch', pg_catalog.statement_timestamp())::bigint / 60), false);
    END IF;
    RETURN NULL;
END
$$;

GRANT USAGE ON SCHEMA strangler TO PUBLIC;
GRANT SELECT ON strangler.census_mode TO PUBLIC;

-- name: exists
-- Asked of the catalogue first: a side that was never counted at has no such tables.
SELECT to_regclass('strangler.census') IS NOT NULL

-- name: seen
-- Places of a flag that were seen since a time, the latest first.
SELECT flag, tbl, access, kind, name, place, application, count, refused, first_seen, last_seen
FROM strangler.census WHERE flag = %(flag)s AND (%(since)s::timestamptz IS NULL OR last_seen >= %(since)s)
ORDER BY last_seen DESC, id LIMIT %(limit)s

-- name: mode
-- How a flag is counted here.
SELECT mode, triggers, allow, since FROM strangler.census_mode WHERE flag = %(flag)s

-- name: set_mode
-- `since` is when counting began: a change between log and refuse goes on counting.
INSERT INTO strangler.census_mode AS m (flag, mode, triggers, tables, allow)
VALUES (%(flag)s, %(mode)s, %(triggers)s, %(tables)s, %(allow)s)
ON CONFLICT (flag) DO UPDATE SET mode = excluded.mode, triggers = excluded.triggers, tables = excluded.tables,
    allow = excluded.allow, changed_at = clock_timestamp(),
    since = CASE WHEN m.mode = 'off' THEN clock_timestamp() ELSE m.since END

-- name: trigger
CREATE OR REPLACE TRIGGER census_strangler AFTER INSERT OR UPDATE OR DELETE ON {table}
    FOR EACH STATEMENT EXECUTE FUNCTION strangler.census_write({flag}, {tbl}, {guard})

-- name: trigger_always
ALTER TABLE {table} ENABLE ALWAYS TRIGGER census_strangler

-- name: drop_trigger
DROP TRIGGER IF EXISTS census_strangler ON {table}

-- name: has_trigger
SELECT EXISTS (SELECT FROM pg_trigger WHERE tgrelid = to_regclass(%(table)s) AND tgname = 'census_strangler')

-- name: processes
-- Processes that reported since a time.
SELECT service, host, pid, program, started_at, seen_at, lost FROM strangler.census_process
WHERE %(since)s::timestamptz IS NULL OR seen_at >= %(since)s ORDER BY seen_at DESC LIMIT 500

-- name: look
-- Note how PostgreSQL's counters of a table stand, and keep the last 100 looks.
WITH old AS (
    DELETE FROM strangler.census_look WHERE flag = %(flag)s AND tbl = %(tbl)s AND at < (
        SELECT min(at) FROM (SELECT at FROM strangler.census_look WHERE flag = %(flag)s AND tbl = %(tbl)s
                             ORDER BY at DESC LIMIT 99) AS kept)
)
INSERT INTO strangler.census_look (flag, tbl, scans, inserted, updated, deleted, stream_runs)
SELECT %(flag)s, %(tbl)s, seq_scan + coalesce(idx_scan, 0), n_tup_ins, n_tup_upd, n_tup_del, %(stream_runs)s
FROM pg_stat_all_tables WHERE relid = to_regclass(%(table)s)

-- name: moved
-- How far the counters moved from the last look at or before a time (else the first one) to the newest. Once a stream
-- has stopped, only looks after it count: it reads and writes the tables itself.
WITH kept AS (SELECT * FROM strangler.census_look WHERE flag = %(flag)s AND tbl = %(tbl)s),
looks AS (
    SELECT * FROM kept WHERE (SELECT stream_runs FROM kept ORDER BY at DESC LIMIT 1)
        OR at > coalesce((SELECT max(at) FROM kept WHERE stream_runs), '-infinity')
),
begin_ AS (
    SELECT * FROM looks ORDER BY at <= coalesce(%(since)s::timestamptz, '-infinity') DESC,
        CASE WHEN at <= coalesce(%(since)s::timestamptz, '-infinity') THEN at END DESC, at LIMIT 1
),
end_ AS (SELECT * FROM looks ORDER BY at DESC LIMIT 1)
SELECT b.at, e.scans - b.scans, e.inserted - b.inserted, e.updated - b.updated, e.deleted - b.deleted
FROM begin_ AS b, end_ AS e

-- name: sessions
-- Statements of other sessions here: running ones, and the last one of those that idle.
SELECT pid, application_name, usename, query, query_start FROM pg_stat_activity
WHERE datname = current_database() AND pid <> pg_backend_pid() AND backend_type = 'client backend'
    AND query <> '' AND application_name NOT LIKE 'strangler%%' LIMIT 2000

-- name: add_session
-- A session that was met with a statement; as old as the statement is.
SELECT strangler.census_add(%(flag)s, %(tbl)s, %(access)s, 'session', %(name)s, '', %(application)s, 1, 0,
    %(at)s, %(at)s)
