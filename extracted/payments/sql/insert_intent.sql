-- New intent.
INSERT INTO intent (customer_id, order_ref, amount, currency, card_token, description)
VALUES (%(customer_id)s, %(order_ref)s, %(amount)s, %(currency)s, %(card_token)s, %(description)s)
RETURNING id
