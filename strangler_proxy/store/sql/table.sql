-- name: snapshot
-- All that follows in this transaction sees one state of the database.
SET TRANSACTION ISOLATION LEVEL REPEATABLE READ, READ ONLY

-- name: state
-- Revision, default cluster, and the head of the audit chain.
SELECT revision, default_cluster, audit_count, audit_head FROM strangler.state

-- name: revision
-- The current revision alone.
SELECT revision FROM strangler.state

-- name: flags
-- All flags.
SELECT key, stage, weight, salt, owns_data, owner, owner_epoch, hold_id, hold_deadline_at, allow, deny, fallback_safe,
    mirror_sample, replicated_through, changed_at, changed_by, reason
FROM strangler.flag ORDER BY key

-- name: flag
-- One flag.
SELECT key, stage, weight, salt, owns_data, owner, owner_epoch, hold_id, hold_deadline_at, allow, deny, fallback_safe,
    mirror_sample, replicated_through, changed_at, changed_by, reason
FROM strangler.flag WHERE key = %(key)s

-- name: routes
-- All routes, in declared order.
SELECT name, flag, host, path, methods, headers, query, monolith_cluster, extracted_cluster, timeouts, access, retries,
    fallback, policy
FROM strangler.route ORDER BY flag, position

-- name: clusters
-- All clusters by the capability that declares them.
SELECT capability, name, endpoints, policy FROM strangler.cluster ORDER BY capability, position

-- name: capabilities
-- What was applied of each capability beyond flag, routes and clusters.
SELECT key, file_name, file_text, manifest, judging FROM strangler.capability ORDER BY key

-- name: manifest
-- The ownership manifest of one flag.
SELECT manifest FROM strangler.capability WHERE key = %(key)s

-- name: judging
-- What one flag declares about judging.
SELECT judging FROM strangler.capability WHERE key = %(key)s

-- name: listen
-- Hear of every new revision.
LISTEN strangler_table

-- name: alive
-- Does the server answer?
SELECT 1

-- name: beat
-- Store a proxy's report and answer the clock; reports older than an hour go.
WITH old AS (
    DELETE FROM strangler.proxy
    WHERE seen_at < clock_timestamp() - interval '1 hour' AND proxy_id <> %(proxy_id)s
)
INSERT INTO strangler.proxy
    (proxy_id, revision, unsafe_in_flight, holding, refused_table, upstreams, address, started_at, seen_at)
VALUES (%(proxy_id)s, %(revision)s, %(unsafe_in_flight)s, %(holding)s, %(refused_table)s, %(upstreams)s, %(address)s,
    coalesce(%(started_at)s, clock_timestamp()), clock_timestamp())
ON CONFLICT (proxy_id) DO UPDATE SET revision = excluded.revision, unsafe_in_flight = excluded.unsafe_in_flight,
    holding = excluded.holding, refused_table = excluded.refused_table, upstreams = excluded.upstreams,
    address = excluded.address,
    started_at = coalesce(%(started_at)s, proxy.started_at), seen_at = excluded.seen_at
RETURNING seen_at

-- name: pulse
-- What every proxy has to know each second.
SELECT (SELECT revision FROM strangler.state) AS revision, flag.key, flag.replicated_through
FROM (SELECT) AS one LEFT JOIN strangler.flag ON flag.replicated_through IS NOT NULL

-- name: leave
-- A proxy drains.
DELETE FROM strangler.proxy WHERE proxy_id = %(proxy_id)s

-- name: proxies
-- Reports that are younger than so many seconds.
SELECT proxy_id, revision, unsafe_in_flight, holding, refused_table, upstreams, address, started_at, seen_at
FROM strangler.proxy WHERE seen_at > clock_timestamp() - make_interval(secs => %(seconds)s) ORDER BY proxy_id
