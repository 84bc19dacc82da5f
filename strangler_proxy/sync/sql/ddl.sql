-- name: path
-- Names are printed with their schema.
SET LOCAL search_path = pg_catalog

-- name: columns
-- Columns in their order: name, type, NOT NULL, identity, generated, default or expression, whether that needs nothing of
-- this database, whether a sequence of its own feeds it, its collation if it is not the type's, columns of the expression.
SELECT a.attname, format_type(a.atttypid, a.atttypmod), a.attnotnull, a.attidentity <> '', a.attgenerated::text,
       pg_get_expr(ad.adbin, ad.adrelid),
       NOT EXISTS (SELECT FROM pg_depend AS d WHERE d.classid = 'pg_attrdef'::regclass AND d.objid = ad.oid
                   AND (d.refclassid = 'pg_proc'::regclass OR d.refclassid = 'pg_class'::regclass AND d.refobjid <> a.attrelid)),
       pg_get_serial_sequence(%(table)s, a.attname) IS NOT NULL,
       CASE WHEN a.attcollation <> t.typcollation THEN quote_ident(cn.nspname) || '.' || quote_ident(co.collname) END,
       ARRAY(SELECT o.attname::text FROM pg_depend AS d JOIN pg_attribute AS o ON o.attrelid = d.refobjid AND o.attnum = d.refobjsubid
             WHERE d.classid = 'pg_attrdef'::regclass AND d.objid = ad.oid AND d.refobjid = a.attrelid
               AND o.attnum <> a.attnum)
FROM pg_attribute AS a
JOIN pg_type AS t ON t.oid = a.atttypid
LEFT JOIN pg_attrdef AS ad ON ad.adrelid = a.attrelid AND ad.adnum = a.attnum
LEFT JOIN pg_collation AS co ON co.oid = a.attcollation
LEFT JOIN pg_namespace AS cn ON cn.oid = co.collnamespace
WHERE a.attrelid = %(table)s::regclass AND a.attnum > 0 AND NOT a.attisdropped
ORDER BY a.attnum

-- name: constraints
-- Keys, checks and exclusions: name, kind, columns, definition.
SELECT c.conname, c.contype::text,
       ARRAY(SELECT a.attname::text FROM unnest(c.conkey) WITH ORDINALITY AS k (attnum, position)
             JOIN pg_attribute AS a ON a.attrelid = c.conrelid AND a.attnum = k.attnum ORDER BY k.position),
       pg_get_constraintdef(c.oid)
FROM pg_constraint AS c
WHERE c.conrelid = %(table)s::regclass AND c.contype IN ('p', 'u', 'c', 'x')
ORDER BY array_position(ARRAY['p', 'u', 'x', 'c']::text[], c.contype::text), c.conname

-- name: indexes
-- Indexes that no constraint made: name, columns, definition.
SELECT x.relname,
       ARRAY(SELECT DISTINCT a.attname::text FROM pg_depend AS d
             JOIN pg_attribute AS a ON a.attrelid = d.refobjid AND a.attnum = d.refobjsubid
             WHERE d.classid = 'pg_class'::regclass AND d.objid = i.indexrelid AND d.refobjid = i.indrelid),
       pg_get_indexdef(i.indexrelid)
FROM pg_index AS i JOIN pg_class AS x ON x.oid = i.indexrelid
WHERE i.indrelid = %(table)s::regclass AND i.indisvalid
  AND NOT EXISTS (SELECT FROM pg_constraint AS c WHERE c.conindid = i.indexrelid AND c.contype IN ('p', 'u', 'x'))
ORDER BY x.relname

-- name: foreign_keys
-- Name, columns, the other table's schema and name, its columns, actions on delete and update.
SELECT c.conname,
       ARRAY(SELECT a.attname::text FROM unnest(c.conkey) WITH ORDINALITY AS k (attnum, position)
             JOIN pg_attribute AS a ON a.attrelid = c.conrelid AND a.attnum = k.attnum ORDER BY k.position),
       n.nspname, f.relname,
       ARRAY(SELECT a.attname::text FROM unnest(c.confkey) WITH ORDINALITY AS k (attnum, position)
             JOIN pg_attribute AS a ON a.attrelid = c.confrelid AND a.attnum = k.attnum ORDER BY k.position),
       c.confdeltype::text, c.confupdtype::text
FROM pg_constraint AS c JOIN pg_class AS f ON f.oid = c.confrelid JOIN pg_namespace AS n ON n.oid = f.relnamespace
WHERE c.conrelid = %(table)s::regclass AND c.contype = 'f'
ORDER BY c.conname

-- name: triggers
-- Triggers of others than the toolkit.
SELECT tgname FROM pg_trigger
WHERE tgrelid = %(table)s::regclass AND NOT tgisinternal AND tgname NOT LIKE 'strangler\_%%' ORDER BY tgname

-- name: types
-- What the moved columns' types need: kind, name with its schema, schema, extension, labels of an enum, and of a domain the
-- type beneath it, NOT NULL, default, checks. What others need comes first.
WITH RECURSIVE used AS (
    SELECT a.atttypid AS oid, 0 AS depth FROM pg_attribute AS a
    JOIN unnest(%(tables)s::text[], %(columns)s::text[]) AS m (tbl, col)
      ON a.attrelid = m.tbl::regclass AND a.attname = m.col
    UNION
    SELECT n.oid, u.depth + 1 FROM used AS u JOIN pg_type AS t ON t.oid = u.oid
    CROSS JOIN LATERAL (VALUES (t.typelem), (t.typbasetype)) AS n (oid) WHERE n.oid <> 0 AND u.depth < 20
)
SELECT t.typtype::text, format_type(t.oid, NULL), quote_ident(n.nspname), quote_ident(e.extname),
       ARRAY(SELECT l.enumlabel::text FROM pg_enum AS l WHERE l.enumtypid = t.oid ORDER BY l.enumsortorder),
       CASE WHEN t.typtype = 'd' THEN format_type(t.typbasetype, t.typtypmod) END, t.typnotnull, t.typdefault,
       ARRAY(SELECT pg_get_constraintdef(c.oid) FROM pg_constraint AS c
             WHERE c.contypid = t.oid AND c.contype = 'c' ORDER BY c.conname)
FROM (SELECT oid, max(depth) AS depth FROM used GROUP BY oid) AS u
JOIN pg_type AS t ON t.oid = u.oid JOIN pg_namespace AS n ON n.oid = t.typnamespace
LEFT JOIN pg_depend AS d ON d.classid = 'pg_type'::regclass AND d.objid = t.oid AND d.deptype = 'e'
    AND d.refclassid = 'pg_extension'::regclass
LEFT JOIN pg_extension AS e ON e.oid = d.refobjid
WHERE n.nspname <> 'pg_catalog' AND t.typcategory <> 'A'
ORDER BY u.depth DESC, 2
