-- New account; a taken address fails on account_email_key.
INSERT INTO account (email, password_hash, name)
VALUES (%(email)s, %(password_hash)s, %(name)s)
RETURNING id, email, password_hash, name, is_active, created_at
