-- New password, only while the one that was verified is still the one that is stored.
UPDATE account SET password_hash = %(new_hash)s
WHERE id = %(account_id)s AND password_hash = %(verified_hash)s AND is_active
RETURNING id
