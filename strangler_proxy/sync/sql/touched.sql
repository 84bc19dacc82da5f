-- name: touch
INSERT INTO strangler.touched (flag, tbl, pk)
SELECT %(flag)s, %(tbl)s, ARRAY(SELECT jsonb_array_elements_text(k)) FROM jsonb_array_elements(%(keys)s::jsonb) AS k
ON CONFLICT (flag, tbl, pk) DO UPDATE SET at = clock_timestamp()

-- name: untouch
-- What was applied before a complete verification began was part of it.
DELETE FROM strangler.touched WHERE flag = %(flag)s AND at < %(before)s

-- name: all
SELECT tbl, pk FROM strangler.touched WHERE flag = %(flag)s

-- name: oldest
SELECT tbl, pk FROM strangler.touched WHERE flag = %(flag)s ORDER BY at LIMIT %(limit)s

-- name: forget
DELETE FROM strangler.touched AS t
USING (SELECT ARRAY(SELECT jsonb_array_elements_text(k)) AS pk FROM jsonb_array_elements(%(keys)s::jsonb) AS k) AS equal
WHERE t.flag = %(flag)s AND t.tbl = %(tbl)s AND t.pk = equal.pk
