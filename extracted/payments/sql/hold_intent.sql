-- Hold an intent until the end of the transaction.
SELECT id FROM intent WHERE id = %(intent_id)s FOR UPDATE
