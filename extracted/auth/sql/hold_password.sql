-- The account whose password was verified, unless the password has changed since; held against a change until
-- the end of this transaction, so that a change revokes the token that is inserted next.
SELECT id
FROM account
WHERE id = %(account_id)s AND password_hash = %(verified_hash)s AND is_active
FOR SHARE
