-- The outcome of a refund. Only once.
UPDATE refund
SET status = %(status)s, processor_refund_id = %(processor_refund_id)s, updated_at = now()
WHERE id = %(refund_id)s AND status = 'pending'
