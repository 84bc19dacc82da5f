-- name: schema
-- Evidence in one file: totals by writer and basis, strata, samples, rules and who changed them.
CREATE TABLE IF NOT EXISTS writer (
    number            INTEGER PRIMARY KEY,
    writer            TEXT NOT NULL,
    flag              TEXT NOT NULL,
    control_version   TEXT NOT NULL,
    candidate_version TEXT NOT NULL,
    rules             TEXT NOT NULL,
    eligible          INTEGER NOT NULL,
    mirrored          INTEGER NOT NULL,
    drops             TEXT NOT NULL,
    rule_uses         TEXT NOT NULL,
    published         REAL NOT NULL,
    UNIQUE (writer, flag, control_version, candidate_version, rules)
);
CREATE INDEX IF NOT EXISTS writer_flag ON writer (flag, published);
CREATE TABLE IF NOT EXISTS stratum (
    number   INTEGER NOT NULL REFERENCES writer (number) ON DELETE CASCADE,
    stratum  TEXT NOT NULL,
    document TEXT NOT NULL,
    PRIMARY KEY (number, stratum)
);
CREATE TABLE IF NOT EXISTS sample (
    id       TEXT PRIMARY KEY,
    flag     TEXT NOT NULL,
    at       REAL NOT NULL,
    bytes    INTEGER NOT NULL,
    document TEXT NOT NULL
);
CREATE INDEX IF NOT EXISTS sample_flag ON sample (flag, at, id, bytes);
CREATE INDEX IF NOT EXISTS sample_at ON sample (at, id);
CREATE TABLE IF NOT EXISTS sample_path (
    path   TEXT NOT NULL,
    sample TEXT NOT NULL REFERENCES sample (id) ON DELETE CASCADE,
    PRIMARY KEY (path, sample)
) WITHOUT ROWID;
CREATE INDEX IF NOT EXISTS sample_path_sample ON sample_path (sample);
CREATE TABLE IF NOT EXISTS rule (
    flag     TEXT NOT NULL,
    id       TEXT NOT NULL,
    document TEXT NOT NULL,
    PRIMARY KEY (flag, id)
);
CREATE TABLE IF NOT EXISTS change_log (
    number INTEGER PRIMARY KEY,
    at     REAL NOT NULL,
    actor  TEXT NOT NULL,
    verb   TEXT NOT NULL,
    flag   TEXT NOT NULL,
    reason TEXT NOT NULL,
    before TEXT NOT NULL,
    after  TEXT NOT NULL
);

-- name: publish
-- Replace a writer's totals on one basis.
INSERT INTO writer (writer, flag, control_version, candidate_version, rules, eligible, mirrored, drops, rule_uses,
    published)
VALUES (:writer, :flag, :control_version, :candidate_version, :rules, :eligible, :mirrored, :drops, :rule_uses,
    :published)
ON CONFLICT (writer, flag, control_version, candidate_version, rules) DO UPDATE SET eligible = excluded.eligible,
    mirrored = excluded.mirrored, drops = excluded.drops, rule_uses = excluded.rule_uses,
    published = excluded.published

-- name: number
-- The number of a writer's totals on one basis.
SELECT number FROM writer WHERE writer = :writer AND flag = :flag AND control_version = :control_version
    AND candidate_version = :candidate_version AND rules = :rules

-- name: stratum
-- Replace what a writer said of one stratum.
INSERT INTO stratum (number, stratum, document) VALUES (:number, :stratum, :document)
ON CONFLICT (number, stratum) DO UPDATE SET document = excluded.document

-- name: writers
-- Totals of a flag, the one published last first.
SELECT number, control_version, candidate_version, rules, eligible, mirrored, drops, rule_uses FROM writer
WHERE flag = :flag AND published >= :since ORDER BY published DESC, number DESC

-- name: strata
-- Strata of a flag.
SELECT stratum.number, stratum.document FROM stratum JOIN writer USING (number)
WHERE writer.flag = :flag AND writer.published >= :since ORDER BY writer.published DESC, stratum.number DESC

-- name: forget
-- A sample that another takes the place of.
DELETE FROM sample WHERE id = :id

-- name: keep
-- One sample.
INSERT INTO sample (id, flag, at, bytes, document) VALUES (:id, :flag, :at, :bytes, :document)

-- name: path
-- One path at which a sample differs.
INSERT INTO sample_path (path, sample) VALUES (:path, :sample)

-- name: samples
-- Newest first, of one flag or of all.
SELECT document FROM sample
WHERE (:flag = '' OR flag = :flag) AND (at < :at OR (at = :at AND id > :after)) ORDER BY at DESC, id LIMIT :limit

-- name: samples_of_path
-- Newest first, those that differ at one path.
SELECT document FROM sample JOIN sample_path ON sample_path.sample = sample.id AND sample_path.path = :path
WHERE (:flag = '' OR flag = :flag) AND (at < :at OR (at = :at AND id > :after)) ORDER BY at DESC, id LIMIT :limit

-- name: sample
-- The one with this id.
SELECT document FROM sample WHERE id = :id AND (:flag = '' OR flag = :flag) LIMIT :limit

-- name: prune_writers
-- Tallies of writers that ended long ago.
DELETE FROM writer WHERE flag = :flag AND published < :oldest

-- name: gone_writers
-- Totals of writers of a flag that have ended, the one published last first.
SELECT number, control_version, candidate_version, rules, eligible, mirrored, drops, rule_uses, published,
    CAST(published / 86400 AS INTEGER) AS day
FROM writer WHERE flag = :flag AND published < :before ORDER BY published DESC, number DESC

-- name: strata_of
-- Strata of one writer.
SELECT number, document FROM stratum WHERE number = :number

-- name: forget_writer
-- A writer whose tallies another has now; its strata go with it.
DELETE FROM writer WHERE number = :number

-- name: prune_samples
-- Samples that are too old or too many or too much, some at a time, the oldest first.
DELETE FROM sample WHERE id IN (
    SELECT id FROM (
        SELECT id, at, row_number() OVER newest AS place, sum(bytes) OVER newest AS so_far FROM sample
        WHERE flag = :flag WINDOW newest AS (ORDER BY at DESC, id ROWS UNBOUNDED PRECEDING)
    )
    WHERE at < :oldest OR place > :samples OR so_far > :sample_bytes ORDER BY place DESC LIMIT :batch
)

-- name: flags
-- Flags of which there is evidence.
SELECT flag FROM writer UNION SELECT flag FROM sample ORDER BY flag

-- name: rules
-- Rules of a flag.
SELECT id, document FROM rule WHERE flag = :flag ORDER BY id

-- name: rule
-- Write a rule.
INSERT INTO rule (flag, id, document) VALUES (:flag, :id, :document)
ON CONFLICT (flag, id) DO UPDATE SET document = excluded.document

-- name: change_log
-- Who changed something.
INSERT INTO change_log (at, actor, verb, flag, reason, before, after)
VALUES (:at, :actor, :verb, :flag, :reason, :before, :after)
