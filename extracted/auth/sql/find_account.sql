-- Account by its id.
SELECT id, email, password_hash, name, is_active, created_at
FROM account
WHERE id = %(account_id)s
