-- Revoke all refresh tokens of an account.
UPDATE refresh_token SET revoked_at = now()
WHERE account_id = %(account_id)s AND revoked_at IS NULL
