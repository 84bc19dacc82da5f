-- What shadow mode needs beside the data: the transaction that cannot commit, the report of its rows, and their rewind.
-- Idempotent. Run by the owner of the tables, or by the toolkit's role; `strangler.fence` and `strangler sync` know it.
CREATE SCHEMA IF NOT EXISTS strangler;
GRANT USAGE ON SCHEMA strangler TO PUBLIC;

-- Never holds a committed row: a transaction that inserts one cannot commit. So a row that can be seen is one's own.
CREATE UNLOGGED TABLE IF NOT EXISTS strangler.captured (
    xact xid8 PRIMARY KEY DEFAULT pg_current_xact_id()
) WITH (autovacuum_vacuum_threshold = 500, autovacuum_vacuum_scale_factor = 0);

CREATE OR REPLACE FUNCTION strangler.never_commit() RETURNS trigger
LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp AS $$
BEGIN
    RAISE EXCEPTION 'strangler: this transaction is a mirrored request''s, it cannot be committed'
        USING ERRCODE = 'MF002';
END
$$;

DO $$
BEGIN
    IF NOT EXISTS (SELECT FROM pg_trigger
                    WHERE tgrelid = 'strangler.captured'::regclass AND tgname = 'strangler_never_commits') THEN
        CREATE CONSTRAINT TRIGGER strangler_never_commits AFTER INSERT OR UPDATE ON strangler.captured
            DEFERRABLE INITIALLY DEFERRED FOR EACH ROW EXECUTE FUNCTION strangler.never_commit();
        ALTER TABLE strangler.captured ENABLE ALWAYS TRIGGER strangler_never_commits;
    END IF;
END
$$;
GRANT SELECT, INSERT ON strangler.captured TO PUBLIC;

-- Does this transaction hold the row? Its own number, so that a row that got there in any other way opens nothing.
CREATE OR REPLACE FUNCTION strangler.is_captured() RETURNS boolean
LANGUAGE sql STABLE SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
    SELECT EXISTS (SELECT FROM strangler.captured WHERE xact = pg_current_xact_id_if_assigned())
$$;

-- What the deferred constraints of the database would raise at a COMMIT, but for the guard's own.
CREATE OR REPLACE FUNCTION strangler.check_deferred() RETURNS void
LANGUAGE plpgsql AS $$
DECLARE
    names text;
BEGIN
    SELECT string_agg(DISTINCT format('%I.%I', n.nspname, c.conname), ', ') INTO names
      FROM pg_constraint AS c JOIN pg_namespace AS n ON n.oid = c.connamespace
     WHERE c.condeferred AND c.conname <> 'strangler_never_commits' AND c.conparentid = 0
       AND has_schema_privilege(n.oid, 'USAGE');
    IF names IS NOT NULL THEN
        EXECUTE 'SET CONSTRAINTS ' || names || ' IMMEDIATE';
        EXECUTE 'SET CONSTRAINTS ' || names || ' DEFERRED';
    END IF;
END
$$;

-- Which tables are told of, and how: columns here to columns on the extracted side, the key's columns here.
CREATE TABLE IF NOT EXISTS strangler.reported (
    relation regclass PRIMARY KEY,
    logical  text NOT NULL,
    columns  jsonb NOT NULL,
    key      text[] NOT NULL
);
GRANT SELECT ON strangler.reported TO PUBLIC;

-- A row's moved columns under their logical names; numbers so that equal ones are the same text.
CREATE OR REPLACE FUNCTION strangler.told(given jsonb, columns jsonb) RETURNS jsonb
LANGUAGE sql IMMUTABLE SET search_path = pg_catalog, pg_temp AS $$
    SELECT coalesce(jsonb_object_agg(c.value, CASE
               WHEN jsonb_typeof(given -> c.key) = 'number' AND (given ->> c.key) ~ '^-?[0-9]{1,15}$' THEN given -> c.key
               WHEN jsonb_typeof(given -> c.key) = 'number' THEN to_jsonb(trim_scale((given ->> c.key)::numeric)::text)
               ELSE coalesce(given -> c.key, 'null') END), '{}')
      FROM jsonb_each_text(columns) AS c
$$;

