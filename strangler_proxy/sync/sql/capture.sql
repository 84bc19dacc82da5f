-- name: on_insert_or_delete
-- Notes the keys of rows, in the application's own transaction. Every name and operator has its schema and no path is
-- set: that would cost each write more than the look at the marker. Nor is the stream told: NOTIFY makes commits queue.
CREATE OR REPLACE FUNCTION strangler.{function}() RETURNS trigger
LANGUAGE plpgsql SECURITY DEFINER AS $capture$
BEGIN
    IF pg_catalog.current_setting('strangler.applier', true) OPERATOR(pg_catalog.=) {flag}
        AND session_user OPERATOR(pg_catalog.=) current_user THEN
        RETURN NULL;
    END IF;
    INSERT INTO strangler.dirty (flag, tbl, pk) SELECT {flag}, {tbl}, ARRAY[{key}] FROM {rows} AS r;
    RETURN NULL;
END
$capture$

-- name: on_update
-- Notes the keys of rows whose moved columns changed. Columns are compared by the operators of `pg_catalog` only.
CREATE OR REPLACE FUNCTION strangler.{function}() RETURNS trigger
LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $capture$
BEGIN
    IF current_setting('strangler.applier', true) = {flag} AND session_user = current_user THEN
        RETURN NULL;
    END IF;
    INSERT INTO strangler.dirty (flag, tbl, pk)
    SELECT {noted}
    FROM old_rows AS o
    FULL JOIN new_rows AS n ON {same_key}
    {both}
    WHERE ROW({old_columns}) IS DISTINCT FROM ROW({new_columns});
    RETURN NULL;
END
$capture$

-- name: both_keys
-- Where keys may be equal and still be written otherwise: in a collation without case, with blanks at the end.
JOIN LATERAL (VALUES (ARRAY[{old_key}]), (ARRAY[{new_key}])) AS k (pk) ON k.pk[1] IS NOT NULL

-- name: insert
CREATE OR REPLACE TRIGGER strangler_capture_insert AFTER INSERT ON {table}
    REFERENCING NEW TABLE AS new_rows
    FOR EACH STATEMENT EXECUTE FUNCTION strangler.{function}()

-- name: update
CREATE OR REPLACE TRIGGER strangler_capture_update AFTER UPDATE ON {table}
    REFERENCING OLD TABLE AS old_rows NEW TABLE AS new_rows
    FOR EACH STATEMENT EXECUTE FUNCTION strangler.{function}()

-- name: delete
CREATE OR REPLACE TRIGGER strangler_capture_delete AFTER DELETE ON {table}
    REFERENCING OLD TABLE AS old_rows
    FOR EACH STATEMENT EXECUTE FUNCTION strangler.{function}()

-- name: drop_former
DROP FUNCTION IF EXISTS strangler.{function}()

-- name: truncate
CREATE OR REPLACE TRIGGER strangler_truncate BEFORE TRUNCATE ON {table}
    FOR EACH STATEMENT EXECUTE FUNCTION strangler.refuse_truncate()

-- name: fence_whole
-- All columns move: every write is refused.
CREATE TRIGGER strangler_fence BEFORE INSERT OR UPDATE OR DELETE OR TRUNCATE ON {table}
    FOR EACH STATEMENT EXECUTE FUNCTION strangler.fence({flag})

-- name: fence_partial
-- Some columns move: an UPDATE of the others passes.
CREATE TRIGGER strangler_fence BEFORE INSERT OR DELETE OR TRUNCATE ON {table}
    FOR EACH STATEMENT EXECUTE FUNCTION strangler.fence({flag})

-- name: fence_columns
CREATE TRIGGER strangler_fence_columns AFTER UPDATE ON {table}
    FOR EACH ROW WHEN (ROW({old_columns}) IS DISTINCT FROM ROW({new_columns}))
    EXECUTE FUNCTION strangler.fence({flag})

-- name: report
-- Mirrored and recorded requests tell of the rows that they write (contrib/shadow_schema.sql).
SELECT strangler.report_rows(
    {table_name}::regclass,
    {logical},
    (SELECT jsonb_object_agg(here, there) FROM unnest({here}::text[], {there}::text[]) AS c (here, there)),
    {key}::text[])

-- name: always
ALTER TABLE {table} ENABLE ALWAYS TRIGGER {trigger}

-- name: disable
ALTER TABLE {table} DISABLE TRIGGER {trigger}

-- name: drop
DROP TRIGGER {trigger} ON {table}

-- name: triggers
-- Name, state ('A' always, 'D' disabled) and definition of the toolkit's triggers of one table.
SELECT tgname, tgenabled, pg_get_triggerdef(oid)
FROM pg_trigger WHERE tgrelid = %(table)s::regclass AND NOT tgisinternal AND tgname LIKE 'strangler\_%%'
