-- The final answer of a key. The first one stays.
UPDATE idempotency_key
SET response_status = coalesce(response_status, %(status)s),
    response_body = CASE WHEN response_status IS NULL THEN %(body)s ELSE response_body END
WHERE customer_id = %(customer_id)s AND key = %(key)s
RETURNING response_status, response_body
