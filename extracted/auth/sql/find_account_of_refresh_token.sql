-- The active account of a refresh token that holds now.
SELECT account.id, email, password_hash, name, is_active, account.created_at
FROM refresh_token JOIN account ON account.id = refresh_token.account_id
WHERE token_hash = %(token_hash)s AND revoked_at IS NULL AND expires_at > now() AND is_active
