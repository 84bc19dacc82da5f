-- name: source
-- Clock, ownership, dirty keys.
SELECT o.owner, o.epoch, o.open, clock_timestamp(), (SELECT count(*) FROM strangler.dirty AS d WHERE d.flag = o.flag)
FROM strangler.ownership AS o WHERE o.flag = %(flag)s

-- name: target
-- Ownership, how far the copy is complete, the stream's mode, its verification and its age, stuck keys.
SELECT o.open, o.epoch, o.replicated_through, a.mode, a.verified, extract(epoch FROM clock_timestamp() - a.verified_at)::float8,
       extract(epoch FROM clock_timestamp() - a.changed_at)::float8,
       (SELECT count(*) FROM strangler.stuck AS s WHERE s.flag = o.flag)
FROM strangler.ownership AS o
LEFT JOIN strangler.applied AS a ON a.flag = o.flag AND a.source = %(source)s
WHERE o.flag = %(flag)s

-- name: long_writers
-- Transactions that have written to a table and stay: the fence would wait for them.
SELECT a.pid, coalesce(a.application_name, ''), coalesce(a.usename::text, ''), coalesce(a.state, ''),
       extract(epoch FROM clock_timestamp() - a.xact_start)::float8, l.relation::regclass::text
FROM pg_locks AS l JOIN pg_stat_activity AS a ON a.pid = l.pid
WHERE l.locktype = 'relation' AND l.database = (SELECT oid FROM pg_database WHERE datname = current_database())
  AND l.relation = ANY (%(tables)s::regclass[]) AND l.granted AND a.pid <> pg_backend_pid()
  AND l.mode IN ('RowExclusiveLock', 'ShareUpdateExclusiveLock', 'ShareLock', 'ShareRowExclusiveLock', 'ExclusiveLock',
                 'AccessExclusiveLock')
  AND a.backend_type <> 'autovacuum worker'
  AND a.xact_start < clock_timestamp() - make_interval(secs => %(seconds)s)

-- name: vacuum_setting
SELECT (SELECT option_value FROM pg_options_to_table(c.reloptions) WHERE option_name = 'autovacuum_enabled')
FROM pg_class AS c WHERE c.oid = %(table)s::regclass

-- name: vacuum_note
-- What the setting was; the first note stays.
INSERT INTO strangler.vacuum_off (flag, tbl, previous) VALUES (%(flag)s, %(tbl)s, %(previous)s)
ON CONFLICT (flag, tbl) DO UPDATE SET at = clock_timestamp()
RETURNING previous

-- name: vacuum_off
ALTER TABLE {table} SET (autovacuum_enabled = false)

-- name: vacuum_set
ALTER TABLE {table} SET (autovacuum_enabled = {previous})

-- name: vacuum_reset
ALTER TABLE {table} RESET (autovacuum_enabled)

-- name: vacuum_noted
-- Notes older than this, in a database where no cutover of the flag is under way.
SELECT tbl, previous FROM strangler.vacuum_off AS v
WHERE flag = %(flag)s AND at < clock_timestamp() - make_interval(secs => %(seconds)s)
  AND NOT EXISTS (SELECT FROM strangler.cutover AS c WHERE c.flag = v.flag AND c.status IN ('holding', 'committed'))
FOR UPDATE SKIP LOCKED

-- name: vacuum_forget
DELETE FROM strangler.vacuum_off WHERE flag = %(flag)s AND tbl = %(tbl)s
