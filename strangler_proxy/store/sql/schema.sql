-- name: lock
-- One migrating process at a time.
SELECT pg_advisory_lock(7274823641)

-- name: unlock
SELECT pg_advisory_unlock(7274823641)

-- name: prepare
-- The schema and the list of migrations that were applied.
DO $$
BEGIN
    IF to_regclass('strangler.migration') IS NULL THEN
        CREATE SCHEMA IF NOT EXISTS strangler;
        CREATE TABLE strangler.migration (
            number     integer PRIMARY KEY,
            name       text NOT NULL,
            applied_at timestamptz NOT NULL DEFAULT clock_timestamp()
        );
    END IF;
END
$$

-- name: known
-- Numbers of applied migrations.
SELECT number FROM strangler.migration

-- name: record
-- Note a migration as applied, in its own transaction.
INSERT INTO strangler.migration (number, name) VALUES (%(number)s, %(name)s)
