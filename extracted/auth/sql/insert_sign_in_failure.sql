-- One more failure of an address.
INSERT INTO sign_in_failure (email_hash) VALUES (%(email_hash)s)
