-- A key that nobody has used; no row when another request was faster (it is waited for).
INSERT INTO idempotency_key (customer_id, key, fingerprint)
VALUES (%(customer_id)s, %(key)s, %(fingerprint)s)
ON CONFLICT (customer_id, key) DO NOTHING
RETURNING key
