-- Revoke one refresh token; no row when it is unknown or revoked already.
UPDATE refresh_token SET revoked_at = now()
WHERE token_hash = %(token_hash)s AND revoked_at IS NULL
RETURNING id
