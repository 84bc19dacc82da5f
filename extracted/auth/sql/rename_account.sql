-- New name of an active account.
UPDATE account SET name = %(name)s
WHERE id = %(account_id)s AND is_active
RETURNING id, email, password_hash, name, is_active, created_at
