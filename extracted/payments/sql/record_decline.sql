-- The card was declined. Only once. The id of a declined charge is not kept: the monolith keeps none either.
UPDATE intent
SET status = 'declined', updated_at = now()
WHERE id = %(intent_id)s AND status = 'capturing'
