-- name: schema
-- What retiring keeps in the monolith's database: its record, the tables that were set aside, and their guard.
CREATE SCHEMA IF NOT EXISTS strangler_retired;

-- `step` is the last one that is complete. `tables`: what was set aside, how it was called, what refers to it.
CREATE TABLE IF NOT EXISTS strangler.retired (
    flag         text PRIMARY KEY,
    operation_id bigint NOT NULL,
    status       text NOT NULL CHECK (status IN ('retiring', 'retired', 'dropped', 'undoing', 'undone')),
    step         text NOT NULL DEFAULT '',
    epoch        bigint NOT NULL,
    keep_copy    boolean NOT NULL,
    dump         text NOT NULL DEFAULT '',
    tables       jsonb NOT NULL DEFAULT '{}',
    actor        text NOT NULL,
    reason       text NOT NULL DEFAULT '',
    began_at     timestamptz NOT NULL DEFAULT clock_timestamp(),
    retired_at   timestamptz,
    changed_at   timestamptz NOT NULL DEFAULT clock_timestamp()
);

-- The sequence counts what was refused: unlike a row, it is not rolled back with the statement. The applier is refused
-- as well: one that was paused meanwhile must not write to what was dumped.
CREATE OR REPLACE FUNCTION strangler.refuse_retired() RETURNS trigger
LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
BEGIN
    PERFORM nextval(TG_ARGV[2]::regclass);
    RAISE EXCEPTION 'strangler: table "%" is retired with flag "%", it can only be read', TG_ARGV[1], TG_ARGV[0]
        USING ERRCODE = 'MF001', DETAIL = json_build_object('flag', TG_ARGV[0], 'table', TG_ARGV[1])::text,
              HINT = format('The rows live with the extracted service. strangler retire %s --undo brings the table back.',
                            TG_ARGV[0]);
END
$$;

-- name: exists
SELECT to_regclass('strangler.retired') IS NOT NULL

-- name: record
SELECT flag, operation_id, status, step, epoch, keep_copy, dump, tables, actor, reason, retired_at
FROM strangler.retired WHERE flag = %(flag)s

-- name: begin
-- A record that was undone is begun anew; any other stays as it is.
INSERT INTO strangler.retired AS r (flag, operation_id, status, epoch, keep_copy, actor, reason)
VALUES (%(flag)s, %(operation_id)s, 'retiring', %(epoch)s, %(keep_copy)s, %(actor)s, %(reason)s)
ON CONFLICT (flag) DO UPDATE SET operation_id = excluded.operation_id, status = 'retiring', step = '',
    epoch = excluded.epoch, keep_copy = excluded.keep_copy, dump = '', tables = '{}', actor = excluded.actor,
    reason = excluded.reason, began_at = clock_timestamp(), retired_at = NULL, changed_at = clock_timestamp()
WHERE r.status = 'undone' OR (r.status = 'retiring' AND r.step IN ('', 'verify'))

-- name: forget
-- Nothing was done yet: as if it had never been asked for.
DELETE FROM strangler.retired WHERE flag = %(flag)s AND status = 'retiring' AND step IN ('', 'verify')

-- name: advance
UPDATE strangler.retired SET step = %(step)s, changed_at = clock_timestamp() WHERE flag = %(flag)s

-- name: dumped
UPDATE strangler.retired SET dump = %(dump)s, changed_at = clock_timestamp() WHERE flag = %(flag)s

-- name: set_tables
UPDATE strangler.retired SET tables = %(tables)s, changed_at = clock_timestamp() WHERE flag = %(flag)s

-- name: set_status
UPDATE strangler.retired SET status = %(status)s, changed_at = clock_timestamp(),
    retired_at = CASE WHEN %(status)s = 'retired' THEN clock_timestamp() ELSE retired_at END
WHERE flag = %(flag)s

-- name: verified_age
-- How long ago the copy here was found equal to its source; null: never, or it differed.
SELECT CASE WHEN verified THEN extract(epoch FROM clock_timestamp() - verified_at)::float8 END,
       (SELECT count(*) FROM strangler.stuck AS s WHERE s.flag = a.flag)
FROM strangler.applied AS a WHERE flag = %(flag)s AND source = %(source)s

-- name: may_create
-- May this role make views beside these tables, and a schema for what is set aside?
SELECT has_database_privilege(current_database(), 'CREATE') OR to_regnamespace('strangler_retired') IS NOT NULL,
       ARRAY(SELECT DISTINCT s FROM unnest(%(schemas)s::text[]) AS s WHERE NOT has_schema_privilege(s, 'CREATE'))

-- name: foreign_keys
-- Between a moved table and one that does not move: where, its name, its definition, may this role drop it.
SELECT n.nspname, r.relname, c.conname, pg_get_constraintdef(c.oid), pg_has_role(r.relowner, 'USAGE')
FROM pg_constraint AS c
JOIN pg_class AS r ON r.oid = c.conrelid JOIN pg_namespace AS n ON n.oid = r.relnamespace
WHERE c.contype = 'f' AND c.conparentid = 0
  AND (c.conrelid = ANY (%(tables)s::regclass[])) <> (c.confrelid = ANY (%(tables)s::regclass[]))
