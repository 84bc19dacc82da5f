-- name: wanted
-- Flags whose stream should run.
SELECT flag FROM strangler.stream WHERE wanted ORDER BY flag

-- name: want
-- Start or stop for good. No row: there is no such flag.
INSERT INTO strangler.stream (flag, wanted) SELECT key, %(wanted)s FROM strangler.flag WHERE key = %(flag)s
ON CONFLICT (flag) DO UPDATE SET wanted = excluded.wanted RETURNING flag

-- name: publish
-- Replace the status. No row: there is no such flag.
INSERT INTO strangler.stream (flag, status, published_at)
SELECT key, %(status)s, clock_timestamp() FROM strangler.flag WHERE key = %(flag)s
ON CONFLICT (flag) DO UPDATE SET status = excluded.status, published_at = excluded.published_at RETURNING flag

-- name: status
-- The last published status.
SELECT status, published_at FROM strangler.stream WHERE flag = %(flag)s AND status IS NOT NULL

-- name: lease
-- Take or renew, unless another worker holds it.
INSERT INTO strangler.lease (name, worker, until)
VALUES (%(name)s, %(worker)s, clock_timestamp() + make_interval(secs => %(seconds)s))
ON CONFLICT (name) DO UPDATE SET worker = excluded.worker, until = excluded.until
WHERE lease.worker = excluded.worker OR lease.until < clock_timestamp()
RETURNING name
