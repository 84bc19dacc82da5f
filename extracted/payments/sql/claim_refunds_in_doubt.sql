-- Claim refunds whose outcome has been missing for too long. A fenced write: only the owner goes on with them.
UPDATE refund SET updated_at = clock_timestamp()
WHERE id IN (
    SELECT id
    FROM refund
    WHERE status = 'pending' AND updated_at < clock_timestamp() - make_interval(secs => %(older_s)s)
    ORDER BY updated_at
    LIMIT %(limit)s
    FOR UPDATE SKIP LOCKED
)
RETURNING id, intent_id