-- A time of now, as code or a column's default wrote it: the sides cannot agree on it.
CREATE OR REPLACE FUNCTION strangler.is_now(given jsonb) RETURNS boolean
LANGUAGE plpgsql STABLE SET search_path = pg_catalog, pg_temp SET timezone = 'UTC' AS $$
BEGIN
    RETURN jsonb_typeof(given) = 'string' AND (given #>> '{}') ~ '^[0-9]{4}-[0-9]{2}-[0-9]{2}T[0-9:.]{8,15}([+]00:00)?$'
        AND (given #>> '{}')::timestamptz BETWEEN transaction_timestamp() - interval '10 s'
                                              AND clock_timestamp() + interval '2 s';
EXCEPTION WHEN data_exception THEN
    RETURN false;
END
$$;

-- Note a row that changed in the transaction's own setting. Arguments: logical name, columns, logical names of the key.
-- A time of now is `(now)` in an insert and left out of an update: a mirrored request has one transaction, so one now().
-- In the role `record` it also says how the row was before, so that it can be put back elsewhere (`rewind`).
CREATE OR REPLACE FUNCTION strangler.report() RETURNS trigger
LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp SET timezone = 'UTC' SET datestyle = 'ISO' AS $$
DECLARE
    said    text := coalesce(current_setting('strangler.effects', true), '');
    columns jsonb := TG_ARGV[1];
    keys    text[] := TG_ARGV[2];
    before  jsonb;
    after   jsonb;
    detail  jsonb := jsonb_build_object('table', TG_ARGV[0], 'operation', lower(TG_OP));
    undo    jsonb := jsonb_build_object('table', TG_ARGV[0], 'operation', lower(TG_OP));
    line    jsonb;
BEGIN
    IF length(said) > 400000 THEN
        PERFORM set_config('strangler.effects', E'too_large\n', true);
        RETURN NULL;
    ELSIF said LIKE 'too_large%' THEN
        RETURN NULL;
    END IF;
    IF TG_OP = 'INSERT' THEN
        after := strangler.told(to_jsonb(NEW), columns);
        undo := undo || jsonb_build_object('key', strangler.part(after, keys));
        SELECT jsonb_object_agg(e.key, CASE WHEN strangler.is_now(e.value) THEN '"(now)"' ELSE e.value END) INTO after
          FROM jsonb_each(after) AS e;
        detail := detail || jsonb_build_object('key', strangler.part(after, keys), 'values', after);
    ELSIF TG_OP = 'DELETE' THEN
        before := strangler.told(to_jsonb(OLD), columns);
        undo := undo || jsonb_build_object('values', before);
        detail := detail || jsonb_build_object('key', strangler.part(before, keys), 'values', '{}'::jsonb);
    ELSE
        before := strangler.told(to_jsonb(OLD), columns);
        after := strangler.told(to_jsonb(NEW), columns);
        IF before = after THEN
            RETURN NULL;
        END IF;
        undo := undo || jsonb_build_object('key', strangler.part(after, keys), 'before', strangler.changed(before, after));
        SELECT coalesce(jsonb_object_agg(e.key, e.value), '{}') INTO line
          FROM jsonb_each(strangler.changed(after, before)) AS e WHERE NOT strangler.is_now(e.value);
        detail := detail || jsonb_build_object('key', strangler.part(after, keys), 'values', line);
    END IF;
    line := jsonb_build_object('kind', 'row', 'detail', detail);
    IF current_setting('strangler.capture', true) = 'record' THEN
        line := line || jsonb_build_object('undo', undo);
    END IF;
    PERFORM set_config('strangler.effects', said || line::text || E'\n', true);
    RETURN NULL;
END
$$;

CREATE OR REPLACE FUNCTION strangler.part(given jsonb, names text[]) RETURNS jsonb
LANGUAGE sql IMMUTABLE SET search_path = pg_catalog, pg_temp AS $$
    SELECT coalesce(jsonb_object_agg(name, given -> name), '{}') FROM unnest(names) AS name
$$;

CREATE OR REPLACE FUNCTION strangler.changed(given jsonb, other jsonb) RETURNS jsonb
LANGUAGE sql IMMUTABLE SET search_path = pg_catalog, pg_temp AS $$
    SELECT coalesce(jsonb_object_agg(e.key, e.value), '{}') FROM jsonb_each(given) AS e
     WHERE e.value IS DISTINCT FROM other -> e.key
$$;

-- Have a table told of. By whoever owns it; takes the lock that CREATE TRIGGER takes.
CREATE OR REPLACE FUNCTION strangler.report_rows(relation regclass, logical text, columns jsonb, key text[])
RETURNS void LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp AS $$
DECLARE
    logical_key text[];
BEGIN
    SELECT array_agg(columns ->> name ORDER BY place) INTO logical_key
      FROM unnest(key) WITH ORDINALITY AS k (name, place);
    INSERT INTO strangler.reported AS r VALUES (relation, logical, columns, key)
    ON CONFLICT ON CONSTRAINT reported_pkey DO UPDATE
       SET logical = excluded.logical, columns = excluded.columns, key = excluded.key;
    EXECUTE format(
        'CREATE OR REPLACE TRIGGER strangler_report AFTER INSERT OR UPDATE OR DELETE ON %s FOR EACH ROW'
        ' WHEN (current_setting(''strangler.capture'', true) <> '''') EXECUTE FUNCTION strangler.report(%L, %L, %L)',
        relation, logical, columns, logical_key);
END
$$;

-- Put rows back to what they were before the other side's request: newest first, each by its key, and only what it
-- changed. Has the stream of rows not brought them yet, this changes nothing. For a transaction that cannot commit.
-- No search path of its own (nor has check_deferred): triggers of the application may run within.
CREATE OR REPLACE FUNCTION strangler.rewind(effects jsonb) RETURNS integer
LANGUAGE plpgsql AS $$
DECLARE
    effect jsonb;
    failed integer := 0;
BEGIN
    IF NOT strangler.is_captured() THEN
        RAISE EXCEPTION 'strangler: rows are put back in a mirrored request''s transaction only';
    END IF;
    PERFORM set_config('strangler.capture', '', true);
    FOR effect IN SELECT e.value FROM jsonb_array_elements(effects) WITH ORDINALITY AS e (value, place)
                   ORDER BY place DESC
    LOOP
        BEGIN
            PERFORM strangler.rewind_one(effect);
        EXCEPTION WHEN integrity_constraint_violation OR data_exception OR undefined_column THEN
            failed := failed + 1;
        END;
    END LOOP;
    PERFORM set_config('strangler.capture', 'mirror', true);
    RETURN failed;
END
$$;

CREATE OR REPLACE FUNCTION strangler.rewind_one(effect jsonb) RETURNS void
LANGUAGE plpgsql AS $$
DECLARE
    here  strangler.reported;
    fits  text;
    sets  text;
    names text;
    typed text;
BEGIN
    SELECT * INTO here FROM strangler.reported WHERE logical = effect ->> 'table';
    IF NOT FOUND THEN
        RETURN;
    END IF;
    -- `f` is the effect's values as a row of the table: PostgreSQL reads each value as its column's type.
    SELECT string_agg(format('t.%1$I = f.%1$I', k), ' AND ') INTO fits FROM unnest(here.key) AS k;
    IF effect ->> 'operation' = 'insert' THEN
        EXECUTE format('DELETE FROM %1$s AS t USING jsonb_populate_record(NULL::%1$s, $1) AS f WHERE %2$s',
                       here.relation, fits)
        USING strangler.physical(effect -> 'key', here.columns);
    ELSIF effect ->> 'operation' = 'update' THEN
        SELECT string_agg(format('%1$I = f.%1$I', c.key), ', ') INTO sets
          FROM jsonb_each_text(here.columns) AS c
         WHERE effect -> 'before' ? c.value AND NOT c.key = ANY (here.key);
        IF sets IS NOT NULL THEN
            EXECUTE format('UPDATE %1$s AS t SET %2$s FROM jsonb_populate_record(NULL::%1$s, $1) AS f WHERE %3$s',
                           here.relation, sets, fits)
            USING strangler.physical((effect -> 'before') || (effect -> 'key'), here.columns);
        END IF;
    ELSIF effect ->> 'operation' = 'delete' THEN
        SELECT string_agg(quote_ident(c.key), ', '), string_agg(format('f.%I', c.key), ', ') INTO names, typed
          FROM jsonb_each_text(here.columns) AS c WHERE effect -> 'values' ? c.value;
        EXECUTE format('INSERT INTO %1$s (%2$s) OVERRIDING SYSTEM VALUE'
                       ' SELECT %3$s FROM jsonb_populate_record(NULL::%1$s, $1) AS f'
                       ' WHERE NOT EXISTS (SELECT FROM %1$s AS t WHERE %4$s)',
                       here.relation, names, typed, fits)
        USING strangler.physical(effect -> 'values', here.columns);
    END IF;
END
$$;

CREATE OR REPLACE FUNCTION strangler.physical(given jsonb, columns jsonb) RETURNS jsonb
LANGUAGE sql IMMUTABLE SET search_path = pg_catalog, pg_temp AS $$
    SELECT coalesce(jsonb_object_agg(c.key, given -> c.value), '{}')
      FROM jsonb_each_text(columns) AS c WHERE given ? c.value
$$;
