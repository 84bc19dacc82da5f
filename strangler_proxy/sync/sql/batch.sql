-- name: begin
-- The lock of the target, and the marker that capture and fence know the applier by. False: another one has it.
SELECT pg_try_advisory_xact_lock(hashtextextended('strangler.sync:' || %(flag)s, 0)),
       set_config('strangler.applier', %(flag)s, true)

-- name: grant_shared
-- The target's ownership record, kept as it is until this transaction ends.
SELECT owner, epoch, open FROM strangler.ownership WHERE flag = %(flag)s FOR SHARE

-- name: grant
-- Ownership, and the clock from before this transaction's snapshot.
SELECT owner, epoch, open, now() FROM strangler.ownership WHERE flag = %(flag)s

-- name: idle
-- One look at a source that may have nothing: clock from before the snapshot, grant, whether keys are waiting.
SELECT o.owner, o.epoch, o.open, now(), EXISTS (SELECT FROM strangler.dirty AS d WHERE d.flag = o.flag)
FROM strangler.ownership AS o WHERE o.flag = %(flag)s

-- name: take_all
-- Every dirty key that this snapshot sees.
DELETE FROM strangler.dirty WHERE flag = %(flag)s RETURNING tbl, pk

-- name: take_some
-- A bounded number, by table in the given order, oldest first.
DELETE FROM strangler.dirty WHERE flag = %(flag)s AND id IN (
    SELECT id FROM strangler.dirty WHERE flag = %(flag)s
    ORDER BY array_position(%(tables)s::text[], tbl), id LIMIT %(limit)s
) RETURNING tbl, pk

-- name: backlog
-- Dirty keys (counted up to a bound) and the age of the oldest one.
SELECT count(*), coalesce(max(extract(epoch FROM clock_timestamp() - at)), 0)::float8
FROM (SELECT at FROM strangler.dirty WHERE flag = %(flag)s ORDER BY id LIMIT 100000) AS waiting

-- name: mark_dirty
-- Keys to be carried over once more.
INSERT INTO strangler.dirty (flag, tbl, pk)
SELECT %(flag)s, %(tbl)s, ARRAY(SELECT jsonb_array_elements_text(k)) FROM jsonb_array_elements(%(keys)s::jsonb) AS k

-- name: applied
-- The stream into this database, if it is the one from that source.
SELECT mode, verified_at, verified, mismatches FROM strangler.applied WHERE flag = %(flag)s AND source = %(source)s

-- name: set_applied
INSERT INTO strangler.applied AS a (flag, source, mode, verified_at, verified, mismatches)
VALUES (%(flag)s, %(source)s, %(mode)s, CASE WHEN %(verified_now)s THEN clock_timestamp() END, %(verified)s, %(mismatches)s)
ON CONFLICT (flag) DO UPDATE SET
    source = excluded.source, mode = excluded.mode, verified = excluded.verified, mismatches = excluded.mismatches,
    verified_at = CASE WHEN a.source = excluded.source THEN coalesce(excluded.verified_at, a.verified_at)
                       ELSE excluded.verified_at END,
    changed_at = clock_timestamp()
RETURNING verified_at, verify_asked_at

-- name: ask_verification
-- A whole pass from now on; the stream reads it with its next batch. No row: there is no stream into this database.
UPDATE strangler.applied SET verify_asked_at = clock_timestamp() WHERE flag = %(flag)s RETURNING verify_asked_at

-- name: replicated
-- The copy is complete up to this time of the source's clock.
UPDATE strangler.ownership SET replicated_through = %(through)s, changed_at = clock_timestamp() WHERE flag = %(flag)s

-- name: progress
SELECT tbl, after_key, done, rows_done, rows_estimated FROM strangler.progress
WHERE flag = %(flag)s AND source = %(source)s

-- name: begin_progress
-- A snapshot that begins anew; what another direction left is replaced.
INSERT INTO strangler.progress (flag, tbl, source, rows_estimated)
VALUES (%(flag)s, %(tbl)s, %(source)s, %(estimated)s)
ON CONFLICT (flag, tbl) DO UPDATE SET source = excluded.source, after_key = NULL, done = false, rows_done = 0,
    rows_estimated = excluded.rows_estimated

-- name: advance
UPDATE strangler.progress SET after_key = %(after_key)s, done = %(done)s, rows_done = rows_done + %(rows)s
WHERE flag = %(flag)s AND tbl = %(tbl)s

-- name: stuck
SELECT tbl, pk FROM strangler.stuck WHERE flag = %(flag)s ORDER BY since LIMIT 1000

-- name: stick
INSERT INTO strangler.stuck AS s (flag, tbl, pk, error) VALUES (%(flag)s, %(tbl)s, %(pk)s, %(error)s)
ON CONFLICT (flag, tbl, pk) DO UPDATE SET error = excluded.error, tries = s.tries + 1

-- name: unstick
DELETE FROM strangler.stuck WHERE flag = %(flag)s AND tbl = %(tbl)s AND pk = %(pk)s

-- name: target_clock
SELECT clock_timestamp()
