-- One judgement of a sign-in at a time for one address, until the end of the transaction.
SELECT pg_advisory_xact_lock(hashtextextended('auth.sign_in:' || %(email_hash)s, 0))
