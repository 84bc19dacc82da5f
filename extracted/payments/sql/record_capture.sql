-- The outcome of a capture. Only once.
UPDATE intent
SET status = 'captured', captured_amount = amount, processor_charge_id = %(charge_id)s, updated_at = now()
WHERE id = %(intent_id)s AND status = 'capturing'
