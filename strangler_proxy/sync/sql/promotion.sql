-- name: lock
-- Wait for a batch of the applier that is under way.
SELECT pg_advisory_xact_lock(hashtextextended('strangler.sync:' || %(flag)s, 0))

-- name: grant
SELECT epoch, open FROM strangler.ownership WHERE flag = %(flag)s FOR UPDATE

-- name: open
UPDATE strangler.ownership
SET open = true, owner = %(owner)s, epoch = %(epoch)s, replicated_through = NULL, changed_at = clock_timestamp()
WHERE flag = %(flag)s

-- name: leave_gap
SELECT setval(%(sequence)s::regclass, %(last)s::bigint, true)

-- name: close
-- The owner that was lost is back, with an older grant than the other side's.
UPDATE strangler.ownership
SET open = false, owner = %(owner)s, epoch = %(epoch)s, replicated_through = NULL, changed_at = clock_timestamp()
WHERE flag = %(flag)s AND open AND epoch < %(epoch)s

-- name: keep
-- The rows behind the dirty keys of one table, as they are here; null: the row was deleted.
INSERT INTO strangler.unreplicated (flag, tbl, pk, at, row_here)
SELECT d.flag, d.tbl, d.pk, max(d.at), (
    SELECT to_jsonb(t) FROM {table} AS t
    WHERE ARRAY(SELECT to_jsonb(t) ->> k FROM jsonb_array_elements_text(%(keys)s) AS k) = d.pk)
FROM strangler.dirty AS d WHERE d.flag = %(flag)s AND d.tbl = %(tbl)s GROUP BY d.flag, d.tbl, d.pk

-- name: forget_dirty
DELETE FROM strangler.dirty WHERE flag = %(flag)s

-- name: forget_progress
DELETE FROM strangler.progress WHERE flag = %(flag)s

-- name: forget_applied
DELETE FROM strangler.applied WHERE flag = %(flag)s

-- name: forget_touched
DELETE FROM strangler.touched WHERE flag = %(flag)s

-- name: forget_stuck
DELETE FROM strangler.stuck WHERE flag = %(flag)s
