-- What of an intent has been refunded now.
UPDATE intent
SET refunded_amount = %(refunded_amount)s, status = %(status)s, updated_at = now()
WHERE id = %(intent_id)s
