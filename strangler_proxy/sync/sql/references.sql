-- name: function
-- After rows were deleted that other rows name. The names of an application's own tables are looked up as it runs: where
-- one is gone or has another name by now, deleting must go on, and the stream's watch tells of it.
CREATE OR REPLACE FUNCTION strangler.{function}() RETURNS trigger
LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $reference$
BEGIN
    {does}
    RETURN NULL;
END
$reference$

-- name: refuse
    BEGIN
        IF EXISTS (SELECT FROM gone_rows AS g JOIN {table} AS r ON r.{column} = g.{named}) THEN
            RAISE EXCEPTION 'strangler: rows of % are still named by %', {named_table}, {reference}
                USING ERRCODE = 'foreign_key_violation', TABLE = {named_table},
                      HINT = 'The reference is declared with on_delete = "refuse".';
        END IF;
    EXCEPTION WHEN undefined_table OR undefined_column OR undefined_function THEN
        RAISE WARNING 'strangler: % cannot be looked at: %', {reference}, SQLERRM;
    END;

-- name: tombstone
    INSERT INTO strangler.gone (flag, tbl, col, value)
    SELECT {flag}, {named_table}, {named_column}, g.{named}::text FROM gone_rows AS g WHERE g.{named} IS NOT NULL
    ON CONFLICT (flag, tbl, col, value) DO UPDATE SET at = clock_timestamp(), carried = false;

-- name: event
    INSERT INTO {outbox} (id, event, data)
    SELECT gen_random_uuid(), {event},
           jsonb_build_object('table', {named_table}::text, 'column', {named_column}::text, 'value', g.{named}::text)
    FROM gone_rows AS g WHERE g.{named} IS NOT NULL;

-- name: try
-- Whether the two columns can be compared, which the function finds out too late.
SELECT FROM {named_table} AS g JOIN {table} AS r ON r.{column} = g.{named} LIMIT 0

-- name: trigger
CREATE TRIGGER {trigger} AFTER DELETE ON {named_table}
    REFERENCING OLD TABLE AS gone_rows
    FOR EACH STATEMENT EXECUTE FUNCTION strangler.{function}()

-- name: always
ALTER TABLE {named_table} ENABLE ALWAYS TRIGGER {trigger}

-- name: installed
-- Functions of a flag's references, and the tables that have a trigger of theirs.
SELECT p.proname, t.tgname, n.nspname, c.relname
FROM pg_proc AS p
JOIN pg_trigger AS t ON t.tgfoid = p.oid
JOIN pg_class AS c ON c.oid = t.tgrelid
JOIN pg_namespace AS n ON n.oid = c.relnamespace
WHERE p.pronamespace = 'strangler'::regnamespace AND p.proname LIKE %(pattern)s AND NOT t.tgisinternal

-- name: drop
DROP TRIGGER IF EXISTS {trigger} ON {named_table}

-- name: drop_function
DROP FUNCTION IF EXISTS strangler.{function}()

-- name: foreign_key
-- A foreign key of just these columns, and whether it forbids deleting ('a' no action, 'r' restrict).
SELECT k.conname, k.confdeltype IN ('a', 'r')
FROM pg_constraint AS k
JOIN pg_attribute AS here ON here.attrelid = k.conrelid AND here.attnum = k.conkey[1]
JOIN pg_attribute AS there ON there.attrelid = k.confrelid AND there.attnum = k.confkey[1]
WHERE k.contype = 'f' AND cardinality(k.conkey) = 1 AND k.conrelid = to_regclass(%(table)s)
  AND k.confrelid = to_regclass(%(named_table)s) AND here.attname = %(column)s AND there.attname = %(named)s

-- name: place
-- Where a table is, whether it has the column, and whether this role may do as its owner does, and write.
SELECT n.nspname, c.relname, a.attname IS NOT NULL, pg_has_role(c.relowner, 'USAGE'), pg_get_userbyid(c.relowner),
       has_table_privilege(c.oid, 'INSERT'), current_user
FROM pg_class AS c
JOIN pg_namespace AS n ON n.oid = c.relnamespace
LEFT JOIN pg_attribute AS a ON a.attrelid = c.oid AND a.attname = %(column)s AND NOT a.attisdropped
WHERE c.oid = to_regclass(%(table)s)

-- name: waiting
SELECT tbl, col, value, at FROM strangler.gone WHERE flag = %(flag)s AND NOT carried ORDER BY at LIMIT 1000

-- name: take
INSERT INTO strangler.gone (flag, tbl, col, value, at, carried) VALUES (%(flag)s, %(tbl)s, %(col)s, %(value)s, %(at)s, true)
ON CONFLICT (flag, tbl, col, value) DO UPDATE SET at = greatest(strangler.gone.at, excluded.at)

-- name: carried
UPDATE strangler.gone SET carried = true
WHERE flag = %(flag)s AND tbl = %(tbl)s AND col = %(col)s AND value = %(value)s AND at = %(at)s
