-- Go on with a key that somebody began: it is ours for a while.
UPDATE idempotency_key SET locked_at = clock_timestamp()
WHERE customer_id = %(customer_id)s AND key = %(key)s AND response_status IS NULL
