-- An idempotency key, held until the end of the transaction.
SELECT fingerprint, response_status, response_body,
       locked_at > clock_timestamp() - make_interval(secs => %(lock_s)s) AS locked
FROM idempotency_key
WHERE customer_id = %(customer_id)s AND key = %(key)s
FOR UPDATE
