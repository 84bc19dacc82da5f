-- The outcome is not known and this request ends: the next one with the key may go on at once.
UPDATE idempotency_key SET locked_at = 'epoch'
WHERE customer_id = %(customer_id)s AND key = %(key)s AND response_status IS NULL
