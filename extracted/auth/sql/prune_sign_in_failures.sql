-- Drop some failures that no longer count, whoever's they are; passes over what another session is dropping.
DELETE FROM sign_in_failure
WHERE id IN (
    SELECT id
    FROM sign_in_failure
    WHERE failed_at < clock_timestamp() - make_interval(secs => %(window_s)s)
    ORDER BY failed_at
    LIMIT 20
    FOR UPDATE SKIP LOCKED
)
