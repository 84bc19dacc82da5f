-- The intent to refund, committed before the card processor is called.
INSERT INTO refund (id, intent_id, amount, reason)
VALUES (%(refund_id)s, %(intent_id)s, %(amount)s, %(reason)s)