ORDER BY 1, 2, 3

-- name: described
-- Columns that can be copied back in, and the table's definition: `CREATE TABLE`, its constraints, its other indexes.
SELECT ARRAY(SELECT attname::text FROM pg_attribute WHERE attrelid = t.oid AND attnum > 0 AND NOT attisdropped
                AND attgenerated = '' ORDER BY attnum),
       ARRAY[format('CREATE TABLE %%I.%%I (%%s)', n.nspname, t.relname, (
             SELECT string_agg(format('%%I %%s', attname, format_type(atttypid, atttypmod)), ', ' ORDER BY attnum)
             FROM pg_attribute WHERE attrelid = t.oid AND attnum > 0 AND NOT attisdropped AND attgenerated = ''))]
       || ARRAY(SELECT format('ALTER TABLE %%I.%%I ADD CONSTRAINT %%I %%s', n.nspname, t.relname, conname,
                              pg_get_constraintdef(c.oid))
                FROM pg_constraint AS c WHERE conrelid = t.oid AND contype IN ('p', 'u', 'c')
                ORDER BY contype <> 'p', conname)
       || ARRAY(SELECT pg_get_indexdef(i.indexrelid) FROM pg_index AS i WHERE i.indrelid = t.oid
                AND NOT EXISTS (SELECT FROM pg_constraint AS c WHERE c.conindid = i.indexrelid)
                ORDER BY i.indexrelid)
FROM pg_class AS t JOIN pg_namespace AS n ON n.oid = t.relnamespace WHERE t.oid = %(table)s::regclass

-- name: copy_out
-- Every row in the order of its key, so that two readings of equal rows are equal bytes.
COPY (SELECT {columns} FROM {table} ORDER BY {key}) TO STDOUT (FORMAT csv, HEADER true, ENCODING 'UTF8')

-- name: grants
-- Who may do what with a table: its owner's rights are written out. Empty name: everybody.
SELECT CASE WHEN a.grantee = 0 THEN '' ELSE pg_get_userbyid(a.grantee) END, a.privilege_type
FROM pg_class AS c, aclexplode(coalesce(c.relacl, acldefault('r', c.relowner))) AS a
WHERE c.oid = %(table)s::regclass AND a.privilege_type IN ('SELECT', 'INSERT', 'UPDATE', 'DELETE')

-- name: taken
SELECT to_regclass(%(table)s) IS NOT NULL

-- name: drop_foreign_key
ALTER TABLE {table} DROP CONSTRAINT {constraint}

-- name: set_schema
ALTER TABLE {table} SET SCHEMA {schema}

-- name: rename
ALTER TABLE {table} RENAME TO {new_name}

-- name: count_refused
CREATE SEQUENCE {sequence}

-- name: count_reads
-- One row that the view looks at once for each statement. A materialised view, for dumps read those not.
CREATE MATERIALIZED VIEW {tripwire} AS SELECT true AS here

-- name: guard
CREATE TRIGGER strangler_retired BEFORE INSERT OR UPDATE OR DELETE OR TRUNCATE ON {table}
    FOR EACH STATEMENT EXECUTE FUNCTION strangler.refuse_retired({flag}, {label}, {sequence})

-- name: always
ALTER TABLE {table} ENABLE ALWAYS TRIGGER strangler_retired

-- name: view
CREATE VIEW {view} AS SELECT {columns} FROM {table} WHERE EXISTS (SELECT FROM {tripwire})

-- name: view_comment
COMMENT ON VIEW {view} IS {text}

-- name: drop_view
DROP VIEW IF EXISTS {view}

-- name: drop_tripwire
DROP MATERIALIZED VIEW IF EXISTS {tripwire}

-- name: drop_sequence
DROP SEQUENCE IF EXISTS {sequence}

-- name: drop_guard
DROP TRIGGER IF EXISTS strangler_retired ON {table}

-- name: drop_table
DROP TABLE IF EXISTS {table}

-- name: touched
-- Statements that read the view, statements that were refused, and whether the server was started since.
SELECT coalesce(pg_stat_get_numscans(to_regclass(%(tripwire)s)), 0),
       (SELECT coalesce(sum(last_value), 0)::bigint FROM pg_sequences
         WHERE schemaname = 'strangler_retired' AND sequencename = %(sequence)s),
       pg_postmaster_start_time() > coalesce(%(since)s::timestamptz, '-infinity')

-- name: dependants
-- Views of others that still stand on a table.
SELECT DISTINCT v.oid::regclass::text FROM pg_depend AS d
JOIN pg_rewrite AS r ON r.oid = d.objid JOIN pg_class AS v ON v.oid = r.ev_class
WHERE d.classid = 'pg_rewrite'::regclass AND d.refclassid = 'pg_class'::regclass AND d.refobjid = %(table)s::regclass
  AND v.oid <> coalesce(to_regclass(%(view)s), 0)

-- name: has_constraint
SELECT convalidated FROM pg_constraint
WHERE conrelid = to_regclass(%(table)s) AND conname = %(name)s AND contype = 'f'

-- name: forget_reported
DELETE FROM strangler.reported WHERE relation = to_regclass(%(table)s)

-- name: clock
SELECT clock_timestamp()
