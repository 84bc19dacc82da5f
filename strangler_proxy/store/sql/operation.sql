-- name: open
-- Operations that are not over, of one flag and kind.
SELECT id FROM strangler.operation WHERE flag = %(flag)s AND kind = %(kind)s AND status IN ('queued', 'running')

-- name: request
-- A new operation.
INSERT INTO strangler.operation (kind, flag, args, actor, reason)
VALUES (%(kind)s, %(flag)s, %(args)s, %(actor)s, %(reason)s)
RETURNING id, kind, flag, args, actor, reason, status, detail, requested_at, finished_at

-- name: claim
-- The oldest that waits, or whose worker let the lease run out. A lease that ends later than any can (this clock was
-- set back) is over as well.
UPDATE strangler.operation SET status = 'running', worker = %(worker)s,
    lease_until = clock_timestamp() + make_interval(secs => %(lease_s)s)
WHERE id = (
    SELECT id FROM strangler.operation
    WHERE status = 'queued' OR (status = 'running' AND (lease_until < clock_timestamp()
        OR lease_until > clock_timestamp() + make_interval(secs => greatest(60, 10 * %(lease_s)s))))
    ORDER BY id LIMIT 1 FOR UPDATE SKIP LOCKED
)
RETURNING id, kind, flag, args, actor, reason, status, detail, requested_at, finished_at

-- name: one
-- Of that number.
SELECT id, kind, flag, args, actor, reason, status, detail, requested_at, finished_at FROM strangler.operation
WHERE id = %(id)s

-- name: withdraw
-- Only while nobody has taken it.
UPDATE strangler.operation SET status = 'aborted', detail = %(detail)s, finished_at = clock_timestamp()
WHERE id = %(id)s AND status = 'queued'
RETURNING id, kind, flag, args, actor, reason, status, detail, requested_at, finished_at

-- name: renew
-- Longer, unless another worker has taken it.
UPDATE strangler.operation SET lease_until = clock_timestamp() + make_interval(secs => %(lease_s)s)
WHERE id = %(id)s AND worker = %(worker)s AND status = 'running' RETURNING id

-- name: step
-- One more step, by the worker that has it.
INSERT INTO strangler.operation_step (operation_id, number, name, detail)
SELECT id, 1 + (SELECT count(*) FROM strangler.operation_step WHERE operation_id = %(id)s), %(name)s, %(detail)s
FROM (
    SELECT id FROM strangler.operation WHERE id = %(id)s AND worker = %(worker)s AND status = 'running' FOR UPDATE
) AS mine

-- name: finish
-- The end, by the worker that has it.
UPDATE strangler.operation SET status = %(status)s, detail = %(detail)s, finished_at = clock_timestamp(),
    lease_until = NULL
WHERE id = %(id)s AND worker = %(worker)s AND status = 'running'

-- name: list
-- Newest first, of one flag or of all.
SELECT id, kind, flag, args, actor, reason, status, detail, requested_at, finished_at FROM strangler.operation
WHERE %(flag)s::text IS NULL OR flag = %(flag)s ORDER BY id DESC LIMIT %(limit)s

-- name: steps
-- Steps of some operations, in order.
SELECT operation_id, name, detail, at FROM strangler.operation_step WHERE operation_id = ANY(%(ids)s)
ORDER BY operation_id, number
