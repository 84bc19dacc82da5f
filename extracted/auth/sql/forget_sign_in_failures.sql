-- A success clears the failures of its address.
DELETE FROM sign_in_failure WHERE email_hash = %(email_hash)s
