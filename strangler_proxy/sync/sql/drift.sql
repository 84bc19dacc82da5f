-- name: fingerprint
-- Everything in the catalog that a stream depends on, as one text that changes with any of it.
WITH moved AS (SELECT name, to_regclass(name)::oid AS id FROM unnest(%(tables)s::text[]) AS name)
SELECT md5(string_agg(line, chr(10) ORDER BY line))
FROM (
    SELECT concat_ws(' ', 'table', m.name, m.id, pg_has_role(c.relowner, 'USAGE')) AS line
    FROM moved AS m LEFT JOIN pg_class AS c ON c.oid = m.id
    UNION ALL
    SELECT concat_ws(' ', 'column', a.attrelid, a.attname, a.atttypid, a.atttypmod, a.attnotnull, a.atthasdef,
                     a.attidentity, a.attgenerated)
    FROM pg_attribute AS a JOIN moved AS m ON m.id = a.attrelid WHERE a.attnum > 0 AND NOT a.attisdropped
    UNION ALL
    SELECT concat_ws(' ', 'index', i.indrelid, i.indkey, i.indisunique, i.indimmediate, i.indisvalid, i.indpred IS NULL)
    FROM pg_index AS i JOIN moved AS m ON m.id = i.indrelid
    UNION ALL
    SELECT concat_ws(' ', 'trigger', g.tgrelid, g.tgname, g.tgenabled)
    FROM pg_trigger AS g JOIN moved AS m ON m.id = g.tgrelid WHERE g.tgname = ANY (%(triggers)s::text[])
) AS lines

-- name: triggers
-- In one statement, so of one moment: whether the side is open, and the toolkit's triggers of each table with their
-- state and whether they see an UPDATE.
SELECT t.name, o.open, g.tgname, g.tgenabled::text, g.tgtype & 16 <> 0
FROM strangler.ownership AS o
CROSS JOIN unnest(%(tables)s::text[]) AS t (name)
LEFT JOIN pg_trigger AS g ON g.tgrelid = to_regclass(t.name) AND g.tgname LIKE 'strangler\_%%'
WHERE o.flag = %(flag)s

-- name: shape
-- Columns with their types (texts without their length), and whether a row cannot be inserted without naming one.
SELECT a.attname,
       CASE WHEN t.typname IN ('varchar', 'bpchar') THEN format_type(a.atttypid, -1)
            ELSE format_type(a.atttypid, a.atttypmod) END,
       a.attnotnull AND NOT a.atthasdef AND a.attidentity = '' AND a.attgenerated = '' AND NOT EXISTS (
           SELECT FROM pg_trigger AS g
           WHERE g.tgrelid = a.attrelid AND NOT g.tgisinternal AND g.tgenabled <> 'D' AND g.tgtype & 7 = 7)
FROM pg_attribute AS a JOIN pg_type AS t ON t.oid = a.atttypid
WHERE a.attrelid = %(table)s::regclass AND a.attnum > 0 AND NOT a.attisdropped
ORDER BY a.attnum

-- name: noted
-- What was noted of a table when capture was put beside it; no row: there is no capture.
SELECT obj_description(oid, 'pg_trigger') FROM pg_trigger
WHERE tgrelid = %(table)s::regclass AND tgname = 'strangler_capture_insert'

-- name: doubt
-- What the copy holds is to be looked at again, all of it, before anybody relies on it.
UPDATE strangler.applied SET verified = NULL, verified_at = NULL, verify_asked_at = clock_timestamp()
WHERE flag = %(flag)s
