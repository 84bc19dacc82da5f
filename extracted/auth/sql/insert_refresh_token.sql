-- New refresh token of an account; only its digest is kept.
INSERT INTO refresh_token (account_id, token_hash, expires_at)
VALUES (%(account_id)s, %(token_hash)s, now() + make_interval(secs => %(lifetime_s)s))
