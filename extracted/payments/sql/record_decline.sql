-- The card was declined. Only once.
UPDATE intent
SET status = 'declined', processor_charge_id = %(charge_id)s, updated_at = now()
WHERE id = %(intent_id)s AND status = 'capturing'
