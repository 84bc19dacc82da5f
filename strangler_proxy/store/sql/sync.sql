-- name: wanted
-- Flags whose stream should run.
SELECT flag FROM strangler.stream WHERE wanted ORDER BY flag

-- name: want
-- Start or stop for good; a stream that is stopped is not paused any more. No row: there is no such flag.
INSERT INTO strangler.stream (flag, wanted) SELECT key, %(wanted)s FROM strangler.flag WHERE key = %(flag)s
ON CONFLICT (flag) DO UPDATE SET wanted = excluded.wanted,
    paused_at = CASE WHEN excluded.wanted THEN stream.paused_at END
RETURNING flag

-- name: paused
-- Streams that are paused, with what is known of it.
SELECT flag, paused_at, paused_by, paused_why, paused_drift FROM strangler.stream WHERE paused_at IS NOT NULL

-- name: pause
INSERT INTO strangler.stream (flag, paused_at, paused_by, paused_why, paused_drift)
VALUES (%(flag)s, %(at)s, %(by)s, %(why)s, %(drift)s)
ON CONFLICT (flag) DO UPDATE SET paused_at = excluded.paused_at, paused_by = excluded.paused_by,
    paused_why = excluded.paused_why, paused_drift = excluded.paused_drift

-- name: resume
UPDATE strangler.stream SET paused_at = NULL WHERE flag = %(flag)s

-- name: publish
-- Replace the status. No row: there is no such flag.
INSERT INTO strangler.stream (flag, status, published_at)
SELECT key, %(status)s, clock_timestamp() FROM strangler.flag WHERE key = %(flag)s
ON CONFLICT (flag) DO UPDATE SET status = excluded.status, published_at = excluded.published_at RETURNING flag

-- name: status
-- The last published status and its age, both by this clock.
SELECT status, extract(epoch FROM clock_timestamp() - published_at)::float8 AS age_s FROM strangler.stream WHERE flag = %(flag)s AND status IS NOT NULL

-- name: lease
-- Take or renew, unless another worker holds it. One that ends later than any can (this clock was set back) is over.
INSERT INTO strangler.lease (name, worker, until)
VALUES (%(name)s, %(worker)s, clock_timestamp() + make_interval(secs => %(seconds)s))
ON CONFLICT (name) DO UPDATE SET worker = excluded.worker, until = excluded.until
WHERE lease.worker = excluded.worker OR lease.until < clock_timestamp()
    OR lease.until > clock_timestamp() + make_interval(secs => greatest(60, 10 * %(seconds)s))
RETURNING name
