-- name: lock
-- Every change begins here: changes are one after the other.
SELECT revision, default_cluster, audit_count, audit_head, clock_timestamp() AS at FROM strangler.state FOR UPDATE

-- name: entry
-- One audit entry.
INSERT INTO strangler.audit (id, at, actor, verb, subject, reason, before, after, revision, previous_hash, hash)
VALUES (%(id)s, %(at)s, %(actor)s, %(verb)s, %(subject)s, %(reason)s, %(before)s, %(after)s, %(revision)s,
    %(previous_hash)s, %(hash)s)

-- name: close
-- The head of the chain and the revision, last.
UPDATE strangler.state SET revision = %(revision)s, default_cluster = %(default_cluster)s, audit_count = %(count)s,
    audit_head = %(head)s, changed_at = %(at)s

-- name: notify
-- Tell proxies; delivered with the commit.
SELECT pg_notify('strangler_table', %(revision)s::text)

-- name: capability
-- Write what was applied.
INSERT INTO strangler.capability (key, file_name, file_text, manifest, judging, applied_at, applied_by)
VALUES (%(key)s, %(file_name)s, %(file_text)s, %(manifest)s, %(judging)s, %(at)s, %(by)s)
ON CONFLICT (key) DO UPDATE SET file_name = excluded.file_name, file_text = excluded.file_text,
    manifest = excluded.manifest, judging = excluded.judging, applied_at = excluded.applied_at, applied_by = excluded.applied_by

-- name: flag
-- Write a flag, whole.
INSERT INTO strangler.flag (key, stage, weight, salt, owns_data, owner, owner_epoch, hold_id, hold_deadline_at, allow,
    deny, fallback_safe, mirror_sample, replicated_through, revision, changed_at, changed_by, reason)
VALUES (%(key)s, %(stage)s, %(weight)s, %(salt)s, %(owns_data)s, %(owner)s, %(owner_epoch)s, %(hold_id)s,
    %(hold_deadline_at)s, %(allow)s, %(deny)s, %(fallback_safe)s, %(mirror_sample)s, NULL, %(revision)s,
    %(changed_at)s, %(changed_by)s, %(reason)s)
ON CONFLICT (key) DO UPDATE SET stage = excluded.stage, weight = excluded.weight, salt = excluded.salt,
    owns_data = excluded.owns_data, owner = excluded.owner, owner_epoch = excluded.owner_epoch,
    hold_id = excluded.hold_id, hold_deadline_at = excluded.hold_deadline_at, allow = excluded.allow,
    deny = excluded.deny, fallback_safe = excluded.fallback_safe, mirror_sample = excluded.mirror_sample,
    replicated_through = CASE WHEN flag.owner = excluded.owner THEN flag.replicated_through END,
    revision = excluded.revision, changed_at = excluded.changed_at, changed_by = excluded.changed_by,
    reason = excluded.reason

-- name: drop_clusters
-- The clusters that a capability declared before.
DELETE FROM strangler.cluster WHERE capability = %(key)s

-- name: drop_routes
-- The routes that a flag had before.
DELETE FROM strangler.route WHERE flag = %(key)s

-- name: cluster
-- One declared cluster.
INSERT INTO strangler.cluster (capability, name, position, endpoints, policy)
VALUES (%(capability)s, %(name)s, %(position)s, %(endpoints)s, %(policy)s)

-- name: route
-- One declared route.
INSERT INTO strangler.route (name, flag, position, host, path, methods, headers, query, monolith_cluster,
    extracted_cluster, timeouts, access, retries, fallback, policy)
VALUES (%(name)s, %(flag)s, %(position)s, %(host)s, %(path)s, %(methods)s, %(headers)s, %(query)s,
    %(monolith_cluster)s, %(extracted_cluster)s, %(timeouts)s, %(access)s, %(retries)s, %(fallback)s,
    %(policy)s)

-- name: replicated
-- How far the copy is complete: not a switch, no audit entry.
UPDATE strangler.flag SET replicated_through = %(through)s WHERE key = %(key)s RETURNING key
