-- name: publish
-- Replace a writer's totals on one basis.
INSERT INTO strangler.evidence_writer (writer, flag, control_version, candidate_version, rules, eligible, mirrored,
    drops, rule_uses, published)
VALUES (%(writer)s, %(flag)s, %(control_version)s, %(candidate_version)s, %(rules)s, %(eligible)s, %(mirrored)s,
    %(drops)s::json, %(rule_uses)s::json, clock_timestamp())
ON CONFLICT (writer, flag, control_version, candidate_version, rules) DO UPDATE SET eligible = excluded.eligible,
    mirrored = excluded.mirrored, drops = excluded.drops, rule_uses = excluded.rule_uses,
    published = excluded.published
RETURNING number

-- name: stratum
-- Replace what a writer said of one stratum.
INSERT INTO strangler.evidence_stratum (number, stratum, document)
VALUES (%(number)s, %(stratum)s, %(document)s::json)
ON CONFLICT (number, stratum) DO UPDATE SET document = excluded.document

-- name: writers
-- Totals of a flag, the one published last first.
SELECT number, control_version, candidate_version, rules, eligible, mirrored, drops::text AS drops,
    rule_uses::text AS rule_uses
FROM strangler.evidence_writer
WHERE flag = %(flag)s AND (%(since)s::timestamptz IS NULL OR published >= %(since)s)
ORDER BY published DESC, number DESC

-- name: strata
-- Strata of some writers.
SELECT number, document::text AS document FROM strangler.evidence_stratum WHERE number = ANY(%(numbers)s)
ORDER BY number

-- name: forget
-- Samples that others take the place of.
DELETE FROM strangler.evidence_sample WHERE id = ANY(%(ids)s)

-- name: keep
-- One sample; the same again is replaced.
INSERT INTO strangler.evidence_sample (id, flag, at, bytes, document)
VALUES (%(id)s, %(flag)s, %(at)s, %(bytes)s, %(document)s::json)
ON CONFLICT (id) DO UPDATE SET flag = excluded.flag, at = excluded.at, bytes = excluded.bytes,
    document = excluded.document

-- name: path
-- One path at which a sample differs.
INSERT INTO strangler.evidence_path (path, sample) VALUES (%(path)s, %(sample)s) ON CONFLICT DO NOTHING

-- name: samples
-- Newest first, of one flag or of all.
SELECT document::text AS document FROM strangler.evidence_sample
WHERE (%(flag)s::text = '' OR flag = %(flag)s) AND (at < %(at)s OR (at = %(at)s AND id > %(after)s))
ORDER BY at DESC, id LIMIT %(limit)s

-- name: samples_of_path
-- Newest first, those that differ at one path.
SELECT document::text AS document FROM strangler.evidence_sample
WHERE id IN (SELECT sample FROM strangler.evidence_path WHERE path = %(path)s)
    AND (%(flag)s::text = '' OR flag = %(flag)s) AND (at < %(at)s OR (at = %(at)s AND id > %(after)s))
ORDER BY at DESC, id LIMIT %(limit)s

-- name: sample
-- The one with this id.
SELECT document::text AS document FROM strangler.evidence_sample
WHERE id = %(id)s AND (%(flag)s::text = '' OR flag = %(flag)s) LIMIT %(limit)s

-- name: prune_alone
-- One that prunes is enough.
SELECT pg_try_advisory_xact_lock(hashtextextended(%(flag)s, 7274823642)) AS mine

-- name: prune_writers
-- Tallies of writers that ended long ago.
DELETE FROM strangler.evidence_writer WHERE flag = %(flag)s AND published < %(oldest)s

-- name: gone_writers
-- Totals of writers of a flag that have ended, the one published last first.
SELECT number, control_version, candidate_version, rules, eligible, mirrored, drops::text AS drops,
    rule_uses::text AS rule_uses, published, floor(extract(epoch FROM published) / 86400) AS day
FROM strangler.evidence_writer WHERE flag = %(flag)s AND published < %(before)s ORDER BY published DESC, number DESC

-- name: forget_writers
-- Writers whose tallies another has now; their strata go with them.
DELETE FROM strangler.evidence_writer WHERE number = ANY(%(numbers)s)

-- name: merged
-- Totals that were put together, as old as the last of them.
INSERT INTO strangler.evidence_writer (writer, flag, control_version, candidate_version, rules, eligible, mirrored,
    drops, rule_uses, published)
VALUES (%(writer)s, %(flag)s, %(control_version)s, %(candidate_version)s, %(rules)s, %(eligible)s, %(mirrored)s,
    %(drops)s::json, %(rule_uses)s::json, %(published)s)
RETURNING number

-- name: prune_samples
-- Samples that are too old or too many or too much, some at a time, the oldest first.
DELETE FROM strangler.evidence_sample WHERE id IN (
    SELECT id FROM (
        SELECT id, at, row_number() OVER newest AS place, sum(bytes) OVER newest AS so_far
        FROM strangler.evidence_sample WHERE flag = %(flag)s
        WINDOW newest AS (ORDER BY at DESC, id ROWS UNBOUNDED PRECEDING)
    ) AS placed
    WHERE at < %(oldest)s OR place > %(samples)s OR so_far > %(sample_bytes)s ORDER BY place DESC LIMIT %(batch)s
)

-- name: flags
-- Flags of which there is evidence.
SELECT flag FROM strangler.evidence_writer UNION SELECT flag FROM strangler.evidence_sample ORDER BY flag

-- name: declared
-- What the file of a flag declares about judging. No row: there is no such flag.
SELECT judging::text AS judging FROM strangler.capability WHERE key = %(flag)s

-- name: rules
-- Rules of a flag that were added by hand.
SELECT id, document::text AS document FROM strangler.compare_rule WHERE flag = %(flag)s ORDER BY id

-- name: rule
-- Write a rule.
INSERT INTO strangler.compare_rule (flag, id, document) VALUES (%(flag)s, %(id)s, %(document)s::json)
ON CONFLICT (flag, id) DO UPDATE SET document = excluded.document
