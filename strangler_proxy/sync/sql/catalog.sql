-- name: relation
-- Schema, name and estimated rows of a table as this role sees it; no row where there is none.
SELECT n.nspname, c.relname, CASE WHEN c.reltuples < 0 THEN pg_relation_size(c.oid) / 100 ELSE c.reltuples::bigint END, pg_has_role(c.relowner, 'USAGE')
FROM pg_class AS c JOIN pg_namespace AS n ON n.oid = c.relnamespace
WHERE c.oid = to_regclass(%(table)s) AND c.relkind IN ('r', 'p')

-- name: columns
-- Columns in their order: name, type without and with its modifier, kind of type, nullable, length bound.
SELECT a.attname, format_type(a.atttypid, -1), format_type(a.atttypid, a.atttypmod), t.typcategory::text,
       NOT a.attnotnull, CASE WHEN a.atttypmod > 4 AND t.typname IN ('varchar', 'bpchar') THEN a.atttypmod - 4 END
FROM pg_attribute AS a JOIN pg_type AS t ON t.oid = a.atttypid
WHERE a.attrelid = %(table)s::regclass AND a.attnum > 0 AND NOT a.attisdropped
ORDER BY a.attnum

-- name: uniques
-- Unique keys on plain columns: columns in index order, and whether it is checked at once.
SELECT array_agg(a.attname::text ORDER BY k.position), i.indimmediate
FROM pg_index AS i
CROSS JOIN LATERAL unnest(i.indkey::smallint[]) WITH ORDINALITY AS k (attnum, position)
JOIN pg_attribute AS a ON a.attrelid = i.indrelid AND a.attnum = k.attnum
WHERE i.indrelid = %(table)s::regclass AND i.indisunique AND i.indisvalid AND i.indpred IS NULL
  AND 0 <> ALL (i.indkey::smallint[])
GROUP BY i.indexrelid, i.indimmediate
