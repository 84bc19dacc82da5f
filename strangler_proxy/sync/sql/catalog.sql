-- name: relation
-- A relation as this role sees it; no row where there is none. Rows are estimated by density, as the planner does. Of a
-- table of some pages nobody knows how long a row is.
SELECT n.nspname, c.relname, s.rows, pg_has_role(c.relowner, 'USAGE'), c.relkind::text, c.relispartition,
       EXISTS (SELECT FROM pg_inherits AS i WHERE c.oid IN (i.inhparent, i.inhrelid)), row_security_active(c.oid),
       CASE WHEN c.relkind = 'r' AND pg_table_size(c.oid) > 65536 THEN pg_table_size(c.oid) / greatest(s.rows, 1) ELSE 0 END
FROM pg_class AS c JOIN pg_namespace AS n ON n.oid = c.relnamespace
CROSS JOIN LATERAL (
    SELECT CASE WHEN c.relkind <> 'r' THEN 0
                WHEN c.reltuples <= 0 OR c.relpages = 0 THEN pg_relation_size(c.oid) / 100
                ELSE (c.reltuples / c.relpages * (pg_relation_size(c.oid) / current_setting('block_size')::int))::bigint
           END AS rows
) AS s
WHERE c.oid = to_regclass(%(table)s)

-- name: columns
-- Columns in their order: name, type without modifier, the type beneath domains, nullable, length bound, whether it is
-- generated, kind of identity, collation, and what the order of texts depends on (null: that is not known).
WITH RECURSIVE beneath AS (
    SELECT a.attnum, a.atttypid AS oid FROM pg_attribute AS a
    WHERE a.attrelid = to_regclass(%(table)s) AND a.attnum > 0 AND NOT a.attisdropped
    UNION ALL
    SELECT b.attnum, t.typbasetype FROM beneath AS b JOIN pg_type AS t ON t.oid = b.oid WHERE t.typtype = 'd'
)
SELECT a.attname, format_type(a.atttypid, -1), format_type(b.oid, -1), NOT a.attnotnull,
       CASE WHEN a.atttypmod > 4 AND t.typname IN ('varchar', 'bpchar') THEN a.atttypmod - 4 END,
       a.attgenerated <> '', a.attidentity::text, cn.nspname, co.collname,
       CASE
           WHEN o.provider IN ('c', 'b') AND o.locale IN ('C', 'POSIX') OR o.provider = 'b' AND o.locale = 'C.UTF-8' THEN 'C'
           WHEN co.collisdeterministic THEN o.provider || ' ' || o.locale || ' ' || o.version || ' ' || o.rules
       END
FROM pg_attribute AS a
JOIN beneath AS b ON b.attnum = a.attnum
JOIN pg_type AS t ON t.oid = b.oid AND t.typtype <> 'd'
LEFT JOIN pg_collation AS co ON co.oid = a.attcollation
LEFT JOIN pg_namespace AS cn ON cn.oid = co.collnamespace
-- Through jsonb: what older versions do not have is null.
CROSS JOIN (SELECT to_jsonb(d) AS j FROM pg_database AS d WHERE d.datname = current_database()) AS d
CROSS JOIN LATERAL (SELECT to_jsonb(co) AS j) AS own
CROSS JOIN LATERAL (
    SELECT coalesce(d.j ->> 'datlocprovider', 'c') AS provider,
           CASE coalesce(d.j ->> 'datlocprovider', 'c') WHEN 'c' THEN d.j ->> 'datcollate'
                ELSE coalesce(d.j ->> 'datlocale', d.j ->> 'daticulocale') END AS locale,
           d.j ->> 'datcollversion' AS version, coalesce(d.j ->> 'daticurules', '') AS rules
    WHERE co.collprovider = 'd'
    UNION ALL
    SELECT co.collprovider::text,
           CASE co.collprovider WHEN 'c' THEN co.collcollate
                ELSE coalesce(own.j ->> 'colllocale', own.j ->> 'colliculocale', own.j ->> 'collcollate') END,
           pg_collation_actual_version(co.oid), coalesce(own.j ->> 'collicurules', '')
    WHERE co.collprovider IS DISTINCT FROM 'd'
) AS o
WHERE a.attrelid = to_regclass(%(table)s) AND a.attnum > 0 AND NOT a.attisdropped
ORDER BY a.attnum

-- name: uniques
-- Unique keys on plain columns: columns in index order, and whether it is checked at once.
SELECT array_agg(a.attname::text ORDER BY k.position), i.indimmediate
FROM pg_index AS i
CROSS JOIN LATERAL unnest(i.indkey::smallint[]) WITH ORDINALITY AS k (attnum, position)
JOIN pg_attribute AS a ON a.attrelid = i.indrelid AND a.attnum = k.attnum
WHERE i.indrelid = to_regclass(%(table)s) AND i.indisunique AND i.indisvalid AND i.indpred IS NULL
  AND 0 <> ALL (i.indkey::smallint[]) AND k.position <= i.indnkeyatts
GROUP BY i.indexrelid, i.indimmediate

-- name: exclusive
-- Columns whose values one row may keep from another: of unique indexes, also partial ones and on expressions, and of
-- exclusion constraints.
SELECT DISTINCT a.attname::text
FROM pg_index AS i
LEFT JOIN pg_constraint AS o ON o.conindid = i.indexrelid AND o.contype IN ('p', 'u', 'x')
JOIN pg_depend AS d ON d.refclassid = 'pg_class'::regclass AND d.refobjid = i.indrelid AND d.refobjsubid > 0
    AND (d.classid = 'pg_class'::regclass AND d.objid = i.indexrelid
         OR d.classid = 'pg_constraint'::regclass AND d.objid = o.oid)
JOIN pg_attribute AS a ON a.attrelid = i.indrelid AND a.attnum = d.refobjsubid
WHERE i.indrelid = to_regclass(%(table)s) AND i.indisvalid AND (i.indisunique OR i.indisexclusion)
