-- name: intent
-- The record, in the database of the current owner: only if that owner is open at the epoch that was seen. One per
-- flag (partial unique index).
INSERT INTO strangler.cutover
    (id, operation_id, flag, source, target, epoch, status, deadline_at, stage, weight, actor, reason)
SELECT %(id)s, %(operation_id)s, flag, %(source)s, %(target)s, epoch + 1, 'holding',
       clock_timestamp() + make_interval(secs => %(deadline_s)s), %(stage)s, %(weight)s, %(actor)s, %(reason)s
FROM strangler.ownership
WHERE flag = %(flag)s AND open
ON CONFLICT (flag) WHERE status IN ('holding', 'committed') DO NOTHING
RETURNING epoch, deadline_at

-- name: hold_record
-- Inside the fence's transaction: the record, locked and still holding, in time. No row: it was aborted.
SELECT epoch FROM strangler.cutover
WHERE id = %(id)s AND status = 'holding' AND deadline_at > clock_timestamp()
FOR UPDATE

-- name: close_source
UPDATE strangler.ownership SET open = false, epoch = %(epoch)s, changed_at = clock_timestamp()
WHERE flag = %(flag)s AND open AND epoch = %(epoch)s - 1

-- name: caught_up
SELECT NOT EXISTS (SELECT FROM strangler.dirty WHERE flag = %(flag)s)

-- name: wake
-- The applier listens; it need not wait for its next poll.
SELECT pg_notify('strangler_dirty', %(word)s)

-- name: decide
-- The decision: one row, or somebody aborted it, or its time is over.
UPDATE strangler.cutover SET status = 'committed', decided_at = clock_timestamp()
WHERE id = %(id)s AND status = 'holding' AND deadline_at > clock_timestamp()

-- name: hand_over
-- With the decision: the last owner known here is the other side.
UPDATE strangler.ownership SET owner = %(target)s, replicated_through = NULL, changed_at = clock_timestamp()
WHERE flag = %(flag)s AND epoch = %(epoch)s AND NOT open

-- name: reverse_progress
-- With the decision: this database is equal now, so the stream into it begins with nothing to copy.
INSERT INTO strangler.progress (flag, tbl, source, done, rows_done, rows_estimated)
VALUES (%(flag)s, %(tbl)s, %(target)s, true, %(rows)s, %(rows)s)
ON CONFLICT (flag, tbl) DO UPDATE SET source = excluded.source, done = true, rows_done = excluded.rows_done,
    rows_estimated = excluded.rows_estimated, after_key = NULL

-- name: reverse_applied
-- With the decision: and it was verified just now.
INSERT INTO strangler.applied (flag, source, mode, verified, verified_at)
VALUES (%(flag)s, %(target)s, 'catch-up', true, clock_timestamp())
ON CONFLICT (flag) DO UPDATE SET source = excluded.source, mode = excluded.mode, verified = true,
    verified_at = excluded.verified_at, mismatches = 0, changed_at = clock_timestamp()

-- name: open_target
-- Idempotent: an epoch that is there, or a later one, stays.
UPDATE strangler.ownership
SET open = true, owner = %(target)s, epoch = %(epoch)s, replicated_through = NULL, changed_at = clock_timestamp()
WHERE flag = %(flag)s AND epoch < %(epoch)s

-- name: abort
-- Compare-and-set; no row: it was decided or aborted already.
UPDATE strangler.cutover SET status = 'aborted', detail = %(detail)s, ended_at = clock_timestamp()
WHERE id = %(id)s AND status = 'holding'
RETURNING epoch

-- name: reopen
-- With the abort: past the epoch that was intended, so that a coordinator that was paused cannot fence any more.
UPDATE strangler.ownership SET open = true, owner = %(source)s, epoch = %(epoch)s + 1, changed_at = clock_timestamp()
WHERE flag = %(flag)s AND epoch <= %(epoch)s

-- name: finish
UPDATE strangler.cutover SET status = 'done', ended_at = clock_timestamp() WHERE id = %(id)s AND status = 'committed'

-- name: open_records
-- Records that are not over, and what their time says: past the deadline, or decided some time ago.
SELECT id, operation_id, flag, source, target, epoch, status, deadline_at, stage, weight, actor, reason,
       clock_timestamp() > deadline_at, coalesce(clock_timestamp() > decided_at + interval '1 second', false)
FROM strangler.cutover WHERE flag = %(flag)s AND status IN ('holding', 'committed')

-- name: record_of_operation
SELECT id, operation_id, flag, source, target, epoch, status, deadline_at, stage, weight, actor, reason,
       clock_timestamp() > deadline_at, coalesce(clock_timestamp() > decided_at + interval '1 second', false)
FROM strangler.cutover WHERE operation_id = %(operation_id)s AND flag = %(flag)s ORDER BY began_at DESC LIMIT 1

-- name: status_of
SELECT status FROM strangler.cutover WHERE id = %(id)s

-- name: sequence_past
-- The target's sequence is set past the source's last value, never back.
SELECT setval(%(sequence)s::regclass, greatest(%(last)s::bigint, s.last_value), true) FROM {sequence} AS s

-- name: sequence_of
SELECT pg_get_serial_sequence(%(table)s, %(column)s)

-- name: last_value
SELECT CASE WHEN is_called THEN last_value ELSE last_value - 1 END FROM {sequence}

-- name: lock_table
-- As ALTER TABLE ... ENABLE TRIGGER locks it: waits for the transactions that write, and stops every later one.
LOCK TABLE {table} IN SHARE ROW EXCLUSIVE MODE
