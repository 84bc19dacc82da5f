-- The intent to capture, committed before the card processor is called.
UPDATE intent SET status = 'capturing', updated_at = now() WHERE id = %(intent_id)s AND status = 'created'
