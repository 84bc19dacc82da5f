-- Account by its normalised address.
SELECT id, email, password_hash, name, is_active, created_at
FROM account
WHERE email = %(email)s
