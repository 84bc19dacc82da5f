-- Intents by their ids, newest first, each repeated for its refunds (oldest first; nulls where there are none).
SELECT intent.id, intent.customer_id, intent.order_ref, intent.amount, intent.currency, intent.status,
       intent.captured_amount, intent.refunded_amount, intent.card_token, intent.description,
       intent.processor_charge_id, intent.created_at,
       refund.id AS refund_id, refund.amount AS refund_amount, refund.status AS refund_status,
       refund.reason AS refund_reason, refund.created_at AS refund_created_at
FROM intent LEFT JOIN refund ON refund.intent_id = intent.id
WHERE intent.id = ANY(%(ids)s)
ORDER BY intent.created_at DESC, intent.id DESC, refund.created_at, refund.id
